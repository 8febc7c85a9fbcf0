#!/usr/bin/env python3
"""The fence of a VE (ved/fence.h), built by BPF and by nf_tables, on real nodes (tools/cluster.py): the same must hold for both.

usage: test_fence.py BUILD_DIR [TEST ...]

A prober asks the VE from another node all the time. What counts is when it asked: an answer to what was asked after the deadline is
a fence that is open, however late the answer came and whatever stood still meanwhile.
"""
import os
import shutil
import sys
import threading
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import cluster as clusters  # noqa: E402
import suite  # noqa: E402
from test_ved import BUILD, DENIED, Failure, PATIENCE_S, Ved, VedCase, bundle_id  # noqa: E402

BASE = "dst-fence"
KINDS = {"n1": "bpf", "n2": "nft", "n3": "none"}
LONG_NS, SHORT_NS = 600 * 10**9, 2 * 10**9

PROBE = ("import socket, sys, time\n"
         "while True:\n"
         "    try:\n"
         "        with socket.create_connection((sys.argv[1], 6379), 0.2) as s:\n"
         "            s.settimeout(0.2)\n"
         "            while True:\n"
         "                asked = time.clock_gettime_ns(time.CLOCK_BOOTTIME)\n"
         "                s.sendall(b'PING\\r\\n')\n"
         "                if not s.recv(64).startswith(b'+PONG'):\n"
         "                    break\n"
         "                print(asked, flush=True)\n"
         "                time.sleep(0.001)\n"
         "    except OSError:\n"
         "        time.sleep(0.01)\n")


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Prober:
    """Asks the VE again and again; when it asked what was answered (CLOCK_BOOTTIME, which all nodes share here)."""

    def __init__(self, cluster, node, address):
        self.asked = []
        self.process = cluster.popen(node, ["/usr/bin/python3", "-c", PROBE, address], stdout=-1, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.asked.append(int(line))

    def answered_since(self, ns):
        return [asked for asked in self.asked if asked >= ns]

    def close(self):
        self.process.kill()
        self.process.wait()


class Fence(VedCase):
    @classmethod
    def setUpClass(cls):
        cls.directory, cls.cluster = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.cluster.up(BUILD, nodes=3, services=("busd", "ved"))
        cls.veds = {node: Ved(cls.cluster, node) for node in KINDS}
        cls.n1, cls.n2 = cls.veds["n1"], cls.veds["n2"]
        for ved in cls.veds.values():
            ved.ask("common.hello", timeout_s=PATIENCE_S)
        cls.bundle("redis", "/usr/bin/redis-server", "--user", "redis", "--dir", "/data:redis", "--", "--dir", "/data", "--save", "",
                   "--protected-mode", "no")
        shutil.copytree(cls.n1.images("redis"), cls.veds["n3"].images("redis"))
        for node, kind in KINDS.items():
            cls.set_fence(node, kind)

    @classmethod
    def set_fence(cls, node, kind):
        path = os.path.join(cls.cluster.node_directory(node), "etc", "depsys.conf.d", "60-fence.conf")
        clusters.write(path, f"[ved]\nfence = {kind}\n")
        cls.veds[node].kill()

    def setUp(self):
        super().setUp()
        self.epoch = self.fresh_epoch()

    def start(self, node, later=0, until_ns=1, **more):
        """later: epochs after the first one of the test; until_ns: a deadline that is long over, unless it is said."""
        return self.veds[node].ask("ved.start", name="fenced", epoch=self.epoch + later, bundle=bundle_id("redis"), address="10.77.0.60/24",
                                   bundle_dir="/run/depsys/images/redis", until_ns=until_ns, **more)

    def arm(self, node, until_ns, later=0):
        return self.veds[node].ask("ved.arm", name="fenced", epoch=self.epoch + later, until_ns=until_ns)

    def arm_shortly(self, node):
        """Until when: the deadline was set before it came, also when this machine stood still meanwhile."""
        until = armed = 0
        while armed >= until:
            until = now_ns() + SHORT_NS
            self.arm(node, until)
            armed = now_ns()
        return until

    def stop(self, node):
        self.veds[node].ask("ved.stop", name="fenced", epoch=self.epoch + 5, silent=True)

    def for_each_kind(self, check):
        """A VE behind a closed fence of each kind, and its prober; check(node, prober) is the test."""
        for node in ("n1", "n2"):
            with self.subTest(fence=KINDS[node]):
                self.start(node)
                prober = Prober(self.cluster, "client", "10.77.0.60")
                try:
                    self.assertEqual(self.veds[node].list()["fenced"]["fence"], KINDS[node])
                    check(node, prober)
                finally:
                    prober.close()
                    self.stop(node)

    def wait_answer(self, prober, since_ns):
        clusters.wait_for("an answer of the VE", lambda: prober.answered_since(since_ns), PATIENCE_S, error=AssertionError)

    def wait_dropped(self, node, until_ns, later=0):
        """Evidence that it is not silent by itself: the fence drops what it would say."""
        before = self.arm(node, until_ns, later)["dropped"]
        clusters.wait_for("the fence to drop a packet", lambda: self.arm(node, until_ns, later)["dropped"] > before, PATIENCE_S, 0.05,
                          AssertionError)

    def test_a_ve_is_not_heard_before_its_lease_is_set_and_then_until_its_end(self):
        def check(node, prober):
            self.wait_dropped(node, 1)
            self.assertEqual(prober.asked, [])
            self.arm(node, now_ns() + LONG_NS)
            self.wait_answer(prober, 0)
            until = self.arm_shortly(node)  # a lease may also be made shorter
            clusters.wait_for("the end of the lease", lambda: now_ns() > until, PATIENCE_S)
            self.wait_dropped(node, until)
            self.assertEqual(prober.answered_since(until), [])
        self.for_each_kind(check)

    def test_the_fence_closes_with_ved_stopped_and_killed_and_opens_again(self):
        def check(node, prober):
            ved = self.veds[node]
            for signal in ("STOP", "KILL"):
                self.arm(node, now_ns() + LONG_NS)
                self.wait_answer(prober, now_ns())
                until = self.arm_shortly(node)
                pid = ved.pid()
                self.cluster.run(node, ["kill", "-" + signal, str(pid)], check=True)
                clusters.wait_for("the time after the lease", lambda end=until: now_ns() > end + SHORT_NS // 4, PATIENCE_S)
                if signal == "STOP":
                    self.cluster.run(node, ["kill", "-CONT", str(pid)], check=True)
                self.wait_dropped(node, until)
                self.assertEqual(prober.answered_since(until), [], signal)
            self.arm(node, now_ns() + LONG_NS)
            self.wait_answer(prober, now_ns())
        self.for_each_kind(check)

    def test_a_higher_epoch_begins_behind_a_closed_fence_and_the_old_copy_is_gone(self):
        def check(node, prober):
            self.arm(node, now_ns() + LONG_NS)
            self.wait_answer(prober, now_ns())
            old = self.veds[node].list()["fenced"]["pid"]
            self.start(node, later=1)
            began = now_ns()
            self.assertNotEqual(self.cluster.run(node, ["test", "-e", f"/proc/{old}/exe"]).returncode, 0)
            with self.assertRaises(Failure) as failure:
                self.arm(node, now_ns() + LONG_NS)
            self.assertEqual(failure.exception.status, DENIED)
            self.wait_dropped(node, 1, later=1)
            self.assertEqual(prober.answered_since(began), [])
            self.arm(node, now_ns() + LONG_NS, later=1)
            self.wait_answer(prober, began)
        self.for_each_kind(check)

    def test_a_node_without_a_fence_refuses_leases_unless_the_coordinator_knows_it(self):
        with self.assertRaises(Failure) as failure:
            self.start("n3", until_ns=now_ns() + LONG_NS)
        self.assertEqual(failure.exception.status, DENIED)
        self.assertIn("[ved] fence = none", failure.exception.text)
        self.start("n3", until_ns=1, unfenced=True)
        try:
            prober = Prober(self.cluster, "client", "10.77.0.60")
            self.addCleanup(prober.close)
            self.wait_answer(prober, 0)
            self.assertEqual(self.veds["n3"].list()["fenced"]["fence"], "none")
        finally:
            self.stop("n3")

    def test_where_bpf_is_forbidden_nft_is_taken_and_said(self):
        link = os.path.join(self.veds["n3"].root, "run", "bin", "ved")
        program = os.readlink(link)
        os.unlink(link)
        clusters.write(link, f"#!/bin/sh\nexec {os.path.abspath(BUILD)}/tests/system/nobpf {program} \"$@\"\n", 0o755)
        try:
            self.set_fence("n3", "bpf")
            with self.assertRaises(Failure) as failure:
                self.start("n3", until_ns=now_ns() + LONG_NS)
            self.assertIn("bpf: ", failure.exception.text)
            self.set_fence("n3", "auto")
            self.assertEqual(self.veds["n3"].ask("ved.list")["fence"], "nft")
            self.start("n3", until_ns=now_ns() + LONG_NS)
            prober = Prober(self.cluster, "client", "10.77.0.60")
            self.addCleanup(prober.close)
            self.wait_answer(prober, 0)
            self.wait_dropped("n3", 1)
        finally:
            os.unlink(link)
            os.symlink(program, link)
            self.set_fence("n3", "none")
            self.stop("n3")


if __name__ == "__main__":
    suite.main(sys.argv[1:])
