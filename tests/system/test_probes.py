#!/usr/bin/env python3
"""A web service as a VE, watched by its node's fdd as `depctl ve run --probe` says (tools/cluster.py).

usage: test_probes.py BUILD_DIR [TEST ...]

The service is stopped (SIGSTOP), killed, moved and ended; its node is well all the time.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import cluster as clusters  # noqa: E402

BUILD = sys.argv.pop(1) if len(sys.argv) > 1 else os.path.join(TREE, "build")
BASE = "dst-probes"
HTTP, TCP, PROCESS = "web/http:8080/health", "web/tcp:8080", "web/process"


def wait_until(what, condition, seconds=30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds:g} s")


class ProbesCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        clusters.sweep(BASE)
        cls.directory = tempfile.mkdtemp(prefix=BASE + "-")
        cls.cluster = clusters.Cluster(f"{BASE}-{os.getpid()}", os.path.join(cls.directory, "cluster"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, True)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up(BUILD, nodes=3, config_extra="[metad]\nvoters = n1 n2 n3\n[fdd]\ninterval_ms = 250\n")
        for node in ("n1", "n2", "n3"):
            wait_until(f"{node} is ready", lambda n=node: cls.is_ready(n), 60)
        cls.bundle = os.path.join(cls.directory, "bundle")
        subprocess.run([os.path.join(TREE, "tools", "bundle"), "--out", cls.bundle, "--program",
                        os.path.join(BUILD, "tests", "system", "web"), "--", "8080"], check=True)
        cls.depctl("ve", "run", "web", cls.bundle, "--address", "10.77.0.100/24", "--node", "n1", "--interval", "0s", "--copies",
                   "0", "--probe", "http:8080/health~well", "--probe", "tcp:8080", "--probe", "process",
                   "--probe-interval", "300ms")
        wait_until("all probes succeed", lambda: cls.states() == {HTTP: "alive", TCP: "alive", PROCESS: "alive"})

    @classmethod
    def depctl(cls, *words, node="n1", check=True):
        done = cls.cluster.run(node, ["depctl", "-o", "json", *words], capture_output=True, text=True)
        if done.returncode != 0 and check:
            raise AssertionError(f"depctl {' '.join(words)} on {node}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.returncode == 0 else None

    @classmethod
    def is_ready(cls, node):
        members = cls.depctl("node", "ls", node=node, check=False)
        return members and all(m["state"] == "alive" for m in members) and any(m["coordinator"] for m in members)

    @classmethod
    def services(cls, node="n1"):
        return {row["name"]: row for row in cls.depctl("fd", "ls", node=node) if row["kind"] == "service"}

    @classmethod
    def states(cls, node="n1"):
        return {name: row["state"] for name, row in cls.services(node).items()}

    def signal(self, which):
        done = self.cluster.run("n1", ["sh", "-c", f"kill -{which} $(cat /run/depsys/ve/web/pid)"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def events(self, topic, node="n1"):
        done = self.cluster.run(node, ["depctl", "-o", "jsonl", "events", "--since", "all", topic], capture_output=True, text=True)
        return [json.loads(line)["body"] for line in done.stdout.splitlines()]

    def test_10_a_hung_service_is_suspected_while_its_node_and_processes_are_not(self):
        self.signal("STOP")
        try:
            wait_until("the probe's suspicion", lambda: self.states()[HTTP] == "silent")
            suspicion = wait_until("the event", lambda: self.events("fd.service_suspect"))[-1]
            self.assertEqual((suspicion["name"], suspicion["ve"], suspicion["fault"]), (HTTP, "web", "no answer in time"))
            self.assertEqual((self.states()[TCP], self.states()[PROCESS]), ("alive", "alive"))
            self.assertEqual({row["name"]: row["state"] for row in self.depctl("fd", "ls", node="n2")},
                             {"n1": "alive", "n3": "alive"})
            self.assertEqual(self.events("fd.suspect", node="n2"), [])
        finally:
            self.signal("CONT")
        wait_until("its trust", lambda: self.states()[HTTP] == "alive")
        self.assertTrue(self.events("fd.service_trust"))

    def test_20_a_restarted_fdd_learns_the_probes_again(self):
        pid = self.depctl("status")["daemons"]
        before = next(row["pid"] for row in pid if row["daemon"] == "fdd")
        self.cluster.run("n1", ["kill", "-9", str(before)], check=True)
        wait_until("fdd asks again", lambda: len(self.depctl("fd", "ls", check=False) or []) == 4 and
                   set(self.states().values()) == {"alive"})

    def test_30_probes_end_with_their_ve(self):
        self.depctl("ve", "stop", "web")
        wait_until("nothing is probed", lambda: self.states() == {})


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v", *sys.argv[1:]])
