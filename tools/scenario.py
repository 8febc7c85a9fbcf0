"""What the demo and the system tests on whole clusters share: a redis counter as a VE, a client that counts with it, and the
eyes on both: depctl's answers, the nodes' events, the client's record.
"""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time

from cluster import wait_for

TREE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NODES = ("n1", "n2", "n3")
VE = "counter"
ADDRESS = "10.77.0.100"
READY_S = 120.0
CONFIGURATION = """[metad]
voters = n1 n2 n3
[fdd]
interval_ms = 250
"""


class Failed(Exception):
    """What is not as it should be."""


# ---- talking to nodes ----


def depctl(cluster, node, *words, check=True):
    """The decoded answer of depctl on a node; None when it failed and check is off. What must not fail has more time than people."""
    patience = ("--timeout", "60s") if check and "--timeout" not in words else ()
    done = cluster.run(node, ["depctl", "-o", "json", *patience, *words], capture_output=True, text=True)
    if done.returncode != 0:
        if check:
            raise Failed(f"depctl {' '.join(words)} on {node}: {done.stderr.strip()}")
        return None
    return json.loads(done.stdout)


class Events:
    """The events of one node, gathered by a thread as depctl prints them."""

    def __init__(self, cluster, node):
        self.node = node
        self.list = []
        self.process = cluster.popen(node, ["depctl", "-o", "jsonl", "events", "--follow", "--since", "all"],
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.list.append(json.loads(line))

    def find(self, topic, since_ns=0, **body):
        """The first event of that topic and with those fields, at or after a wall clock time."""
        for event in list(self.list):
            if event["topic"] == topic and event["time_ns"] >= since_ns and \
                    all(event["body"].get(key) == value for key, value in body.items()):
                return event
        return None

    def all(self, topic, **body):
        return [e for e in list(self.list) if e["topic"] == topic and
                all(e["body"].get(key) == value for key, value in body.items())]

    def close(self):
        self.process.kill()
        self.process.wait()


def first(events, topic, since_ns, **body):
    """The earliest on any node."""
    found = [event for event in (e.find(topic, since_ns, **body) for e in events) if event]
    return min(found, key=lambda event: event["time_ns"]) if found else None


def wait_until(what, condition, seconds):
    return wait_for(what, condition, seconds, 0.05, Failed)


# ---- the client's record ----


class Record:
    """What demo-client has written so far; read on from where it was."""

    def __init__(self, path):
        self.path = path
        self._read, self._lines, self._losses = 0, [], []

    def _read_on(self):
        with open(self.path, "rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")
        self._read += len(whole[0]) + len(whole[1])
        for line in whole[0].decode("ascii").splitlines():
            at, _, what = line.partition(" ")
            if what.startswith("lost "):
                self._losses.append((int(at), what))
            else:
                self._lines.append((int(at), int(what)))

    def lines(self):
        """(monotonic ns, value) of every acknowledged increment, in order."""
        self._read_on()
        return self._lines

    def losses(self):
        """(monotonic ns, why) of every connection that broke or was given up."""
        self._read_on()
        return self._losses


class Pace(threading.Thread):
    """The time that this machine gives to its processes: a loaded one may stop them all for seconds, and that is not counted."""

    TICK_S = 0.02
    LATE_S = 0.1

    def __init__(self):
        super().__init__(daemon=True)
        self.stops = []  # (begin, end), monotonic seconds
        self.start()

    def run(self):
        while True:
            begin = time.monotonic()
            time.sleep(self.TICK_S)
            end = time.monotonic()
            if end - begin > self.LATE_S:
                self.stops.append((begin, end))

    def ran(self, begin, end):
        """Seconds between two moments but for those at which everything stood."""
        return end - begin - sum(max(0.0, min(end, b) - max(begin, a)) for a, b in list(self.stops))


# ---- acts ----


def is_ready(cluster, node):
    """Whether all daemons of a node answer, and it knows all members as alive and a coordinator."""
    status = depctl(cluster, node, "status", check=False)
    members = depctl(cluster, node, "node", "ls", check=False)
    return status and status["all_up"] and members and all(m["state"] == "alive" for m in members) and \
        any(m["coordinator"] for m in members)


def wait_ready(cluster, nodes=NODES):
    for node in nodes:
        wait_until(f"{node} ready", lambda n=node: is_ready(cluster, n), READY_S)


def make_bundle(directory):
    path = os.path.join(directory, "bundle")
    command = [os.path.join(TREE, "tools", "bundle"), "--out", path, "--program", "/usr/bin/redis-server", "--user", "redis",
               "--dir", "/data:redis", "--", "--dir", "/data", "--save", "", "--protected-mode", "no"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"tools/bundle: {done.stderr.strip()}")
    return path


def start_service(cluster, bundle, interval_s):
    depctl(cluster, "n1", "ve", "run", VE, bundle, "--address", f"{ADDRESS}/24", "--node", "n1",
           "--interval", f"{interval_s:g}s", "--copies", "1")


def start_client(cluster, path, *options):
    """A process that counts and records; options: of tools/demo-client."""
    with open(f"{path}.errors", "ab") as errors:  # not ours: the client of a kept cluster outlives us
        return cluster.popen("client", [os.path.join(TREE, "tools", "demo-client"), *options, ADDRESS, "6379", path],
                             stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)


def keep_logs(directory, name):
    """Copies the logs of a failed run away from its directory; says where to."""
    kept = os.path.join(tempfile.gettempdir(), name)
    shutil.rmtree(kept, ignore_errors=True)
    nodes = os.path.join(directory, "state", "nodes")
    for node in os.listdir(nodes) if os.path.isdir(nodes) else []:
        shutil.copytree(os.path.join(nodes, node, "log"), os.path.join(kept, node), dirs_exist_ok=True)
    return kept
