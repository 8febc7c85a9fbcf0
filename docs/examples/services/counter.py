#!/usr/bin/python3
"""counter.py DIRECTORY: an HTTP server with state in all the places where a service may have it. Serves port 8000.

GET /count adds one: to a number in memory, to a file that is written anew each time, and with a line to a log that is open all the
time and to another one that has no name any more. GET /state tells all four, as they are at one moment.
"""
import http.server
import json
import os
import sys
import tempfile
import threading


class Counter:
    def __init__(self, directory):
        self.lock = threading.Lock()
        self.number = 0
        self.path = os.path.join(directory, "number")
        self.log = open(os.path.join(directory, "log"), "ab+", buffering=0)
        self.nameless = tempfile.TemporaryFile(dir=directory, buffering=0)  # unlinked while it is open

    def count(self):
        with self.lock:
            self.number += 1
            line = b"%d\n" % self.number
            self.log.write(line)
            self.nameless.write(line)
            with open(self.path + ".new", "wb") as file:
                file.write(line)
            os.replace(self.path + ".new", self.path)
            return {"number": self.number}

    def state(self):
        with self.lock:
            return {"number": self.number, "file": self.read(self.path), "log": self.lines(self.log), "nameless": self.lines(self.nameless)}

    @staticmethod
    def read(path):
        if not os.path.exists(path):
            return 0
        with open(path, "rb") as file:
            return int(file.read())

    @staticmethod
    def lines(file):
        """The number of lines, if they are those of 1, 2, 3 and so on; else -1."""
        file.seek(0)
        found = [int(line) for line in file.read().split()]
        return len(found) if found == list(range(1, len(found) + 1)) else -1


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        acts = {"/count": counter.count, "/state": counter.state}
        if self.path not in acts:
            return self.send_error(404)
        body = json.dumps(acts[self.path]()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


counter = Counter(sys.argv[1])
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
