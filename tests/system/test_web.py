#!/usr/bin/env python3
"""Detection as a web service: curl registers, receives, asks and deregisters at webd of a local cluster (tools/cluster.py).

usage: test_web.py BUILD_DIR [TEST ...]
"""
import json
import os
import signal
import sys
import threading
import time
import unittest

import msgpack
import zmq

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import cluster as clusters  # noqa: E402
import suite  # noqa: E402

BUILD = sys.argv.pop(1) if len(sys.argv) > 1 else os.path.join(TREE, "build")
BASE = "dst-web"
SERVICES = ("busd", "metad", "fdd", "gossipd", "webd")
REGISTRATIONS = 6
KEPT = 16
CONFIG = ("[metad]\nvoters = n1 n2 n3\n[fdd]\ninterval_ms = 250\n"
          f"[webd]\nregistrations = {REGISTRATIONS}\nevents = {KEPT}\nkeepalive_ms = 500\npatience_ms = 2000\n")
PORT = 7420
HERE = f"http://127.0.0.1:{PORT}/v1/detection"
TOKEN = "a-token-of-this-test-0123456789"
# Asks for a stream and takes nothing of it until the other end hangs up.
SLOW_READER = """
import select, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
s.connect(("127.0.0.1", %d))
s.sendall(("GET %%s HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n" %% sys.argv[1]).encode())
p = select.poll()
p.register(s, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
print("cut" if p.poll(120000) else "never cut", flush=True)
""" % PORT
# Asks a thousand times and takes no answer.
DEAF = """
import socket
s = socket.create_connection(("127.0.0.1", %d))
s.settimeout(60)
try:
    for _ in range(100000):
        s.sendall(b"GET /v1/detection/levels HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n" * 20)
    print("never cut")
except TimeoutError:
    print("waits for ever")
except OSError:
    print("cut")
""" % PORT
# One byte at a time, for ever.
TRICKLE = """
import itertools, socket, time
s = socket.create_connection(("127.0.0.1", %d))
s.sendall(b"GET /v1/detection/levels HTTP/1.1\\r\\nX: ")
try:
    for _ in range(1200):
        s.sendall(b"x")
        time.sleep(0.1)
    print("never cut")
except OSError:
    print("cut")
""" % PORT


def wait_until(what, condition, seconds=60.0):
    return clusters.wait_for(what, condition, seconds, 0.1, AssertionError)


class Answer:
    def __init__(self, text):
        head, _, self.text = text.partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    @property
    def json(self):
        return json.loads(self.text)


class Stream:
    """curl -N on the events of a registration; collects (id, event, data)."""

    def __init__(self, cluster, registration, *options):
        self.events, self.comments, self.status = [], 0, None
        self.process = cluster.popen("n1", ["curl", "-sSN", "-i", *options, f"{HERE}/registrations/{registration}/events"], stdout=-1,
                                     start_new_session=True)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        event = {}
        for line in self.process.stdout:
            key, _, value = line.decode().rstrip("\r\n").partition(": ")
            if line.startswith(b"HTTP/"):
                self.status = int(line.split()[1])
            elif key == "" and value:
                self.comments += 1
            elif key in ("id", "event", "data"):
                event[key] = value
            elif line == b"\n" and "event" in event:
                self.events.append((int(event.get("id", 0)), event["event"], json.loads(event["data"])))
                event = {}

    def wait(self, kind, condition=lambda data: True):
        """The first such event."""
        return wait_until(f"an event {kind}; there are {self.events[-5:]}",
                          lambda: next((data for _, what, data in list(self.events) if what == kind and condition(data)), None))

    def ends(self):
        """Exit code of curl, when the stream ends by itself."""
        code = self.process.wait(60)
        self.thread.join(10)
        return code

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # curl is a child of the command that went into the node
            self.process.wait()
        self.thread.join(10)
        self.process.stdout.close()


class WebCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory, cls.cluster = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.cluster.up(BUILD, nodes=3, config_extra=CONFIG, services=SERVICES)
        wait_until("n1 to hear of the others", lambda: cls.states() == {"n2": "alive", "n3": "alive"})

    # -- asking --

    @classmethod
    def curl(cls, *words, node="n1", url=None, path=""):
        done = cls.cluster.run(node, ["curl", "-sS", "-i", "--max-time", "30", *words, url or HERE + path], capture_output=True)
        return Answer(done.stdout.decode()) if done.stdout else None

    def persist(self, *words, **where):
        """The same, asked again as long as webd says that fdd is to be waited for."""
        return wait_until("another answer than 503", lambda: next(
            (answer for answer in [self.curl(*words, **where)] if answer and answer.status != 503), None))

    @classmethod
    def states(cls):
        answer = cls.curl(path="/levels")
        return {row["name"]: row["state"] for row in answer.json["levels"]} if answer and answer.status == 200 else {}

    def register(self, **wish):
        answer = self.persist("--json", json.dumps(wish), path="/registrations")
        self.assertEqual(answer.status, 201, answer.text)
        self.assertEqual(answer.headers["location"], f"/v1/detection/registrations/{answer.json['id']}")
        self.addCleanup(self.curl, "-X", "DELETE", path=f"/registrations/{answer.json['id']}")
        return answer.json["id"]

    def stream(self, registration, *options):
        stream = Stream(self.cluster, registration, *options)
        self.addCleanup(stream.close)
        return stream

    def sv(self, node, command, daemon):
        self.cluster.run(node, ["sv", "-w", "60", command, f"/run/service/{daemon}"], check=True, capture_output=True)

    @classmethod
    def ask(cls, daemon, name):
        """A request to a daemon of n1, over its socket."""
        with zmq.Context.instance().socket(zmq.DEALER) as caller:
            caller.linger = 0
            caller.connect(f"ipc:///proc/{cls.cluster.pid('n1')}/root/run/depsys/{daemon}.rpc")
            caller.send_multipart([msgpack.packb({"n": name, "i": 1, "t": 5000}), b"\x80"])
            return msgpack.unpackb(caller.recv_multipart()[1]) if caller.poll(10000) else None

    def counter(self, name):
        return {stat["name"]: stat["value"] for stat in self.ask("webd", "common.stats")["stats"]}[name]

    def test_05_slow_clients_begin(self):
        """One takes nothing of its stream, one no answers, one sends a byte at a time; what became of them is looked at in the end."""
        type(self).slow = self.persist("--json", '{"period_ms": 100, "lease_ms": 3600000}', path="/registrations").json
        type(self).slow_clients = [
            self.cluster.popen("n1", ["/usr/bin/python3", "-c", program, self.slow["events"]], stdout=-1, text=True)
            for program in (SLOW_READER, DEAF, TRICKLE)]

    def test_10_register_receive_ask_deregister(self):
        one = self.register(node="n3", **{"raise": [0.5]})
        stream = self.stream(one)
        self.sv("n3", "down", "fdd")
        level = stream.wait("level", lambda data: data["raised"])
        self.assertEqual((level["name"], level["kind"], level["threshold"], level["heard"]), ("n3", "node", 0.5, True))
        self.assertGreaterEqual(level["level"], 0.5)
        self.assertGreaterEqual(level["elapsed_ms"], 2.9 * level["predicted_ms"])
        wait_until("the level to be told", lambda: self.persist(path="/levels?node=n3").json["levels"][0]["level"] >= 0.5)
        self.sv("n3", "up", "fdd")
        stream.wait("level", lambda data: not data["raised"])
        self.assertEqual(self.curl(path=f"/registrations/{one}").json["node"], "n3")
        self.assertIn(one, [row["id"] for row in self.curl(path="/registrations").json["registrations"]])
        answer = self.curl("-X", "DELETE", path=f"/registrations/{one}")
        self.assertEqual((answer.status, answer.text), (204, ""))
        self.assertEqual(stream.ends(), 0)
        self.assertEqual(stream.events[-1][1:], ("end", {"reason": "deregistered"}))
        self.assertEqual(self.curl(path=f"/registrations/{one}").status, 404)
        numbers = [number for number, _, _ in stream.events]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))

    def test_20_two_subscribers_get_their_own_thresholds(self):
        low, high = (self.stream(self.register(node="n3", **{"raise": [level]})) for level in (0.34, 0.8))
        self.sv("n3", "down", "fdd")
        for stream, threshold in ((low, 0.34), (high, 0.8)):
            level = stream.wait("level", lambda data: data["raised"])
            self.assertEqual(level["threshold"], threshold)
            self.assertGreaterEqual(level["level"], threshold)
        self.sv("n3", "up", "fdd")
        for stream in (low, high):
            stream.wait("level", lambda data: not data["raised"])
        self.assertEqual({data["threshold"] for _, kind, data in low.events if kind == "level"}, {0.34})
        self.assertEqual({data["threshold"] for _, kind, data in high.events if kind == "level"}, {0.8})

    def test_30_when_fdd_is_killed_the_stream_tells_of_the_gap_and_goes_on(self):
        one = self.register(period_ms=250)
        stream = self.stream(one)
        stream.wait("value")
        self.cluster.run("n1", ["pkill", "-9", "-x", "fdd"], check=True)
        stream.wait("gap", lambda data: "missed" not in data)
        stream.wait("resumed")
        at = [kind for _, kind, _ in stream.events].index("resumed")
        wait_until("values after it", lambda: {data["name"] for _, kind, data in stream.events[at:] if kind == "value"} == {"n2", "n3"})
        self.assertEqual(self.curl(path=f"/registrations/{one}").json["state"], "standing")
        self.assertIsNone(stream.process.poll())

    def test_35_without_fdd_it_says_when_to_try_again(self):
        self.sv("n1", "down", "fdd")
        try:
            wait_until("fdd to be gone", lambda: self.curl(path="/levels").status == 503)
            for answer in (self.curl(path="/levels"), self.curl("--json", '{"raise": [0.5]}', path="/registrations")):
                self.assertEqual((answer.status, answer.json["where"]), (503, "fdd"))
                self.assertIn("retry-after", answer.headers)
            self.assertEqual(self.curl(path="/members").status, 200)
        finally:
            self.sv("n1", "up", "fdd")
        wait_until("n1 to hear of the others", lambda: self.states() == {"n2": "alive", "n3": "alive"})

    def test_36_while_fdd_hangs_nobody_waits_for_ever_and_nothing_is_forgotten(self):
        """What fdd has not heard of by then is ended when it wakes: test_91 looks."""
        one = self.register(**{"raise": [0.5]})
        wish = ("--json", '{"raise": [0.5], "application": "impatient"}', f"{HERE}/registrations")
        self.cluster.run("n1", ["pkill", "-STOP", "-x", "fdd"], check=True)
        try:
            first = self.cluster.popen("n1", ["curl", "-sS", "-i", *wish], stdout=-1)
            time.sleep(0.5)
            second = self.curl(*wish[:2], path="/registrations")
            self.assertEqual((second.status, second.json["where"]), (503, "fdd"))
            self.assertIn(Answer(first.communicate(timeout=60)[0].decode()).status, (409, 503))
            self.assertEqual(self.curl("-X", "DELETE", path=f"/registrations/{one}").status, 204)
        finally:
            self.cluster.run("n1", ["pkill", "-CONT", "-x", "fdd"], check=True)
        wait_until("n1 to hear of the others", lambda: self.states() == {"n2": "alive", "n3": "alive"})

    def test_40_a_lease_runs_out_unless_it_is_renewed(self):
        short, long = self.register(**{"raise": [0.5], "lease_ms": 1000}), self.register(**{"raise": [0.5], "lease_ms": 3600000})
        stream = self.stream(long)
        before = self.curl(path=f"/registrations/{long}").json["lease_left_ms"]
        time.sleep(1.2)
        wait_until("the short one to be gone", lambda: self.curl(path=f"/registrations/{short}").status == 404)
        for method in ("POST", "PUT"):
            left = self.curl(path=f"/registrations/{long}").json["lease_left_ms"]
            self.assertLess(left, before)
            answer = self.curl("-X", method, path=f"/registrations/{long}/renew")
            self.assertGreater(answer.json["lease_left_ms"], left)
            time.sleep(0.2)
        self.assertIsNone(stream.process.poll())

    def test_41_a_stream_hears_that_its_lease_has_run_out(self):
        stream = self.stream(self.register(**{"raise": [0.5], "lease_ms": 2000}))
        wait_until("an answer", lambda: stream.status is not None)
        if stream.status == 200:  # this machine may have needed two seconds for that
            self.assertEqual(stream.wait("end"), {"reason": "expired"})
        stream.ends()

    def test_45_a_stream_goes_on_where_it_broke_off(self):
        one = self.register(period_ms=100)
        first = self.stream(one)
        wait_until("some events", lambda: len(first.events) >= 5)
        first.close()
        last = first.events[-1][0]
        second = self.stream(one, "-H", f"Last-Event-ID: {last}")
        wait_until("events", lambda: len(second.events) >= 2)
        kind, number = second.events[0][1], second.events[0][0]
        self.assertTrue(number == last + 1 or kind == "gap", second.events[:2])
        wait_until("more than are kept", lambda: self.curl(path=f"/registrations/{one}").json["last_event_id"] > KEPT + 5)
        late = self.stream(one, "-H", "Last-Event-ID: 1")
        missed = late.wait("gap")["missed"]
        wait_until("events behind it", lambda: len(late.events) >= 2)
        self.assertEqual(late.events[1][0], 1 + missed + 1)
        self.assertEqual(self.curl("-H", "Last-Event-ID: 99999999", path=f"/registrations/{one}/events").status, 400)
        self.assertEqual(self.curl("-H", "Last-Event-ID: x", path=f"/registrations/{one}/events").status, 400)

    def test_46_a_quiet_stream_is_kept_alive(self):
        stream = self.stream(self.register(**{"raise": [0.99]}))
        wait_until("two comments", lambda: stream.comments >= 2)

    def test_50_the_same_application_replaces_its_former_registration(self):
        former = self.stream(self.register(application="app", **{"raise": [0.5]}))
        wait_until("the stream", lambda: former.status == 200)
        self.register(application="app", **{"raise": [0.6]})
        self.assertEqual(former.wait("end"), {"reason": "replaced"})
        self.assertEqual(former.ends(), 0)

    def test_51_there_are_no_more_registrations_than_the_limit(self):
        def some():
            return self.persist("--json", '{"raise": [0.5], "lease_ms": 600000}', path="/registrations")
        made = [some() for _ in range(REGISTRATIONS + 1)]
        for answer in made:
            if answer.status == 201:
                self.addCleanup(self.curl, "-X", "DELETE", path=f"/registrations/{answer.json['id']}")
        self.assertEqual({answer.status for answer in made}, {201, 429})
        self.assertEqual((made[-1].json["where"], "retry-after" in made[-1].headers), ("registrations", True))

    def test_55_members_with_their_verdicts(self):
        def all_alive():
            members = self.curl(path="/members").json["members"]
            return {member["node"]: member["state"] for member in members} == dict.fromkeys(("n1", "n2", "n3"), "alive")
        wait_until("three that are alive", all_alive)

    def test_60_bad_requests_are_told_what_is_wrong(self):
        def body(text, media="application/json"):
            return ("-H", f"Content-Type: {media}", "--data-binary", text)
        for path, words, status, where in (
                ("/levels?node=n9", (), 404, "node"), ("/levels?ve=none", (), 404, "ve"), ("/levels?nonsense=1", (), 400, "nonsense"),
                ("/levels?node=n2&ve=x", (), 400, "ve"), ("/nothing", (), 404, "path"), ("/levels/", (), 404, "path"),
                ("/registrations/0123456789abcdef", (), 404, "id"), ("/registrations/0123456789abcdef/events", (), 404, "id"),
                ("/registrations/0123456789abcdef", ("-X", "DELETE"), 404, "id"), ("/registrations/0123456789abcdef/renew", ("-X", "POST"), 404, "id"),
                ("/levels", ("-X", "DELETE"), 405, "method"), ("/registrations", ("-X", "PATCH"), 405, "method"),
                ("/registrations", body("{"), 400, "body"), ("/registrations", body("{}"), 400, "raise"),
                ("/registrations", body('{"raise": [2]}'), 400, "raise"), ("/registrations", body('{"raise": [0.5], "clear": 0.7}'), 400, "clear"),
                ("/registrations", body('{"raise": [0.5], "node": "n9"}'), 400, "node"),
                ("/registrations", body('{"raise": [0.5], "service": "n2"}'), 400, "service"),
                ("/registrations", body('{"threshold": 0.5}'), 400, "threshold"), ("/registrations", ("-X", "POST"), 400, "body"),
                ("/registrations", body('{"raise": [0.5]}', "text/plain"), 415, "Content-Type"),
                ("/registrations", body(" " * 4097), 413, "body"), ("/levels", ("-X", "GET", *body("{}")), 413, "body"),
                ("/registrations", (*body('{"raise": [0.5]}'), "-H", "Transfer-Encoding: chunked"), 411, "Content-Length"),
                ("/levels", ("-H", "Host: evil.example"), 421, "Host"), ("/levels", ("-H", f"Host: evil.example:{PORT}"), 421, "Host"),
                ("/levels", ("-H", "Origin: http://evil.example"), 403, "Origin")):
            with self.subTest(path=path, words=words):
                answer = self.persist(*words, path=path)
                self.assertEqual((answer.status, answer.json["where"]), (status, where), answer.text)
                self.assertTrue(answer.json["error"])
                self.assertNotIn("access-control-allow-origin", answer.headers)
                if status == 405:
                    self.assertIn("GET", answer.headers["allow"])
        self.assertEqual(self.curl("-H", "X: " + "y" * 20000, path="/levels").status, 431)
        self.assertEqual(self.persist("-I", path="/levels").status, 200)
        self.assertEqual(self.persist(url=f"http://localhost:{PORT}/v1/detection/levels").status, 200)

    def test_70_other_machines_need_the_token(self):
        self.assertIsNone(self.curl(node="n2", url=f"http://{self.cluster.address('n1')}:{PORT}/v1/detection/levels"))
        etc = os.path.join(self.cluster.node_directory("n2"), "etc")
        extra = os.path.join(etc, "depsys.conf.d", "60-web.conf")
        clusters.write(extra, "[webd]\nlisten = 0.0.0.0\n")
        done = self.cluster.run("n2", ["webd", "--check"], capture_output=True, text=True)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        self.assertIn("listen = 0.0.0.0 is not loopback: token must name a file", done.stderr)
        clusters.write(extra, "[webd]\nlisten = 0.0.0.0\ntoken = /etc/depsys/web.token\n")
        clusters.write(os.path.join(etc, "web.token"), TOKEN + "\n", 0o644)
        done = self.cluster.run("n2", ["webd"], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
        self.assertIn("web.token: mode 0644", done.stderr)
        os.chmod(os.path.join(etc, "web.token"), 0o600)
        self.sv("n2", "restart", "webd")
        url = f"http://{self.cluster.address('n2')}:{PORT}/v1/detection/levels"
        answer = wait_until("webd of n2", lambda: self.curl(url=url))
        self.assertEqual((answer.status, answer.headers.get("www-authenticate"), answer.json["where"]), (401, "Bearer", "Authorization"))
        self.assertEqual(self.curl("-H", f"Authorization: Bearer {TOKEN}x", url=url).status, 401)
        self.assertEqual(self.persist("-H", f"Authorization: Bearer {TOKEN}", url=url).status, 200)

    def test_90_slow_clients_were_cut_and_nobody_else_noticed(self):
        for client in self.slow_clients:
            self.assertEqual(client.communicate(timeout=130)[0].strip(), "cut")
        wait_until("them to be counted", lambda: self.counter("http_cut") >= len(self.slow_clients))
        wait_until("no stream", lambda: self.curl(path=f"/registrations/{self.slow['id']}").json["streams"] == 0)
        self.assertEqual(self.curl("-X", "DELETE", path=f"/registrations/{self.slow['id']}").status, 204)

    def test_91_nothing_is_left_at_fdd(self):
        wait_until("gossipd to be the only one that is registered", lambda: self.ask("fdd", "fdd.ls")["registrations"] == 1)
        wait_until("no stream", lambda: (self.counter("streams"), self.counter("registrations")) == (0, 0))

    def test_95_when_webd_ends_its_streams_are_told(self):
        one = self.register(**{"raise": [0.5]})
        stream = self.stream(one)
        wait_until("the stream", lambda: stream.status == 200)
        self.sv("n1", "restart", "webd")
        self.assertEqual(stream.wait("end"), {"reason": "stopped"})
        self.assertEqual(stream.ends(), 0)
        wait_until("webd to be back", lambda: self.curl(path="/levels"))
        self.assertEqual(self.curl(path=f"/registrations/{one}").status, 404)


if __name__ == "__main__":
    suite.main(sys.argv[1:])
