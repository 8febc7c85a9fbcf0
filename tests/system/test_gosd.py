#!/usr/bin/env python3
"""test_gosd.py BUILD_DIR: objects on three real nodes (tools/cluster.py): copies, fetching, repair, kill -9 at any moment.

Requests go straight to gosd.rpc of a node, as a Python program of an operator would send them. Needs root.
"""
import hashlib
import os
import random
import sys
import threading
import time
import unittest

import msgpack
import zmq

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402
import suite  # noqa: E402

BUILD = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(TREE, "build")
KEY = hashlib.sha256(b"the service's key").digest()
SEED = int(os.environ.get("SEED", "1"))
PATIENCE_S = 60  # the longest wait for what must come
FAILED, INVALID, UNREACHABLE, NOT_FOUND, DENIED, TIMEOUT = 1, 2, 3, 4, 5, 6


class Refused(Exception):
    """The daemon's answer when it could not do it: its status and its words."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


class Gosd:
    """gosd of one node, asked over its request socket."""

    def __init__(self, cluster, node):
        self.cluster, self.node = cluster, node
        self.notices = []

    def ask(self, request, timeout_s=2 * PATIENCE_S, **body):
        self.notices = []
        context = zmq.Context.instance()
        with context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(f"ipc:///proc/{self.cluster.pid(self.node)}/root/run/depsys/gosd.rpc")
            socket.send_multipart([msgpack.packb({"n": request, "i": 1, "t": int(timeout_s * 1000)}), msgpack.packb(body)])
            while True:
                if not socket.poll(timeout_s * 1000):
                    raise Refused(TIMEOUT, f"{self.node}: no answer to {request}")
                header, answer = (msgpack.unpackb(frame) for frame in socket.recv_multipart())
                if header.get("m"):
                    self.notices.append(answer)
                elif header.get("s", 0):
                    raise Refused(header["s"], header.get("e", ""))
                else:
                    return answer

    def put(self, path, key=KEY, **options):
        return self.ask("gosd.put", path=path, key=key, **options)

    def get(self, oid, path, key=KEY):
        return self.ask("gosd.get", oid=oid, path=path, key=key)

    def has(self, oid):
        try:
            return self.ask("gosd.show", oid=oid)["whole"]
        except Refused as refused:
            if refused.status != NOT_FOUND:
                raise
            return False

    def objects(self):
        return self.ask("gosd.ls")["objects"]

    def hello(self):
        return self.ask("common.hello", timeout_s=PATIENCE_S)

    def is_ready(self):
        try:
            return self.ask("common.hello", timeout_s=1)
        except (Refused, zmq.ZMQError):
            return None

    def wait_ready(self):
        return clusters.wait_for(f"gosd of {self.node}", self.is_ready, PATIENCE_S)

    def kill(self):
        """kill -9; the node's supervisor starts it again."""
        self.cluster.run(self.node, ["kill", "-9", str(self.hello()["pid"])], check=True)

    def store(self):
        return os.path.join(f"/proc/{self.cluster.pid(self.node)}/root/var/lib/depsys/gosd")

    def packs(self):
        directory = os.path.join(self.store(), "packs")
        return [os.path.join(directory, name) for name in sorted(os.listdir(directory))]


def damage(path):
    """Changes one byte in the middle of a file."""
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x20]))


def content(directory):
    found = {}
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


class GosdCase(unittest.TestCase):
    """Three nodes with gosd and busd, and a directory that all of them see."""
    CONFIG = "[gosd]\nscrub_days = 0\n"  # nothing repairs what a test has damaged before it looks

    @classmethod
    def setUpClass(cls):
        cls.directory, cls.cluster = suite.new_cluster("dst-gosd", cls.addClassCleanup)
        cls.files = os.path.join(cls.directory, "files")
        os.mkdir(cls.files)
        os.chmod(cls.files, 0o1777)
        cls.cluster.up(BUILD, nodes=3, config_extra=cls.CONFIG, services=("busd", "gosd"))
        cls.n1, cls.n2, cls.n3 = (Gosd(cls.cluster, name) for name in ("n1", "n2", "n3"))
        cls.random = random.Random(f"{SEED} {cls.__name__}")

    def setUp(self):
        for node in ("n1", "n2", "n3"):
            if not self.cluster.pid(node):
                self.cluster.start(node)
        for gosd in (self.n1, self.n2, self.n3):
            gosd.wait_ready()

    def image(self, name, megabytes=4):
        """A directory like a checkpoint: half of its pages noise, half text."""
        path = os.path.join(self.files, name)
        os.mkdir(path)
        pages = [self.random.randbytes(4096) if self.random.random() < 0.5 else bytes([i % 251]) * 4096
                 for i in range(256 * megabytes)]
        with open(os.path.join(path, "pages-1.img"), "wb") as file:
            file.write(b"".join(pages))
        with open(os.path.join(path, "inventory.img"), "wb") as file:
            file.write(b"inventory")
        return path

    def out(self):
        return os.path.join(self.files, "out-%08x" % self.random.randrange(1 << 32))

    def assert_gets(self, gosd, oid, image):
        out = self.out()
        answer = gosd.get(oid, out)
        self.assertEqual(content(out), content(image))
        return answer


class Copies(GosdCase):
    def test_put_with_copies_answers_when_the_next_nodes_have_it(self):
        image = self.image("next")
        key = self.random.randbytes(32)  # of a service that neither node has seen
        done = self.n1.put(image, key, copies=2, name="ckpt-1", kind="image")
        self.assertEqual(done["replicas"], ["n2", "n3"])
        for gosd in (self.n2, self.n3):
            self.assertTrue(gosd.has(done["oid"]))
        again = self.n2.put(image, key, copies=1, name="ckpt-1")
        self.assertEqual((again["oid"], again["stored"], again["replicas"]), (done["oid"], 0, ["n3"]))
        self.assertEqual(self.n2.ask("gosd.show", oid=done["oid"])["object"]["tags"], [{"name": "ckpt-1", "kind": "data"}])

    def test_avoided_nodes_do_not_count(self):
        done = self.n1.put(self.image("avoid"), copies=1, avoid=["n2"])
        self.assertEqual(done["replicas"], ["n3"])
        self.assertFalse(self.n2.has(done["oid"]))

    def test_too_few_nodes_is_an_error_that_says_what_was_reached(self):
        with self.assertRaises(Refused) as caught:
            self.n1.put(self.image("few"), copies=3)
        self.assertEqual(caught.exception.status, UNREACHABLE)
        self.assertIn("with 2 of 3 copies (n2, n3)", caught.exception.text)

    def test_a_changed_image_sends_only_what_changed(self):
        image = self.image("change", megabytes=16)
        first = self.n1.put(image, copies=1)
        with open(os.path.join(image, "pages-1.img"), "r+b") as file:
            file.seek(5 << 20)
            file.write(self.random.randbytes(1 << 18))
        before = self.n2.ask("gosd.stat")["pack_bytes"]
        second = self.n1.put(image, copies=1)
        self.assertLess(second["stored"], 4 << 17)
        self.assertLess(self.n2.ask("gosd.stat")["pack_bytes"] - before, 4 << 17)
        self.assertNotEqual(first["oid"], second["oid"])

    def test_an_object_survives_its_node(self):
        image = self.image("survive")
        done = self.n1.put(image, copies=1)
        self.cluster.kill("n1")
        answer = self.assert_gets(self.n3, done["oid"], image)
        self.assertEqual(answer["nodes"], ["n2"])
        self.assertGreater(answer["fetched"], 0)
        self.assertEqual(self.assert_gets(self.n3, done["oid"], image)["fetched"], 0)

    def test_a_dead_node_costs_its_timeout_once(self):
        self.cluster.kill("n2")
        begin = time.monotonic()
        self.n1.put(self.image("dead-0"), copies=1)
        first = time.monotonic() - begin
        later = []
        for n in range(3):  # one of them meets no stall of the machine
            begin = time.monotonic()
            done = self.n1.put(self.image(f"dead-{n + 1}"), copies=1)
            later.append(time.monotonic() - begin)
            self.assertEqual(done["replicas"], ["n3"])
        self.assertLess(min(later), first)
        self.cluster.start("n2")
        self.n2.wait_ready()
        clusters.wait_for("n1 to see n2 again", lambda: self.n1.put(self.image("seen-%d" % time.monotonic_ns()), copies=1)
                          ["replicas"] == ["n2"], PATIENCE_S, 0.1)

    def test_removal_goes_to_all_nodes_and_a_name_keeps(self):
        image = self.image("remove")
        oid = self.n1.put(image, copies=2, name="a")["oid"]
        self.n1.put(image, copies=2, name="b")
        self.assertFalse(self.n1.ask("gosd.rm", oid=oid, name="a")["gone"])
        self.assertTrue(self.n3.has(oid))
        done = self.n1.ask("gosd.rm", oid=oid)
        self.assertEqual((done["gone"], sorted(done["nodes"]), done["unreachable"]), (True, ["n1", "n2", "n3"], []))
        self.assertFalse(self.n2.has(oid) or self.n3.has(oid))
        with self.assertRaises(Refused) as caught:
            self.n1.ask("gosd.rm", oid=oid)
        self.assertEqual(caught.exception.status, NOT_FOUND)


class Refusals(GosdCase):
    def test_wrong_key_and_unknown_object_are_told_apart(self):
        oid = self.n1.put(self.image("key"))["oid"]
        with self.assertRaises(Refused) as caught:
            self.n1.get(oid, self.out(), key=bytes(32))
        self.assertEqual(caught.exception.status, DENIED)
        self.assertIn("wrong key", caught.exception.text)
        with self.assertRaises(Refused) as caught:
            self.n1.get(bytes(32), self.out())
        self.assertEqual(caught.exception.status, NOT_FOUND)

    def test_files_are_for_the_group_only(self):
        image = self.image("mode")
        out = self.out()
        self.n1.get(self.n1.put(image)["oid"], out)
        for name in os.listdir(out):
            status = os.stat(os.path.join(out, name))
            self.assertEqual((status.st_mode & 0o777, status.st_gid), (0o640, clusters.FIRST_ID))

    def test_strangers_at_the_bulk_port_get_nothing(self):
        """From the client's address, which no peer has; and from a peer's, without a ticket."""
        probe = ("import socket,sys,os\n"
                 "s=socket.create_connection((sys.argv[1],7415),60); s.settimeout(4)\n"
                 "try:\n s.sendall(b'GDNBULK1'+os.urandom(16)+os.urandom(100000))\n print(len(s.recv(10)))\n"
                 "except OSError: print(0)")
        for source in ("client", "n2"):
            done = self.cluster.run(source, ["python3", "-c", probe, self.cluster.address("n1")], capture_output=True, text=True)
            self.assertEqual(done.stdout.strip(), "0", done.stderr)
        self.n1.hello()

    def test_bad_requests_are_refused_and_nothing_breaks(self):
        pid = self.n1.hello()["pid"]
        for name, body in (("gosd.put", {}), ("gosd.put", {"path": 7}), ("gosd.put", {"path": "x" * 5000}),
                           ("gosd.put", {"path": "/etc", "key": b"short"}), ("gosd.get", {"oid": b"1", "path": "/tmp/x"}),
                           ("gosd.commit", {"ticket": bytes(16)}), ("gosd.put", {"path": "relative"})):
            with self.assertRaises(Refused, msg=f"{name} {body}"):
                self.n1.ask(name, **body)
        self.assertEqual(self.n1.hello()["pid"], pid)


class Repair(GosdCase):
    def test_a_corrupt_chunk_is_refused_and_repaired_from_another_node(self):
        image = self.image("repair")
        oid = self.n1.put(image, copies=1)["oid"]
        damage(self.n1.packs()[-1])
        answer = self.assert_gets(self.n1, oid, image)
        self.assertEqual(answer["nodes"], ["n2"])
        self.assertGreater(answer["fetched"], 0)
        found = self.n1.ask("gosd.verify", oid=oid)
        self.assertEqual((found["damaged"], found["missing"]), (0, 0))

    def test_verify_finds_and_repairs_what_nobody_asked_for(self):
        oid = self.n1.put(self.image("scrub"), copies=1)["oid"]
        damage(self.n2.packs()[-1])
        found = self.n2.ask("gosd.verify")
        self.assertEqual((found["damaged"], found["repaired"], found["broken"]), (1, 1, []))
        self.assertTrue(self.n2.has(oid))

    def test_damage_without_a_copy_names_object_file_and_offset(self):
        oid = self.n3.put(self.image("alone"))["oid"]
        damage(self.n3.packs()[-1])
        with self.assertRaises(Refused) as caught:
            self.n3.get(oid, self.out())
        self.assertIn(oid.hex(), caught.exception.text)
        self.assertEqual(self.n3.ask("gosd.verify", oid=oid)["broken"], [oid])
        self.n3.ask("gosd.rm", oid=oid)


class Scrubbing(GosdCase):
    CONFIG = ""  # as shipped: it begins with the daemon

    def test_damage_that_nobody_asks_for_is_found_and_repaired(self):
        oid = self.n2.put(self.image("forgotten"), self.random.randbytes(32), copies=1)["oid"]
        quarantine = os.path.join(self.n2.store(), "quarantine")
        before = set(os.listdir(quarantine))
        damage(self.n2.packs()[-1])
        self.n2.kill()
        clusters.wait_for("the damage to be found", lambda: set(os.listdir(quarantine)) - before, 2 * PATIENCE_S)
        self.n2.wait_ready()
        clusters.wait_for("the object to be whole again", lambda: self.n2.has(oid), 4 * PATIENCE_S)
        found = self.n2.ask("gosd.verify", oid=oid, repair=False)
        self.assertEqual((found["damaged"], found["missing"]), (0, 0))


class Kills(GosdCase):
    def put_until_told(self, image, acknowledged):
        try:
            acknowledged.append(self.n1.put(image, timeout_s=4, copies=1)["oid"])
        except (Refused, zmq.ZMQError):
            pass

    def test_kill_9_during_puts_loses_nothing_acknowledged_and_shows_nothing_half(self):
        acknowledged, images = [], {}
        for i in range(8):
            image = self.image(f"kill-{i}", megabytes=12)
            victim = self.random.choice((self.n1, self.n2))
            known = len(acknowledged)
            putter = threading.Thread(target=self.put_until_told, args=(image, acknowledged))
            putter.start()
            time.sleep(self.random.uniform(0, 0.5))
            victim.kill()
            putter.join()
            if len(acknowledged) > known:
                images[acknowledged[-1]] = image
            self.n1.wait_ready()
            self.n2.wait_ready()
        print(f"# {len(acknowledged)} of 8 puts acknowledged", file=sys.stderr)
        for oid, image in images.items():
            self.assertTrue(self.n1.has(oid) and (self.n2.has(oid) or self.n3.has(oid)))
            self.assert_gets(self.n1, oid, image)
        for gosd in (self.n1, self.n2, self.n3):
            self.assertEqual(gosd.ask("gosd.verify", repair=False)["broken"], [])
            self.assertEqual([name for name in gosd.packs() if not name.endswith(".pack")], [])


class Size(GosdCase):
    def test_a_large_object_streams_through_little_memory(self):
        path = os.path.join(self.files, "large")
        os.mkdir(path)
        with open(os.path.join(path, "pages-1.img"), "wb") as file:
            for _ in range(256):
                file.write(self.random.randbytes(1 << 20) + bytes(3 << 20))
        begin = time.monotonic()
        done = self.n1.put(path, copies=1)
        put_s = time.monotonic() - begin
        self.assertTrue(any(notice["stage"] == "copy" for notice in self.n1.notices))
        begin = time.monotonic()
        self.assert_gets(self.n3, done["oid"], path)
        get_s = time.monotonic() - begin
        peak = {gosd.node: self.peak_mb(gosd) for gosd in (self.n1, self.n2, self.n3)}
        print(f"# 1 GiB: put with a copy {put_s:.1f} s, fetch and get {get_s:.1f} s, peak MiB {peak}", file=sys.stderr)
        self.assertLess(max(peak.values()), 64 + suite.KEPT_KB // 1024)

    def peak_mb(self, gosd):
        status = self.cluster.run(gosd.node, ["cat", f"/proc/{gosd.hello()['pid']}/status"], capture_output=True, text=True)
        return next(int(line.split()[1]) // 1024 for line in status.stdout.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    suite.main(sys.argv[2:])
