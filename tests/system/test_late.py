#!/usr/bin/env python3
"""A service goes on on nodes that were no members, or had another key, when it was started: real parts, signed membership.

usage: test_late.py BUILD_DIR

One cluster, one service that runs before the fourth node exists; the tests follow their life, so their order matters.
"""
import os
import shutil
import subprocess
import sys
import time
import unittest

import msgpack

HERE = os.path.dirname(os.path.realpath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TREE, "tools"))
import intruder  # noqa: E402
import scenario  # noqa: E402
import suite  # noqa: E402

BASE = "dst-late"
BUILD = os.path.join(TREE, "build")
VE = scenario.VE
NODES = ["n1", "n2", "n3"]
PATIENCE_S = 60.0
SWEEP = "[migrated]\nkeys_ms = 1000\n"


def wait_until(what, condition, seconds=PATIENCE_S):
    return scenario.wait_until(what, condition, seconds)


class Late(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory, cls.cluster = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.admin = os.path.join(cls.directory, "admin.key")
        made = subprocess.run([os.path.join(BUILD, "depctl", "depctl"), "key", "admin-new", cls.admin], capture_output=True, text=True, check=True)
        cls.config = f"[node]\nadmin = {made.stdout.strip()}\n{scenario.CONFIGURATION}{SWEEP}"
        cls.cluster.up(BUILD, nodes=3, config_extra=cls.config)
        scenario.wait_ready(cls.cluster)
        bundle = scenario.make_bundle(cls.directory)
        cls.depctl("n1", "ve", "run", VE, bundle, "--address", f"{scenario.ADDRESS}/24", "--node", "n3", "--interval", "0s", "--copies", "1")
        cls.record = scenario.Record(os.path.join(cls.directory, "record"))
        client = scenario.start_client(cls.cluster, cls.record.path)
        cls.addClassCleanup(client.wait)
        cls.addClassCleanup(client.terminate)
        wait_until("the first increment", lambda: os.path.exists(cls.record.path) and cls.record.lines())

    @classmethod
    def depctl(cls, node, *words, check=True):
        return scenario.depctl(cls.cluster, node, *words, check=check)

    # ---- looking

    def fact(self, node):
        listed = self.depctl(node, "ve", "ls", check=False) or []
        return next((ve for ve in listed if ve["name"] == VE), {"node": None, "epoch": 0})

    def holders(self, node):
        shown = self.depctl(node, "ve", "show", VE, check=False) or {}
        return {holder["node"]: holder["key"] for holder in shown.get("holders", [])}

    def states(self, node):
        return {m["node"]: m["state"] for m in self.depctl(node, "node", "ls", check=False) or []}

    def coordinator(self, node):
        return wait_until("a coordinator", lambda: next((m["node"] for m in self.depctl(node, "node", "ls", check=False) or []
                                                         if m["coordinator"] and self.cluster.pid(m["node"])), None))

    def key_fact(self, node):
        """The fact as metad has it, and its version."""
        got = self.ask_metad(node, "metad.get", {"key": f"key/{VE}"})["entry"]
        return msgpack.unpackb(got["d"]), got["v"]

    def ask_metad(self, node, name, body):
        """Its answer, as soon as it has one that is not an error: now and then nobody leads."""
        path = f"/proc/{self.cluster.pid(node)}/root/run/depsys/metad.rpc"

        def answer():
            with intruder.caller(f"ipc://{path}") as caller:
                caller.send_multipart(intruder.request(name, msgpack.packb(body)))
                self.assertTrue(caller.poll(60000), f"metad of {node} does not answer")
                header, told = (msgpack.unpackb(frame) for frame in caller.recv_multipart())
            return None if header.get("s") else told
        return wait_until(f"{name} of {node}", answer)

    def said(self, node, text):
        path = os.path.join(self.cluster.node_directory(node), "log", "migrated", "current")
        with open(path, encoding="utf-8", errors="replace") as log:
            return [line for line in log if text in line]

    # ---- acting

    def checkpoint_at(self, home, replica):
        """Makes a checkpoint whose image is at that node only, beside where the service runs: no other can take it."""
        def made():
            if not self.depctl(replica, "ckpt", "create", VE, check=False):
                return None
            last = [c for c in self.depctl(replica, "ckpt", "ls", VE, check=False) or [] if c["ve"] == VE][-1]
            return last["replicas"] == [replica]
        others = [name for name in NODES if name not in (home, replica)]
        try:
            for name in others:
                self.cluster.run(name, ["sh", "-c", "kill -STOP $(pidof gosd)"], check=True)
            wait_until(f"a checkpoint whose image is on {replica}", made)
        finally:
            for name in others:
                self.cluster.run(name, ["sh", "-c", "kill -CONT $(pidof gosd)"], check=True)

    def fail_over(self, lost, to):
        """Cuts the power of the service's node; it goes on from the last checkpoint, on the node that has the image."""
        witness = next(name for name in NODES if name not in (lost, to))
        wait_until(f"the service on {lost}", lambda: self.fact(witness)["node"] == lost)
        least = self.record.lines()[-1][1]
        self.checkpoint_at(lost, to)
        self.cluster.kill(lost)
        killed = time.monotonic_ns()
        wait_until(f"answers from {to}", lambda: len([line for line in self.record.lines() if line[0] > killed]) > 5)
        after = [line for line in self.record.lines() if line[0] > killed]
        self.assertGreaterEqual(after[0][1], least)
        wait_until(f"its placement on {to}", lambda: (self.fact(witness)["node"], self.fact(witness).get("want")) == (to, "run"))
        print(f"# outage_ms={(after[0][0] - killed) // 10 ** 6}", flush=True)
        wait_until("a checkpoint where it runs now", lambda: self.depctl(to, "ckpt", "create", VE, check=False))

    def bring_record(self, node, where):
        """What is said of a node, from another node's disk to its own: the connections of who is revoked may be cut before it hears."""
        source, target = (os.path.join(self.cluster.node_directory(name), "var", "members", node) for name in (where, node))
        wait_until("the record", lambda: os.path.exists(source))
        shutil.copy(source, target + ".tmp")
        self.cluster.run(node, ["sh", "-c", f"cd /var/lib/depsys/members && chown depsys-gossipd:depsys {node}.tmp && mv {node}.tmp {node}"], check=True)

    # ---- the life of the service

    def test_10_a_node_that_joins_is_given_the_key_of_a_service_that_runs(self):
        wait_until("all have the key", lambda: self.holders("n1") == dict.fromkeys(NODES, "holds"))
        key = self.cluster.add_node(BUILD, "n4", 4, self.config)
        wait_until("gossipd of n4", lambda: self.states("n4"))
        self.depctl("n4", "node", "join", self.cluster.address("n1"), "--server-key", self.cluster.nodes["n1"]["public_key"])
        wait_until("n4 waits at n1", lambda: [row["public_key"] for row in self.depctl("n1", "key", "pending")] == [key])
        self.depctl("n1", "key", "allow", "n4", "--admin-key", self.admin)
        NODES.append("n4")
        wait_until("n4 is a member", lambda: all(self.states(n) == dict.fromkeys(NODES, "alive") for n in NODES))
        for name in NODES:
            wait_until(f"{name} sees that all have the key", lambda n=name: self.holders(n) == dict.fromkeys(NODES, "holds"))

    def test_15_a_node_with_a_service_leaves_only_when_that_is_meant(self):
        done = self.cluster.run("n3", ["depctl", "node", "leave"], capture_output=True, text=True)
        self.assertEqual((done.returncode, f"{VE} runs here" in done.stderr), (1, True), done.stderr)
        wait_until("it to be alive still", lambda: self.states("n1").get("n3") == "alive")

    def test_20_the_service_goes_on_on_the_node_that_joined(self):
        self.fail_over("n3", "n4")
        self.cluster.start("n3")
        wait_until("n3 is back", lambda: self.states("n1").get("n3") == "alive" and self.states("n3").get("n1") == "alive")

    def test_30_a_coordinator_without_the_key_asks_who_holds_it(self):
        where = self.coordinator("n1")

        def taken():
            fact, version = self.key_fact(where)
            fact["keys"] = [seal for seal in fact["keys"] if seal["node"] == ("n1" if where == "n4" else "n4")]
            op = {"k": f"key/{VE}", "o": "put", "e": version, "d": msgpack.packb(fact)}
            return self.ask_metad(where, "metad.txn", {"ops": [op]})["result"] == "applied"
        wait_until("the keys to be taken away", taken)
        wait_until("all have the key again", lambda: self.holders("n1") == dict.fromkeys(NODES, "holds"))
        self.assertTrue(any(self.said(name, "key given") for name in NODES), "nobody was asked")

    def test_40_the_service_goes_on_on_a_node_whose_key_was_rotated(self):
        to = "n2"
        self.depctl(to, "key", "rotate", "--admin-key", self.admin, "--overlap", "1s")
        wait_until(f"{to} has the key by its new node key", lambda: self.holders(to) == dict.fromkeys(NODES, "holds") and
                   all(self.states(n) == dict.fromkeys(NODES, "alive") for n in NODES))
        # Without what it had before, only the new seal can be opened.
        self.cluster.run(to, ["sh", "-c", "rm /etc/depsys/node.key.old; kill -9 $(pidof migrated) $(pidof ckptd)"], check=True)
        wait_until("its daemons are back", lambda: (self.depctl(to, "status", check=False) or {}).get("all_up"))
        self.fail_over("n4", to)

    def test_50_a_revoked_node_has_no_seal_any_more(self):
        NODES.remove("n4")
        self.depctl("n1", "key", "revoke", "n4", "--admin-key", self.admin)
        wait_until("the seals of n4 are gone", lambda: {seal["node"] for seal in self.key_fact("n1")[0]["keys"]} == set(NODES))

    def test_60_what_runs_on_a_revoked_node_ends_there_and_goes_on_elsewhere(self):
        where = "n2"
        wait_until(f"the service on {where}", lambda: self.fact("n1")["node"] == where)
        wait_until("a checkpoint", lambda: self.depctl("n1", "ckpt", "create", VE, check=False))
        NODES.remove(where)
        self.depctl("n1", "key", "revoke", where, "--admin-key", self.admin)
        self.bring_record(where, "n1")
        fact = wait_until("another placement", lambda: self.fact("n1")["node"] in NODES and self.fact("n1"))
        self.assertEqual(fact["want"], "run")
        self.assertIn(fact["reason"], (f"node {where} is revoked", f"node {where} has left"))
        wait_until("the copy on the revoked node to end", lambda: self.cluster.run(where, ["pidof", "redis-server"], capture_output=True).returncode)
        now = time.monotonic_ns()
        wait_until("answers", lambda: self.record.lines()[-1][0] > now)
        self.assertEqual(self.cluster.run(fact["node"], ["pidof", "redis-server"], capture_output=True).returncode, 0)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        BUILD = os.path.realpath(sys.argv.pop(1))
    suite.main(sys.argv[1:], failfast=True)
