#!/usr/bin/env python3
"""test_fdd.py FDD: real fdd processes, one network namespace each, joined by a bridge in a namespace of its own.

Levels, losses and counters are asked for over fdd.rpc; what was told to people is read from the log. Needs root.

A machine with much to do lets a process wait, and then its peers are right to miss it. So nothing here claims that nobody was
suspected: what is claimed is that nobody was who ran all the time, and each fdd tells itself when it did not (Cluster.blamed).
"""
import ctypes
import ctypes.util
import glob
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import msgpack
import zmq

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402
import suite  # noqa: E402

FDD = sys.argv[1] if len(sys.argv) > 1 else "build/fdd/fdd"
REPLAY = os.path.join(os.path.dirname(FDD), "fdd-replay")
DEPCTL = os.path.join(os.path.dirname(FDD), "..", "depctl", "depctl")
PREFIX = f"dst-fdd{os.getpid()}"
PORT = 7400
INTERVAL_S = 0.2
HEADER_SIZES = {0x21: 33, 0x22: 33, 0x23: 9}  # of a sealed datagram, by its first byte (common/seal.c)
PATIENCE_S = 60  # the longest wait for what must come

sodium = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")
libc = ctypes.CDLL(None, use_errno=True)


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options)


def public_key(secret):
    public = ctypes.create_string_buffer(32)
    if sodium.crypto_scalarmult_base(public, secret) != 0:
        raise RuntimeError("no public key")
    return public.raw


def remove_leftovers():
    """Directories and namespaces of test processes that are gone."""
    clusters.sweep("dst-fdd")
    for path in glob.glob("/run/netns/dst-fdd*"):
        match = re.match(r"dst-fdd(\d+)-", os.path.basename(path))
        if match and (int(match[1]) == os.getpid() or not os.path.exists(f"/proc/{match[1]}")):
            subprocess.run(["ip", "netns", "del", os.path.basename(path)], check=False)


def in_namespace(name, make):
    """Runs make() in a network namespace, for what keeps belonging to it: a socket."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    away = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(away, 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        return make()
    finally:
        libc.setns(home, 0)
        os.close(home)
        os.close(away)


class Node:
    """One node: its namespace, its directory, its fdd."""

    def __init__(self, number, directory, known=True):
        self.name = f"n{number}"
        self.number = number
        self.known = known
        self.address = f"10.99.0.{number}"
        self.directory = os.path.join(directory, self.name)
        self.namespace = f"{PREFIX}-{self.name}"
        self.secret = os.urandom(32)
        self.public = public_key(self.secret)
        self.id = struct.unpack("<Q", hashlib.blake2b(self.public, digest_size=32).digest()[:8])[0]
        self.interval_s = INTERVAL_S
        self.process = None
        self.starts = 0
        os.makedirs(self.directory)

    def configure(self, nodes, settings="", interval_s=INTERVAL_S):
        self.interval_s = interval_s
        key = os.path.join(self.directory, "key")
        with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(self.secret.hex() + "\n")
        with open(os.path.join(self.directory, "conf"), "w", encoding="ascii") as file:
            file.write(f"[node]\nname = {self.name}\naddress = {self.address}\nport = {PORT}\nkey = {key}\n"
                       f"run = {self.directory}/run\nstate = {self.directory}/state\ngroup =\n"
                       f"[fdd]\ninterval_ms = {int(interval_s * 1000)}\n{settings}")
            for node in nodes:
                file.write(f"[peer {node.name}]\naddress = {node.address}\nport = {PORT}\nkey = {node.public.hex()}\n")

    def start(self):
        self.starts += 1
        with open(os.path.join(self.directory, "log"), "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, FDD, "--config", os.path.join(self.directory, "conf"),
                 "--user", "nobody"], stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE_S
        while self.log().count("ready version") < self.starts:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} does not start: {self.log()}")
            time.sleep(0.02)

    def end(self, how=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
        if self.process:
            self.process.wait(PATIENCE_S)
        status, self.process = self.process.returncode if self.process else None, None
        return status

    def log(self):
        try:
            with open(os.path.join(self.directory, "log"), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def suspicions(self, other):
        """The silences, in milliseconds, for which this node suspected another one."""
        return [int(ms) for ms in re.findall(rf": suspect {other.name} .*elapsed_ms=(\d+)", self.log())]

    def longest_stall_ms(self):
        """As it says itself: a stall is told from half an interval on."""
        return max(map(int, re.findall(r"stood still stalled_ms=(\d+)", self.log())), default=0)

    def verdicts(self, other):
        """What this node said of another one: suspect with its prediction, or trust."""
        pattern = re.compile(rf": (suspect|trust) {other.name} (?:.*predicted_ms=(\d+))?")
        return [match.groups() for match in map(pattern.search, self.log().splitlines()) if match]

    def depctl(self, *words):
        return run(DEPCTL, "--config", os.path.join(self.directory, "conf"), *words).stdout

    def caller(self):
        return Caller(f"ipc://{self.directory}/run/fdd.rpc")

    def ask(self, name, body=None):
        caller = self.caller()
        try:
            caller.send(name, body)
            return caller.receive()[1]
        finally:
            caller.close()

    def peer(self, other):
        return next(peer for peer in self.ask("fdd.ls")["peers"] if peer["name"] == other.name)

    def stats(self):
        return {stat["name"]: stat["value"] for stat in self.ask("common.stats")["stats"]}

    def memory_kb(self):
        """What it holds itself: pages of programs and libraries come in as they are used."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"RssAnon:\s+(\d+)", file.read())[1])

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_DGRAM, protocol=0):
        return in_namespace(self.namespace, lambda: socket.socket(family, kind, protocol))


class Caller:
    """A DEALER of one fdd."""

    def __init__(self, endpoint):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(endpoint)

    def send(self, name, body=None):
        header = {"n": name, "i": 1, "t": 0}
        self.socket.send_multipart([msgpack.packb(header), msgpack.packb(body or {})])

    def receive(self):
        """(name of the message, body) of the next answer."""
        if not self.socket.poll(PATIENCE_S * 1000):
            raise TimeoutError("no answer")
        header, body = (msgpack.unpackb(frame) for frame in self.socket.recv_multipart())
        if header.get("s"):
            raise RuntimeError(header["e"])
        return header["n"], body

    def told(self, name=None):
        """The next that is told, of the peer of that name if one is given; but not that the registration stands, which fdd says
        from time to time, and whenever it stood still itself."""
        while True:
            what, body = self.receive()
            if what != "fdd.registered" and name in (None, body.get("name")):
                return what, body

    def raised(self, name, count):
        """The next levels of a peer that were raised, count of them with none cleared between: a machine that stalls may make one
        rise and fall before anything was done to the peer."""
        levels = []
        while len(levels) < count:
            level = self.told(name)[1]
            levels = [*levels, level] if level["raised"] else []
        return levels

    def cleared(self, name, thresholds):
        """Those thresholds in the order in which a peer's levels fell below them, each for the first time, until it is below all."""
        above, order = set(thresholds), []
        while above:
            level = self.told(name)[1]
            threshold = min(thresholds, key=lambda one, told=level["threshold"]: abs(one - told))
            (above.add if level["raised"] else above.discard)(threshold)
            if not level["raised"] and threshold not in order:
                order.append(threshold)
        return order

    def close(self):
        self.socket.close()


class Cluster(unittest.TestCase):
    COUNT = 3

    def setUp(self):
        remove_leftovers()
        self.directory = tempfile.mkdtemp(prefix=f"dst-fdd-{os.getpid()}-")
        os.chmod(self.directory, 0o755)
        self.addCleanup(shutil.rmtree, self.directory)
        self.addCleanup(remove_leftovers)
        self.nodes = [Node(i + 1, self.directory) for i in range(self.COUNT)]
        self.switch = f"{PREFIX}-sw"
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")
        for node in self.nodes:
            self.plug_in(node)
            node.configure([n for n in self.nodes if n.known])
            self.addCleanup(node.end)

    def logs(self):
        """For the report of a failure: the end of what each node said."""
        return [f"{node.name}: {line}" for node in self.nodes for line in node.log().splitlines()[-12:]]

    def plug_in(self, node):
        run("ip", "netns", "add", node.namespace)
        run("ip", "-n", node.namespace, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{node.number}",
            "netns", self.switch)
        run("ip", "-n", self.switch, "link", "set", f"p{node.number}", "master", "br0", "up")
        run("ip", "-n", node.namespace, "address", "add", f"{node.address}/24", "dev", "eth0")
        run("ip", "-n", node.namespace, "link", "set", "eth0", "up")
        run("ip", "-n", node.namespace, "link", "set", "lo", "up")

    def start(self, *nodes):
        for node in nodes or self.nodes:
            node.start()

    def blamed(self, node, *others, away_ms=0):
        """Suspicions of others that had not been silent, by the others' own word: (name, silence), in milliseconds. A heartbeat
        comes an interval after the one before, and as much later as its sender stood still, or was away."""
        return [(other.name, silence_ms) for other in others for silence_ms in node.suspicions(other)
                if silence_ms > other.longest_stall_ms() + away_ms + 2 * other.interval_s * 1000]

    def wait_for(self, what, condition, seconds=PATIENCE_S):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"{what} within {seconds} s; log: {self.nodes[0].log()}")
            time.sleep(0.02)

    def all_hear_all(self):
        return all(peer["heard"] for node in self.nodes for peer in node.ask("fdd.ls")["peers"])

    def start_and_settle(self, beats=15):
        self.start()
        self.wait_for("all hear all", self.all_hear_all)
        time.sleep(beats * INTERVAL_S)

    def lose(self, node, percent):
        rules = ("table inet lossy {\nchain in {\ntype filter hook input priority 0;\n"
                 f"udp dport {PORT} numgen random mod 100 < {percent} counter drop\n}}\n}}\n")
        run("ip", "netns", "exec", node.namespace, "nft", "-f", "-", input=rules)

    def test_10_all_hear_all(self):
        self.start()
        self.wait_for("all hear all", self.all_hear_all)
        peer = self.nodes[0].peer(self.nodes[1])
        self.assertEqual((peer["state"], peer["in_touch"], peer["level"]), ("alive", True, 0))

    def test_20_a_killed_node_crosses_each_threshold_at_its_time(self):
        n1, n2, n3 = self.nodes
        self.start_and_settle()
        caller = n1.caller()
        self.addCleanup(caller.close)
        caller.send("fdd.register", {"application": "test", "raise": [1 / 3, 0.6, 0.8], "clear": 0.1, "beats": 1})
        self.assertEqual(caller.receive()[0], "fdd.registered")
        self.assertGreaterEqual(n1.peer(n3)["predicted_ms"], INTERVAL_S * 1000)
        n3.end()
        for level, threshold, intervals in zip(caller.raised("n3", 3), (1 / 3, 0.6, 0.8), (2, 4, 9)):
            self.assertAlmostEqual(level["threshold"], threshold)
            self.assertGreaterEqual(level["level"], threshold - 0.001)
            self.assertGreaterEqual(level["elapsed_ms"] / level["predicted_ms"], intervals - 0.01)
        self.assertEqual(n1.peer(n3)["state"], "silent")
        self.wait_for("n2 is well", lambda: n1.peer(n2)["state"] == "alive")
        n3.start()
        self.assertEqual(caller.cleared("n3", (1 / 3, 0.6, 0.8)), [0.8, 0.6, 1 / 3])
        told = [verdict for verdict, _ in n1.verdicts(n3)]
        self.assertIn("suspect", told)
        self.assertFalse([pair for pair in zip(told, told[1:]) if pair == ("suspect", "suspect")], "one silence is told once")

    def register(self, node, **request):
        caller = node.caller()
        self.addCleanup(caller.close)
        caller.send("fdd.register", request)
        name, registered = caller.receive()
        self.assertEqual(name, "fdd.registered")
        return caller, registered["registration"]

    def test_21_two_subscribers_get_their_own_events_from_one_estimate(self):
        n1, _, n3 = self.nodes
        self.start_and_settle()
        hasty, _ = self.register(n1, application="hasty", **{"raise": [1 / 3, 0.5], "clear": 0.1, "beats": 0})
        slow, _ = self.register(n1, application="slow", **{"raise": [0.7], "clear": 0.1, "beats": 3})
        n3.end()
        told = hasty.raised("n3", 2) + slow.raised("n3", 1)
        self.assertEqual([round(level["threshold"], 2) for level in told], [0.33, 0.5, 0.7])
        for level, intervals in zip(told, (2, 3, 17 / 3)):
            self.assertGreaterEqual(level["elapsed_ms"] / level["predicted_ms"], intervals - 0.01)
        self.assertEqual(len({level["predicted_ms"] for level in told}), 1)  # one estimate
        n3.start()
        hasty.cleared("n3", (1 / 3, 0.5))
        # The patient one wants three more calm heartbeats after that first one.
        slow.cleared("n3", (0.7,))
        self.assertGreaterEqual(n1.peer(n3)["sequence"], 4)

    def test_22_values_come_each_period_until_the_registration_is_ended(self):
        n1, n2, n3 = self.nodes
        self.start_and_settle(beats=5)
        caller, number = self.register(n1, application="values", **{"raise": []}, period_ms=100)
        told = [caller.told() for _ in range(8)]
        self.assertEqual({name for name, _ in told}, {"fdd.value"})
        self.assertEqual([value["name"] for _, value in told].count("n2"), 4)
        n3.end()
        values = [caller.told("n3")[1]]
        while values[-1]["level"] <= 0.5:
            value = caller.told("n3")[1]
            if value["elapsed_ms"] < values[-1]["elapsed_ms"]:
                values.clear()  # one more heartbeat, from before its end
            values.append(value)
            self.assertLess(len(values), 600)
        levels = [value["level"] for value in values]
        self.assertEqual(levels, sorted(levels))
        self.assertEqual(n1.ask("fdd.unregister", {"registration": number}), {"registration": number})
        name = "fdd.value"
        while name == "fdd.value":
            name = caller.told()[0]
        self.assertEqual(name, "fdd.unregistered")
        self.assertEqual(n1.ask("fdd.ls")["registrations"], 0)
        with self.assertRaisesRegex(RuntimeError, "with period_ms"):
            n1.ask("fdd.register", {"application": "nothing", "raise": []})

    def test_23_a_lease_that_is_not_renewed_ends_the_stream(self):
        n1 = self.nodes[0]
        self.start(n1)
        caller, number = self.register(n1, application="leased", **{"raise": [0.99]}, lease_ms=6000)
        for _ in range(26):  # for longer than the lease; a test that has to wait loses none within twenty times the pause
            time.sleep(0.25)
            self.assertEqual(n1.ask("fdd.renew", {"registration": number}), {"registration": number, "lease_ms": 6000})
        with self.assertRaisesRegex(RuntimeError, "lease .* ran out"):
            caller.told()
        with self.assertRaisesRegex(RuntimeError, "no registration"):
            n1.ask("fdd.renew", {"registration": number})
        self.assertEqual(n1.stats()["expired"], 1)

    def test_24_a_lost_connection_ends_the_registration(self):
        n1 = self.nodes[0]
        self.start(n1)
        caller, _ = self.register(n1, application="lost", **{"raise": []}, period_ms=100)
        self.register(n1, application="stays", **{"raise": [0.99]})
        caller.close()
        self.wait_for("it is gone", lambda: n1.ask("fdd.ls")["registrations"] == 1)

    def replayed(self, node, other):
        """The verdicts that come out of the node's exported log."""
        log = os.path.join(node.directory, "arrivals")
        with open(log, "w", encoding="ascii") as file:
            file.write(node.depctl("fd", "log", other.name))
        lines = run(REPLAY, "--config", os.path.join(node.directory, "conf"), log).stdout.splitlines()
        self.assertEqual(lines, sorted(lines, key=lambda line: int(line.split()[0])))
        pattern = re.compile(r"\d+ (suspect|trust) (?:level.*predicted_ms=(\d+\.\d+))?")
        return [pattern.match(line).groups() for line in lines]

    def test_25_an_exported_log_replayed_gives_the_verdicts_of_the_run(self):
        n1, n2, n3 = self.nodes
        n2.configure(self.nodes, "estimator = kama-paper\nsuspect = 0.5\n")
        self.start_and_settle(beats=10)
        self.assertEqual((n1.ask("fdd.ls")["estimator"], n2.ask("fdd.ls")["estimator"]), ("default", "kama-paper"))
        for node in (n1, n2):
            self.lose(node, 30)
        time.sleep(2)
        n3.end()
        self.wait_for("it is missed", lambda: n1.suspicions(n3) and n2.suspicions(n3))
        n3.start()
        time.sleep(1.2)
        os.kill(n1.process.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(n1.process.pid, signal.SIGCONT)
        time.sleep(1)
        os.kill(n3.process.pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(n3.process.pid, signal.SIGCONT)
        time.sleep(1.2)
        self.wait_for("the stall is told", lambda: "stood still" in n1.log())
        for node in (n1, n2):
            verdicts = again = None
            while verdicts is None or node.verdicts(n3) != verdicts:  # one came while the log was exported
                verdicts, again = node.verdicts(n3), self.replayed(node, n3)
            self.assertIn("suspect", [verdict for verdict, _ in verdicts])
            self.assertEqual([verdict for verdict, _ in again], [verdict for verdict, _ in verdicts])
            for (_, replayed_ms), (_, told_ms) in zip(again, verdicts):
                if told_ms:  # a whole number there, three digits more here
                    self.assertAlmostEqual(float(replayed_ms), int(told_ms), delta=0.501)
        paper = n2.peer(n3)
        self.assertEqual((paper["dev_fast_ms"], paper["loss"]), (0, 0))
        self.assertAlmostEqual(paper["predicted_ms"], paper["kama_ms"], places=3)  # t_pred = K, and nothing else

    def test_26_depctl_shows_watches_and_exports(self):
        n1, _, n3 = self.nodes
        self.start_and_settle(beats=5)
        self.wait_for("n3 is listed", lambda: re.search(r"n3 +node +alive", n1.depctl("fd", "ls")))
        self.wait_for("n3 is shown", lambda: re.search(r"(?m)^state +alive", n1.depctl("fd", "show", "n3")))
        self.assertEqual(json.loads(n1.depctl("-o", "json", "fd", "show", "n3"))["name"], "n3")
        n3.end()
        told = [json.loads(line) for line in
                n1.depctl("-o", "jsonl", "fd", "watch", "n3", "--raise", "0.4,0.5", "--count", "2").splitlines()]
        self.assertEqual([(line["notice"], line["name"], line["threshold"], line["raised"]) for line in told],
                         [("fdd.level", "n3", 0.4, True), ("fdd.level", "n3", 0.5, True)])
        told = n1.depctl("fd", "watch", "--every", "100ms", "--count", "6").splitlines()
        self.assertEqual({line.split()[0] for line in told}, {"n2", "n3"})
        for wrong, code in ((("show", "n9"), 4), (("watch", "n9"), 4), (("watch", "--raise", "2"), 2), (("log", "n9"), 4)):
            done = subprocess.run([DEPCTL, "--config", os.path.join(n1.directory, "conf"), "fd", *wrong],
                                  capture_output=True, text=True, check=False, timeout=PATIENCE_S)
            self.assertEqual((done.returncode, done.stdout), (code, ""), wrong)

    def test_30_a_restarted_fdd_is_not_suspected_and_has_a_higher_incarnation(self):
        """At an interval of a second, so that the start of a process is short beside the three that make a suspicion."""
        n1, n2, n3 = self.nodes
        for node in self.nodes:
            node.configure(self.nodes, interval_s=1.0)
        self.start()
        self.wait_for("n3 is known", lambda: all(node.peer(n3)["received"] > 3 for node in (n1, n2)))
        before = n1.peer(n3)["incarnation"]
        ended = time.monotonic()
        n3.end()
        n3.start()
        away_ms = (time.monotonic() - ended) * 1000
        self.wait_for("n3 is heard again", lambda: n1.peer(n3)["incarnation"] > before)
        self.wait_for("n3 hears all", lambda: all(p["heard"] for p in n3.ask("fdd.ls")["peers"]))
        time.sleep(2)
        self.assertEqual(self.blamed(n1, n2) + self.blamed(n2, n1) + self.blamed(n3, n1, n2), [])
        self.assertEqual(self.blamed(n1, n3, away_ms=away_ms) + self.blamed(n2, n3, away_ms=away_ms), [])

    def test_31_an_application_that_registers_anew_replaces_itself(self):
        n1 = self.nodes[0]
        self.start(n1)
        callers = [n1.caller(), n1.caller()]
        for caller in callers:
            self.addCleanup(caller.close)
            caller.send("fdd.register", {"application": "gossipd", "raise": [0.5]})
            self.assertEqual(caller.receive()[0], "fdd.registered")
        with self.assertRaisesRegex(RuntimeError, "anew"):
            callers[0].told()
        self.assertEqual(n1.ask("fdd.ls")["registrations"], 1)
        with self.assertRaisesRegex(RuntimeError, "ascending"):
            n1.ask("fdd.register", {"application": "other", "raise": [0.5, 0.4]})
        with self.assertRaisesRegex(RuntimeError, "no registration 99"):
            n1.ask("fdd.unregister", {"registration": 99})

    def web(self, node, port, text):
        """A web service in the node's namespace that answers every GET with the text."""
        program = ("import http.server, sys\n"
                   "class Page(http.server.BaseHTTPRequestHandler):\n"
                   "    def do_GET(self):\n"
                   "        self.send_response(200 if self.path == '/health' else 404)\n"
                   "        self.end_headers()\n"
                   f"        self.wfile.write({text.encode()!r})\n"
                   "    def log_message(self, *_):\n"
                   "        pass\n"
                   "http.server.ThreadingHTTPServer.request_queue_size = 128\n"
                   f"http.server.ThreadingHTTPServer(('{node.address}', {port}), Page).serve_forever()\n")
        process = subprocess.Popen(["ip", "netns", "exec", node.namespace, sys.executable, "-c", program],
                                   stderr=subprocess.DEVNULL)  # clients that hang up early
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def service(self, node, name):
        return next(service for service in node.ask("fdd.ls")["services"] if service["name"] == name)

    def test_35_a_hung_http_service_is_suspected_while_its_node_is_not(self):
        n1, n2, _ = self.nodes
        self.start_and_settle(beats=5)
        web = self.web(n1, 8080, "all is well")
        fast = {"d": 200, "l": 1000}
        probes = [{"k": "http", "p": 8080, "t": "/health", "m": "well", **fast}, {"k": "tcp", "p": 8080, **fast}]
        services = n1.ask("fdd.probes", {"ve": "web", "epoch": 3, "address": n1.address + "/24", "probes": probes})["services"]
        http, tcp = "web/http:8080/health", "web/tcp:8080"
        for name in (http, tcp):
            self.wait_for("it answers", lambda: self.service(n1, name)["state"] == "alive")  # pylint: disable=cell-var-from-loop
        told, _ = self.register(n1, application="balancer", peer=services[0], **{"raise": [0.5]})
        self.wait_for("all is well", lambda: self.service(n1, http)["good"] > 8 and not self.service(n1, http)["fault"])
        os.kill(web.pid, signal.SIGSTOP)
        told.raised(http, 1)
        self.wait_for("the event", lambda: f"suspect service {http}" in n1.log())
        self.wait_for("what failed", lambda: self.service(n1, http)["fault"] == "no answer in time")
        self.wait_for("its kernel still accepts: hung, not dead", lambda: self.service(n1, tcp)["state"] == "alive")
        self.wait_for("its node is well", lambda: n2.peer(n1)["state"] == "alive")
        self.assertEqual(self.service(n1, http)["state"], "silent")
        self.assertRegex(n1.depctl("fd", "ls"), rf"{http} +service +silent")
        os.kill(web.pid, signal.SIGCONT)
        told.cleared(http, (0.5,))
        self.wait_for("it is trusted", lambda: self.service(n1, http)["state"] == "alive")
        web.kill()
        self.wait_for("a dead one fails the other probe too", lambda: self.service(n1, tcp)["state"] == "silent")
        self.wait_for("why", lambda: self.service(n1, tcp)["fault"] == "Connection refused")
        self.assertEqual(self.blamed(n2, n1), [])
        n1.ask("fdd.probes", {"ve": "web", "epoch": 3, "probes": []})
        self.assertEqual(n1.ask("fdd.ls")["services"], [])

    def test_36_a_wrong_answer_is_no_success(self):
        n1 = self.nodes[0]
        self.start(n1)
        self.web(n1, 8081, "sorry")
        fast = {"k": "http", "p": 8081, "d": 200, "l": 1000}
        probes = [{**fast, "t": "/"}, {**fast, "t": "/health", "m": "well"}, {**fast, "t": "/gone", "s": 404}]
        n1.ask("fdd.probes", {"ve": "w", "address": n1.address, "probes": probes})
        self.wait_for("the right one", lambda: self.service(n1, "w/http:8081/gone")["good"] > 3)
        self.wait_for("the others are suspected", lambda: all(
            f"suspect service w/http:8081/{path} " in n1.log() for path in ("", "health")))
        for path, fault in (("", "status 404, not 200"), ("health", 'status 200, but "well" is not in the body')):
            self.wait_for(fault, lambda: self.service(n1, f"w/http:8081/{path}")["fault"] == fault)  # pylint: disable=cell-var-from-loop
        for wrong, why in (({"k": "tcp"}, "port"), ({"k": "http", "p": 1, "t": "x"}, "path"), ({"k": "command"}, "what to run")):
            with self.assertRaisesRegex(RuntimeError, why):
                n1.ask("fdd.probes", {"ve": "w", "address": n1.address, "probes": [wrong]})
        with self.assertRaisesRegex(RuntimeError, "no address"):
            n1.ask("fdd.probes", {"ve": "x", "probes": [{"k": "tcp", "p": 1}]})

    def test_37_a_service_that_tells_by_itself_is_suspected_when_it_stops_telling(self):
        n1 = self.nodes[0]
        self.start(n1)
        n1.ask("fdd.probes", {"ve": "py", "address": n1.address, "probes": [{"k": "heartbeat", "d": 200}]})
        client = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "client")
        program = ("import time\nfrom depsys_heartbeat import Heartbeat\nheart = Heartbeat(interval_s=0.2)\n"
                   "while True:\n    heart.beat()\n    time.sleep(0.02)\n")
        teller = subprocess.Popen(["ip", "netns", "exec", n1.namespace, sys.executable, "-c", program],
                                  env={**os.environ, "PYTHONPATH": client, "PYTHONDONTWRITEBYTECODE": "1"})
        self.addCleanup(teller.wait)
        self.addCleanup(teller.kill)
        self.wait_for("it is heard", lambda: self.service(n1, "py/heartbeat")["good"] > 5)
        self.wait_for("it is trusted", lambda: self.service(n1, "py/heartbeat")["state"] == "alive")
        told = self.service(n1, "py/heartbeat")
        self.assertEqual(told["good"], told["asked"])
        os.kill(teller.pid, signal.SIGSTOP)
        self.wait_for("its silence", lambda: self.service(n1, "py/heartbeat")["state"] == "silent")
        with n1.socket() as sender:  # junk, and what another address tells, is not taken for it
            for junk in (b"", b"\x83", b"\xff" * 2000, os.urandom(30)):
                sender.sendto(junk, (n1.address, PORT + 19))
        self.assertEqual(self.service(n1, "py/heartbeat")["state"], "silent")
        os.kill(teller.pid, signal.SIGCONT)
        self.wait_for("its trust", lambda: self.service(n1, "py/heartbeat")["state"] == "alive")

    def test_40_an_own_stall_of_five_seconds_blames_nobody(self):
        n1, n2, n3 = self.nodes
        self.start_and_settle()
        pid = n1.process.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(pid, signal.SIGCONT)
        self.wait_for("the stall is told", lambda: "stood still" in n1.log())
        time.sleep(1)
        self.assertEqual(self.blamed(n1, n2, n3), [])
        self.assertGreaterEqual(n1.longest_stall_ms(), 4500)
        self.assertGreaterEqual(n1.ask("fdd.ls")["lhm"], 1)
        # The stall of 25 intervals is in no prediction; how far below it that is depends on the machine.
        self.assertLess(n1.peer(n2)["predicted_ms"], 20 * INTERVAL_S * 1000)
        self.assertTrue(n2.suspicions(n1))  # the others are right about n1
        self.wait_for("n1 is trusted again", lambda: n2.peer(n1)["state"] == "alive")

    def test_50_at_a_fifth_of_loss_no_level_reaches_four_fifths(self):
        self.start_and_settle()
        callers = [node.caller() for node in self.nodes]
        for caller in callers:
            self.addCleanup(caller.close)
        for node, caller in zip(self.nodes, callers):
            self.lose(node, 20)
            caller.send("fdd.register", {"application": "test", "raise": [0.8]})
            self.assertEqual(caller.receive()[0], "fdd.registered")
        end = time.monotonic() + 15
        poller = zmq.Poller()
        for caller in callers:
            poller.register(caller.socket, zmq.POLLIN)
        crossings = []
        while time.monotonic() < end:
            for ready, _ in poller.poll(max(0, end - time.monotonic()) * 1000):
                header, body = map(msgpack.unpackb, ready.recv_multipart())
                if header["n"] != "fdd.registered" and body["raised"]:
                    crossings.append(body)
        stalls_ms = {node.name: node.longest_stall_ms() for node in self.nodes}
        self.assertEqual([level for level in crossings
                          if level["elapsed_ms"] - stalls_ms[level["name"]] > 9 * level["predicted_ms"] - 1], [], stalls_ms)
        peers = [peer for node in self.nodes for peer in node.ask("fdd.ls")["peers"]]
        lost, received = sum(p["lost"] for p in peers), sum(p["received"] for p in peers)
        self.assertGreater(lost / (lost + received), 0.05)
        self.assertLess(lost / (lost + received), 0.4)

    def test_60_gossipd_says_who_watches_whom(self):
        n1, n2, n3 = self.nodes
        self.start_and_settle(beats=5)
        reply = n1.ask("fdd.peers", {"peers": [{"i": n2.id, "w": True, "s": False}, {"i": n3.id, "w": False, "s": True},
                                               {"i": n1.id, "w": True, "s": True}, {"i": 5, "w": True, "s": True}]})
        self.assertEqual(reply, {"watched": 1, "sent_to": 1, "unknown": 2})
        self.assertEqual(n1.peer(n3)["state"], "unwatched")
        received = n1.peer(n2)["received"]
        self.assertGreater(received, 1)  # the history of those who stay
        self.wait_for("n2 misses n1", lambda: n2.peer(n1)["state"] == "silent")
        self.wait_for("n3 hears n1", lambda: n3.peer(n1)["state"] == "alive")
        self.assertGreater(n1.stats()["heartbeats_unwatched"], 0)

    def test_70_junk_is_counted_and_does_no_harm(self):
        n1, n2, n3 = self.nodes
        self.start_and_settle()
        recorded = self.record(n1, 40)
        n2.end()
        n2.start()
        self.wait_for("n2 is heard again", lambda: n1.peer(n2)["level"] == 0 and n1.peer(n2)["received"] > 3)
        time.sleep(1)
        earlier = len(self.blamed(n1, n2))  # its start may take longer than a suspicion
        before, junk = n1.stats(), list(self.junk(n2, n3, recorded))
        began = time.monotonic()
        self.send_all(n3, n1, junk)
        grown_kb = []  # once every path was walked; what is lost with a datagram is lost in each turn
        while not grown_kb or grown_kb[-1] >= 512 + suite.KEPT_KB:
            memory = n1.memory_kb()
            self.send_all(n3, n1, junk)
            grown_kb.append(n1.memory_kb() - memory)
            self.assertLess(len(grown_kb), 5, f"it grows by {grown_kb} KiB")
        time.sleep(1)
        after, turns = n1.stats(), 1 + len(grown_kb)
        grown = {name for name in after if name.startswith("refused_") and after[name] > before[name]}
        self.assertEqual(grown, {"refused_oversized", "refused_truncated", "refused_malformed", "refused_unknown_sender",
                                 "refused_bad_tag", "refused_replayed", "refused_old_boot"})
        # To each of two nodes five hellos a second, and as many answers to what they answer.
        self.assertLess(after["control_sent"] - before["control_sent"],
                        turns * (2 * len(recorded) + 30) + 20 * (time.monotonic() - began))
        self.assertEqual((self.blamed(n1, n2)[earlier:], self.blamed(n1, n3)), ([], []))
        self.wait_for("both are well", lambda: {peer["state"] for peer in n1.ask("fdd.ls")["peers"]} == {"alive"})
        self.assertLess(n1.log().count("datagram refused"), 4 + (time.monotonic() - began) / 10)  # one in ten seconds
        n2.end()
        self.wait_for("a dead node is still found", lambda: n1.peer(n2)["state"] == "silent")

    def record(self, node, count):
        """Datagrams for this node off the wire."""
        recorded = []
        with node.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
            wire.settimeout(PATIENCE_S)
            while len(recorded) < count:
                frame = wire.recv(2048)
                if frame[23] == 17 and frame[30:34] == socket.inet_aton(node.address):
                    recorded.append(frame[42:14 + struct.unpack("!H", frame[16:18])[0]])
        return recorded

    def send_all(self, source, node, datagrams):
        with source.socket() as sender:
            for number, datagram in enumerate(datagrams):
                try:
                    sender.sendto(datagram, (node.address, PORT))
                except ConnectionRefusedError:
                    self.fail("nobody listens any more")
                if number % 50 == 0:
                    node.ask("common.hello")  # what no receive buffer holds cannot be counted

    def junk(self, known, other, recorded):
        dice = random.Random(7)
        names = [struct.pack("<Q", node.id) for node in (known, other)]
        names.append(dice.randbytes(8))
        header = [bytes([kind]) + (name if size > 9 else name[:2]) for kind, size in HEADER_SIZES.items() for name in names]
        for _ in range(4000):
            yield dice.randbytes(dice.randrange(1400))
            yield dice.choice(header) + dice.randbytes(dice.randrange(24, 1200))
        for datagram in recorded:
            for size in range(0, len(datagram), 3):
                yield datagram[:size]
            spoiled = bytearray(datagram)
            spoiled[dice.randrange(HEADER_SIZES[datagram[0]], len(spoiled))] ^= 1 << dice.randrange(8)
            yield bytes(spoiled)
            if HEADER_SIZES[datagram[0]] == 9:  # a counter that was not seen yet: only the tag can tell
                yield datagram[:8] + bytes([datagram[8] ^ 0x40]) + datagram[9:]
            yield datagram
            yield datagram

    def test_80_a_node_that_is_not_in_the_list_gets_nothing(self):
        n1, n2, n3 = self.nodes
        n3.known = False
        for node in (n1, n2):
            node.configure([n1, n2])
        self.start()
        self.wait_for("the stranger is refused", lambda: n1.stats()["refused_unknown_sender"] > 3)
        self.assertFalse(n3.peer(n1)["heard"])
        self.assertEqual([peer["name"] for peer in n1.ask("fdd.ls")["peers"]], ["n2"])

    def test_90_a_bad_start_is_one_clear_line(self):
        n1 = self.nodes[0]
        conf = os.path.join(n1.directory, "conf")
        check = subprocess.run([FDD, "--config", conf, "--check"], capture_output=True, text=True, check=False)
        self.assertEqual((check.returncode, check.stderr), (0, ""))
        self.start(n1)
        again = subprocess.run(["ip", "netns", "exec", n1.namespace, FDD, "--config", conf, "--user", "nobody"],
                               capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        self.assertEqual(again.returncode, 1)
        self.assertRegex(again.stderr, r"\Afdd: error: bind udp 10\.99\.0\.1 port 7400: Address already in use\n\Z")
        self.assertEqual(n1.end(signal.SIGTERM), 0)
        with open(conf, "a", encoding="ascii") as file:
            file.write("[fdd]\nsuspect = 0.1\n")
        check = subprocess.run([FDD, "--config", conf, "--check"], capture_output=True, text=True, check=False)
        self.assertEqual(check.returncode, 1)
        self.assertEqual(len(check.stderr.splitlines()), 1)
        self.assertEqual(subprocess.run([FDD, "--nonsense"], capture_output=True, check=False).returncode, 2)


if __name__ == "__main__":
    suite.main(sys.argv[2:])
