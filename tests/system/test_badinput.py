#!/usr/bin/env python3
"""test_badinput.py BUILD_DIR: every socket and port of a node gets bad input; nothing crashes, grows or chatters.

Three nodes with all daemons; n1 is the target, the others are its peers, `client` is a stranger on the same network. Needs root.
The check runs it a second time against daemons with sanitizers (tools/sanitized).
"""
import concurrent.futures
import contextlib
import glob
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
import unittest

import msgpack
import zmq

HERE = os.path.dirname(os.path.realpath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402
import intruder  # noqa: E402
import suite  # noqa: E402

BUILD = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(TREE, "build")
PORT = 7400
SEED = int(os.environ.get("SEED", "1"))
PATIENCE_S = 60  # a loaded machine takes its time; what is well does not use it
TURNS, GROWN_KB = 5, 2 << (12 if suite.SANITIZED else 10)  # the sanitizer keeps what was freed for a while
LINES_A_MINUTE = 60  # the limiter lets six a minute through for each place
CAPTURED = {"fdd": 30, "gossipd": 12}  # datagrams; gossipd sends few when there is no news
DAMAGED = ("truncated", "oversized", "malformed", "unknown_sender")  # what common/seal.h calls it
UDP_PORTS = {"fdd": 0, "gossipd": 1, "migrated": 4}
CURVE_PORTS = {"busd": 3, "gossipd": 11, "ckptd": 12, "migrated": 13, "gosd": 14, "metad": 17}
EVENTS_PORT, JOIN_PORT, HTTP_PORT = 2, 18, 20
PENDING_MAX = 64
STREAM_PORTS = {"gosd": 15, "metad": 16}
IPC_STREAMS = [f"{daemon}.rpc" for daemon in clusters.SERVICES] + ["busd.in", "busd.pub"]
# The longest frame of each socket that does not take 1 MiB; four times that and the connection is cut.
FRAME_MAX = {"fdd.rpc": 65536, "gossipd.rpc": 65536, "ckptd.rpc": 65536, "busd.rpc": 4096, "webd.rpc": 4096, "busd.in": 36864, "busd.pub": 36864}


def connect(path):
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(path)
    return connected


class Daemon:
    """One daemon of n1: what it says of itself."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name

    def socket_path(self, name):
        return f"/proc/{self.cluster.pid('n1')}/root/run/depsys/{name}"

    def ask(self, name, timeout_s=PATIENCE_S):
        with intruder.caller(f"ipc://{self.socket_path(self.name)}.rpc") as caller:
            caller.send_multipart(intruder.request(name, b"\x80"))
            if not caller.poll(int(timeout_s * 1000)):
                raise TimeoutError(f"{self.name}: no answer to {name}")
            header, body = (msgpack.unpackb(frame) for frame in caller.recv_multipart())
            if header.get("s"):
                raise RuntimeError(f"{self.name}: {name}: {header.get('e')}")
            return body

    def is_ready(self):
        try:
            return self.ask("common.hello", 0.5)
        except (TimeoutError, zmq.ZMQError):
            return None

    def wait_ready(self):
        clusters.wait_for(f"{self.name} of n1", self.is_ready, PATIENCE_S, 0.05)

    def stats(self):
        return {stat["name"]: stat["value"] for stat in self.ask("common.stats")["stats"]}

    def memory_kb(self):
        """What it holds itself: resident pages of programs and libraries are as many as were touched so far."""
        pid = self.ask("common.hello")["pid"]
        status = self.cluster.run("n1", ["cat", f"/proc/{pid}/status"], capture_output=True, text=True, check=True).stdout
        return int(re.search(r"RssAnon:\s+(\d+)", status)[1])

    def log(self):
        directory = os.path.join(self.cluster.node_directory("n1"), "log", self.name)
        text = ""
        for path in sorted(glob.glob(os.path.join(directory, "@*"))) + [os.path.join(directory, "current")]:
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    text += file.read()
        return text


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory, cls.cluster = suite.new_cluster("dst-bad", cls.addClassCleanup)
        cls.cluster.up(BUILD, nodes=3, config_extra=f"[node]\nadmin = {cls.new_admin()}\n[metad]\nvoters = n1\n")
        cls.address = cls.cluster.address("n1")
        cls.daemons = {name: Daemon(cls.cluster, name) for name in clusters.SERVICES}
        for daemon in cls.daemons.values():
            daemon.wait_ready()
        clusters.wait_for("first contacts", cls.settled, PATIENCE_S, 0.1)
        cls.captures = {name: cls.capture(name) for name in CAPTURED}
        cls.begun = time.monotonic()
        cls.before = {name: daemon.ask("common.hello") for name, daemon in cls.daemons.items()}
        cls.lines = {name: len(daemon.log().splitlines()) for name, daemon in cls.daemons.items()}

    @classmethod
    def new_admin(cls):
        """The public half; with it nodes can join, so the port for that is open."""
        made = subprocess.run([os.path.join(BUILD, "depctl", "depctl"), "key", "admin-new", os.path.join(cls.directory, "admin.key")],
                              capture_output=True, text=True, check=True)
        return made.stdout.strip()

    @classmethod
    def settled(cls):
        """n1 hears both others, and somebody coordinates."""
        peers = cls.daemons["fdd"].ask("fdd.ls")["peers"]
        return [peer["state"] for peer in peers] == ["alive", "alive"] and cls.daemons["gossipd"].ask("gossipd.status").get("coordinator")

    @classmethod
    def capture(cls, name):
        """Begins to record datagrams for a port of n1; they come in their own time, and the first tests need none."""
        script = [sys.executable, os.path.join(HERE, "intruder.py"), "capture", cls.address, str(PORT + UDP_PORTS[name]), str(CAPTURED[name])]
        process = cls.cluster.popen("n1", script, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        cls.addClassCleanup(process.communicate)
        cls.addClassCleanup(process.kill)
        return process

    def setUp(self):
        self.dice = random.Random(f"{SEED} {self._testMethodName}")
        self.counts = {name: daemon.stats() for name, daemon in self.daemons.items()}

    def tearDown(self):
        """After each kind of attack every daemon is the same process, and answers."""
        for name, daemon in self.daemons.items():
            with self.subTest(daemon=name):
                self.assertEqual(daemon.ask("common.hello")["boot"], self.before[name]["boot"], daemon.log()[-3000:])
                self.assertIsNone(re.search(clusters.BUG, daemon.log()), daemon.log()[-3000:])

    def gain(self, daemon, counter):
        return self.daemons[daemon].stats()[counter] - self.counts[daemon][counter]

    def assert_counted(self, daemon, counter, least=1):
        """Counters may lag by what still waits in the daemon's queues."""
        with self.subTest(daemon=daemon, counter=counter):
            try:
                clusters.wait_for("the counter", lambda: self.gain(daemon, counter) >= least, PATIENCE_S, 0.02)
            except clusters.ClusterError:
                self.fail(f"{counter} rose by {self.gain(daemon, counter)}, not by {least}")

    def caller(self, name, kind=zmq.DEALER):
        made = intruder.caller(f"ipc://{self.daemons['busd'].socket_path(name)}", kind)
        self.addCleanup(made.close)
        return made

    def intrude(self, node, *arguments, **options):
        done = self.cluster.run(node, [sys.executable, os.path.join(HERE, "intruder.py"), *map(str, arguments)], capture_output=True,
                                text=True, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    # -- sockets of the node --

    def ask_nonsense(self, name):
        """Requests with bad bodies, all of them answered; (number of them, those not refused as invalid)."""
        answers = intruder.ask_all(self.caller(f"{name}.rpc"), list(intruder.invalid_requests(self.dice)))
        return len(answers), [(asked, body.hex()[:120], status) for (asked, body), status in answers if status != intruder.INVALID]

    def send_unreadable(self, name):
        intruder.send_all(self.caller(f"{name}.rpc"), intruder.unreadable_messages(self.dice))

    def send_oversized(self, **limit):
        for name in IPC_STREAMS:
            for message in intruder.oversized_messages(**limit):
                kind = zmq.XSUB if name == "busd.pub" else zmq.DEALER
                with intruder.caller(f"ipc://{self.daemons['busd'].socket_path(name)}", kind) as sender:
                    sender.sndtimeo = 1000
                    with contextlib.suppress(zmq.Again):  # cut before the last part was taken
                        sender.send_multipart(message)

    def send_events(self):
        events = list(intruder.bad_events(self.dice))
        intruder.send_all(self.caller("busd.in"), events)
        return len(events)

    def test_10_requests_with_bad_bodies_are_answered_invalid(self):
        for name in clusters.SERVICES:
            count, wrong = self.ask_nonsense(name)
            with self.subTest(daemon=name):
                self.assertEqual(wrong[:5], [])
            self.assert_counted(name, "requests_refused", count - len(wrong))

    def test_11_messages_that_cannot_be_read_are_counted(self):
        for name in clusters.SERVICES:
            self.send_unreadable(name)
            self.assert_counted(name, "requests_refused", 250)

    def test_12_oversized_messages_are_refused_and_counted_or_cut_off(self):
        self.send_oversized()
        for name in IPC_STREAMS:
            daemon, socket_name = name.split(".")
            with intruder.caller(f"ipc://{self.daemons['busd'].socket_path(name)}",
                                 zmq.XSUB if socket_name == "pub" else zmq.DEALER) as sender:
                sender.send(bytes(FRAME_MAX.get(name, 1 << 20) + 1))
                self.assert_counted(daemon, "requests_refused" if socket_name == "rpc" else "messages_refused")

    def test_14_bad_events_and_subscriptions_are_refused(self):
        events = self.send_events()
        self.assert_counted("busd", "messages_refused", events)
        subscriptions = list(intruder.bad_subscriptions(self.dice))
        intruder.send_all(self.caller("busd.pub", zmq.XSUB), subscriptions)
        self.assert_counted("busd", "messages_refused", events + len(subscriptions) // 2)

    def test_13_bytes_that_are_no_zmtp(self):
        for name in IPC_STREAMS:
            intruder.send_streams(lambda path=self.daemons["busd"].socket_path(name): connect(path), intruder.bad_streams(self.dice))

    def test_15_who_speaks_no_zmtp_is_counted(self):
        for name in IPC_STREAMS:
            daemon = name.split(".", maxsplit=1)[0]
            before = self.daemons[daemon].stats()["connections_unfinished"]
            with connect(self.daemons[daemon].socket_path(name)) as stranger:
                stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
            clusters.wait_for(f"{daemon} to count it", lambda d=daemon, b=before: self.daemons[d].stats()["connections_unfinished"] > b,
                              PATIENCE_S, 0.02)

    # -- ports of the network --

    def public_key(self):
        return self.cluster.nodes["n1"]["public_key"]

    def secret_of(self, node):
        with open(os.path.join(self.cluster.node_directory(node), "etc", "node.key"), encoding="ascii") as file:
            return file.read().strip()

    def test_20_a_stranger_gets_no_answer(self):
        self.ask_as_a_stranger(CURVE_PORTS)
        self.counts["busd"] = self.daemons["busd"].stats()
        self.ask_as_a_stranger({"busd": EVENTS_PORT})

    def ask_as_a_stranger(self, ports):
        """All ports at once: each of these callers waits for an answer that does not come."""
        def ask(name):
            return json.loads(self.intrude("client", "curve", self.address, PORT + ports[name], self.public_key()))
        with concurrent.futures.ThreadPoolExecutor(len(ports)) as callers:
            answers = list(callers.map(ask, ports))
        for name, said in zip(ports, answers):
            with self.subTest(daemon=name):
                self.assertEqual(said["answered"], 0)
            self.assert_counted(name, "nodes_refused")

    def test_21_a_node_that_talks_nonsense_is_refused_and_counted(self):
        for name, offset in CURVE_PORTS.items():
            said = json.loads(self.intrude("n2", "curve", self.address, PORT + offset, self.public_key(), self.secret_of("n2")))
            with self.subTest(daemon=name):
                self.assertEqual((said["accepted"], said["lost"]), (0, 0))
            self.assert_counted(name, "requests_refused", said["answered"])

    def test_22_bytes_at_tcp_ports(self):
        for offset in (EVENTS_PORT, *CURVE_PORTS.values(), *STREAM_PORTS.values()):
            self.intrude("client", "tcp", self.address, PORT + offset, self.dice.randrange(1 << 30))
        self.intrude("n2", "tcp", self.address, PORT + STREAM_PORTS["gosd"], self.dice.randrange(1 << 30))
        self.assert_counted("gosd", "bulk_refused", 10)
        self.assert_counted("metad", "tunnel_refused", 10)

    def flood(self, name, captured):
        self.intrude("client", "udp", self.address, PORT + UDP_PORTS[name], self.dice.randrange(1 << 30), stdin=None, input=captured)

    def captured(self, name):
        """The datagrams recorded since the beginning (kept: they are wanted twice)."""
        if isinstance(self.captures[name], subprocess.Popen):
            said, errors = self.captures[name].communicate(timeout=2 * PATIENCE_S)
            self.assertEqual(len(said.split()), CAPTURED[name], errors)
            self.captures[name] = said
        return self.captures[name]

    def flood_until_counted(self, name, captured, reasons):
        for _ in range(5):
            self.flood(name, self.captured(captured))
            self.daemons[name].stats()  # answered when what had come before was read
            if all(self.gain(name, f"refused_{reason}") > 0 for reason in reasons):
                break
        for reason in reasons:
            self.assert_counted(name, f"refused_{reason}")

    def test_23_datagrams_forged_damaged_and_replayed(self):
        """Once more when something is not counted: what a daemon that waits for the processor has no room for is lost unseen."""
        for name in CAPTURED:
            self.flood_until_counted(name, name, (*DAMAGED, "bad_tag", "old_boot", "replayed"))

    def test_24_datagrams_between_daemons_of_one_kind_are_none_for_another(self):
        """Leases go from node to node only where there are VEs; their port gets what is gossipd's, as it was and damaged."""
        self.flood_until_counted("migrated", "gossipd", (*DAMAGED, "old_boot"))
        self.assertEqual(self.gain("migrated", "refused_body"), 0, "nothing was opened")

    def test_25_what_is_no_good_http_is_refused_or_cut(self):
        self.intrude("n1", "tcp", "127.0.0.1", PORT + HTTP_PORT, self.dice.randrange(1 << 30))
        self.assert_counted("webd", "http_unfinished", 10)
        said = json.loads(self.intrude("n1", "http", "127.0.0.1", PORT + HTTP_PORT, self.dice.randrange(1 << 30)))
        self.assertEqual(said["accepted"], 0, said)
        self.assert_counted("webd", "http_refused", 20)

    def ask_to_join(self):
        return json.loads(self.intrude("client", "join", self.address, PORT + JOIN_PORT, self.public_key(), self.dice.randrange(1 << 30)))

    def test_26_strangers_at_the_port_where_nodes_ask_to_join(self):
        said = self.ask_to_join()
        self.assertEqual((said["accepted"], said["lost"], said["again"]), (0, 0, said["asked"]), said)
        self.assert_counted("gossipd", "strangers_asked", said["again"])
        self.assert_counted("gossipd", "strangers_refused", said["wrong"])
        waiting = self.daemons["gossipd"].ask("gossipd.pending")["applicants"]
        self.assertLessEqual(len(waiting), PENDING_MAX)
        self.assertEqual({row["node"] for row in waiting if not row["node"].startswith("crowd-")}, {"n299"}, "one key waits once")
        self.intrude("client", "tcp", self.address, PORT + JOIN_PORT, self.dice.randrange(1 << 30))
        self.assertEqual([row["node"] for row in self.daemons["gossipd"].ask("gossipd.keys")["keys"]], ["n1", "n2", "n3"])

    def test_27_records_that_the_administrator_did_not_sign_are_refused(self):
        said = json.loads(self.intrude("n2", "forge", self.address, PORT + CURVE_PORTS["gossipd"], self.public_key(), self.secret_of("n2")))
        self.assertEqual(said["statuses"], {str(intruder.DENIED): said["forged"], str(intruder.INVALID): said["malformed"]})
        self.assert_counted("gossipd", "records_forged", said["forged"])
        self.assert_counted("gossipd", "records_malformed", said["malformed"])
        self.assertEqual([row["node"] for row in self.daemons["gossipd"].ask("gossipd.keys")["keys"]], ["n1", "n2", "n3"])

    # -- afterwards --

    def send_again(self):
        """Every kind of message once more; the growth of each daemon by that, in KiB."""
        before = {name: daemon.memory_kb() for name, daemon in self.daemons.items()}
        self.counts = {name: daemon.stats() for name, daemon in self.daemons.items()}
        for name in clusters.SERVICES:
            count, _ = self.ask_nonsense(name)
            self.send_unreadable(name)
            self.assert_counted(name, "requests_refused", count)
        self.send_oversized(most=2 << 20)
        self.send_events()
        self.ask_to_join()
        for name in UDP_PORTS:
            self.flood(name, self.captured(name if name in CAPTURED else "gossipd"))
        return {name: daemon.memory_kb() - before[name] for name, daemon in self.daemons.items()}

    def test_90_what_was_sent_before_makes_no_daemon_grow_when_it_is_sent_again(self):
        """Pools and queues are as large as they ever had to be, and that depends on who had to wait; what is lost with a message
        is lost every time. So a daemon has grown if it grows by all of these turns."""
        growing = dict.fromkeys(self.daemons, ())
        for _ in range(TURNS):
            for name, grown_kb in self.send_again().items():
                if name in growing:
                    growing[name] += grown_kb,
            print(f"# grown by, KiB: {growing}", file=sys.stderr)
            growing = {name: grown for name, grown in growing.items() if grown[-1] >= GROWN_KB}
            if not growing:
                break
        self.assertEqual(growing, {}, f"{GROWN_KB} KiB or more by each turn")

    def test_91_the_logs_are_short(self):
        minutes = (time.monotonic() - self.begun) / 60
        for name, daemon in self.daemons.items():
            lines = daemon.log().splitlines()[self.lines[name]:]
            print(f"# {name} wrote {len(lines)} lines in {minutes:.1f} minutes", file=sys.stderr)
            with self.subTest(daemon=name):
                self.assertLess(len(lines), LINES_A_MINUTE * (1 + minutes), "\n".join(lines[:40]))

    def test_92_the_cluster_works_as_before(self):
        status = self.cluster.run("n1", ["ls", "/run/depsys"], capture_output=True, text=True).stdout.split()
        self.assertLessEqual({f"{name}.rpc" for name in clusters.SERVICES}, set(status))
        clusters.wait_for("both peers to be alive", self.settled, PATIENCE_S, 0.1)


if __name__ == "__main__":
    suite.main(sys.argv[2:])
