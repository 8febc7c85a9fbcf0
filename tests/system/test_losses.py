#!/usr/bin/env python3
"""Several failures at once on five real nodes (tools/cluster.py): what each service is left with, and what it waits for.

usage: test_losses.py BUILD_DIR [TEST ...]

Two nodes lose their power in one moment, one of them the coordinator; a process of a service on a third one dies with them; and the
first node on which something is being restored is killed while it does. Two of the three voters are left. Then one of these goes, too,
and nothing is decided any more until it is back. The tests follow the services' lives: their order matters.

Which node plays which part depends on who coordinates (`Losses.cast`). Images go to the next nodes in the order of the configuration.
"""
import itertools
import os
import sys
import threading
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import cluster as clusters  # noqa: E402
import scenario  # noqa: E402
import suite  # noqa: E402

BUILD = sys.argv.pop(1) if len(sys.argv) > 1 else os.path.join(TREE, "build")
NODES = ("n1", "n2", "n3", "n4", "n5")
VOTERS = ("n1", "n3", "n5")
CONFIGURATION = f"[metad]\nvoters = {' '.join(VOTERS)}\n[fdd]\ninterval_ms = 250\n" \
    "[migrated]\nrestarts = 50\nbackoff_max_ms = 2000\n"  # a slow machine makes a try in vain, which is no reason to give a service up
PATIENCE_S = 120  # the longest wait for what must come
STEPS = 20


def wait_until(what, condition):
    return clusters.wait_for(what, condition, PATIENCE_S, 0.05, AssertionError)


class Losses(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory, cls.cluster = suite.new_cluster("dst-losses", cls.addClassCleanup)
        cls.cluster.up(BUILD, nodes=len(NODES), config_extra=CONFIGURATION)
        scenario.wait_ready(cls.cluster, NODES)
        cls.bundle = scenario.make_bundle(directory)
        cls.cast()
        # What is lost with its node; each of the group has a node of its own while there is one, that of the pair always.
        cls.services = {"group-1": (cls.first, "--group", "group"), "group-2": (cls.left[0], "--group", "group"),
                        "group-3": (cls.left[1], "--group", "group"), "pair-1": (cls.second, "--group", "pair", "--apart"),
                        "pair-2": (cls.left[0], "--group", "pair", "--apart"), "ends": (cls.left[1],), "alone": (cls.first,), "aged": (cls.first,)}
        cls.addresses = {name: f"10.77.0.{100 + i}" for i, name in enumerate(cls.services)}
        for name, (node, *more) in cls.services.items():
            cls.run_ve(name, node, "1" if name in ("alone", "aged") else "3", *more)
        cls.least = {name: wait_until(f"{name} to count", lambda n=name: cls.count(n)) for name in cls.services}
        for name in cls.services:
            wait_until(f"a checkpoint of {name}", lambda n=name: cls.depctl("ckpt", "create", n, check=False))
        wait_until("an image of it on these two nodes only", cls.captured_alone)
        cls.older, cls.older_count = wait_until("the newest image on these two nodes only, and an older one elsewhere, too", cls.captured_aged)
        cls.epochs = {name: fact["epoch"] for name, fact in cls.facts().items()}
        cls.checkpoints = {name: cls.newest(name)["id"] for name in cls.services}

    @classmethod
    def cast(cls):
        """The coordinator and its neighbour die first, then a third one; two voters are left, the majority of three."""
        coordinator = wait_until("a coordinator", lambda: next(
            (m["node"] for m in cls.depctl("node", "ls", check=False) or [] if m["coordinator"]), None))
        at = NODES.index(coordinator)
        pairs = [(coordinator, NODES[(at + 1) % len(NODES)]), (NODES[at - 1], coordinator)]
        for (cls.first, cls.second), cls.third in itertools.product(pairs, NODES):
            cls.left = [n for n in VOTERS if n not in (cls.first, cls.second, cls.third)]
            if cls.third not in (cls.first, cls.second) and len(cls.left) == 2:
                break
        print(f"# coordinator {coordinator}; lost: {cls.first} {cls.second}, then {cls.third}; left: {' '.join(cls.left)}", flush=True)

    @classmethod
    def run_ve(cls, name, node, copies, *more):
        wait_until(f"{name} to be placed", lambda: cls.depctl(
            "ve", "run", name, cls.bundle, "--address", f"{cls.addresses[name]}/24", "--node", node, "--interval", "0s", "--copies", copies,
            *more, check=False) or name in cls.facts())

    @classmethod
    def captured_alone(cls):
        """Each is there, as the second node is the next one, unless that was slow then; then new ones push it out of the list."""
        made = [c for c in cls.depctl("ckpt", "ls", "alone", check=False) or [] if c["ve"] == "alone"]
        if made and all(set(c["replicas"]) | {c["node"]} == {cls.first, cls.second} for c in made):
            return True
        cls.depctl("ckpt", "create", "alone", check=False)
        return False

    @classmethod
    def captured_aged(cls):
        """The checkpoint that is left when the nodes of the newest one are lost, and what had been counted before it; each of these is
        of the count's own time. The next node is passed over while its store stands still."""
        passed_over = [node for node in NODES if node not in (cls.first, *cls.left)]
        cls.signal_stores("STOP", passed_over)
        try:
            counted = cls.count("aged")
            made = cls.depctl("ckpt", "create", "aged", check=False)
        finally:
            cls.signal_stores("CONT", passed_over)
        if not counted or not made or not cls.count("aged"):
            return None
        cls.depctl("ckpt", "create", "aged", check=False)
        kept = [c for c in cls.depctl("ckpt", "ls", "aged", check=False) or [] if c["ve"] == "aged"]
        old = [c["id"] for c in kept if c["id"] == made["id"] and set(c["replicas"]) & set(cls.left)]
        alone = kept and set(kept[-1]["replicas"]) | {kept[-1]["node"]} <= {cls.first, cls.second}
        return (old[0], counted) if old and alone and kept[-1]["id"] > old[0] else None

    @classmethod
    def signal_stores(cls, which, nodes):
        for node in nodes:
            cls.cluster.run(node, ["pkill", f"-{which}", "-x", "gosd"])

    # ---- looking

    @classmethod
    def depctl(cls, *words, check=True):
        node = next(n for n in (*getattr(cls, "left", ()), *NODES) if cls.cluster.pid(n))
        return scenario.depctl(cls.cluster, node, *words, check=check)

    @classmethod
    def facts(cls):
        return {ve["name"]: ve for ve in cls.depctl("ve", "ls", check=False) or []}

    def fact(self, name):
        return wait_until(f"the placement of {name}", lambda: self.facts().get(name))

    @classmethod
    def newest(cls, name):
        return next((c for c in reversed(cls.depctl("ckpt", "ls", name, check=False) or []) if c["ve"] == name), None)

    @classmethod
    def count(cls, name):
        """Counts on in a service: the last value; None when it did not answer each time, each one above the last by one."""
        done = cls.cluster.run("client", ["timeout", "2", "redis-cli", "-h", cls.addresses[name], "-r", str(STEPS), "incr", "steps"],
                               capture_output=True, text=True)
        values = [int(word) for word in done.stdout.split() if word.isdigit()]
        return values[-1] if len(values) == STEPS and values == list(range(values[0], values[0] + STEPS)) else None

    def copies(self, name):
        """The nodes whose ved has one."""
        return [node for node in NODES if self.cluster.pid(node) and
                self.cluster.run(node, ["test", "-e", f"/run/depsys/ve/{name}"]).returncode == 0]

    def processes(self, node):
        return sorted(self.cluster.run(node, ["pidof", "redis-server"], capture_output=True, text=True).stdout.split())

    def assert_recovered(self, name):
        """It counts on, from where it was captured or later, and runs once: where its placement says."""
        value = wait_until(f"{name} to count on", lambda: self.count(name))
        self.assertGreaterEqual(value - STEPS, self.least[name], f"{name} is older than its last committed checkpoint")
        wait_until(f"one copy of {name}", lambda: self.copies(name) == [self.fact(name)["node"]])
        fact = self.fact(name)
        self.assertGreaterEqual(fact["epoch"], self.epochs[name])
        if fact["epoch"] > self.epochs[name]:
            self.assertGreaterEqual(fact["start_ckpt"], self.checkpoints[name])

    # ---- the losses

    def test_10_what_died_with_several_nodes_runs_again_on_those_that_are_left(self):
        lost = [threading.Thread(target=self.cluster.kill, args=(node,)) for node in (self.first, self.second)]
        for thread in lost:
            thread.start()
        self.cluster.run(self.left[1], ["sh", "-c", "kill -9 $(cat /run/depsys/ve/ends/pid)"])
        for thread in lost:
            thread.join()
        moved = ("group-1", "pair-1")
        wait_until("something to be restored on the third node", lambda: [
            fact for name, fact in self.facts().items() if name in moved and fact["node"] == self.third] or not self.waiting(moved))
        self.cluster.kill(self.third)
        for name in self.services:
            if name not in ("alone", "aged"):
                self.assert_recovered(name)
        for name in (*moved, "ends"):
            self.assertGreater(self.fact(name)["epoch"], self.epochs[name])
        pair = [self.fact(name)["node"] for name in ("pair-1", "pair-2")]
        self.assertEqual(sorted(pair), sorted(self.left), "the pair is on two nodes")

    def waiting(self, names):
        """Those that are still where they cannot run."""
        return [name for name in names if self.facts().get(name, {}).get("node") not in self.left]

    def test_20_one_whose_images_were_all_on_dead_nodes_waits_and_says_for_which(self):
        fact = wait_until("alone to wait", lambda: self.fact("alone")["node"] == "" and self.fact("alone"))
        for part in (" is on ", self.first, self.second, "none of which is alive"):
            self.assertIn(part, fact["reason"])
        self.assertEqual(self.copies("alone"), [])

    def test_25_one_whose_newest_image_is_away_for_long_goes_back_to_an_older_one(self):
        fact = wait_until("aged to be restored from it", lambda: self.fact("aged")["start_ckpt"] == self.older and self.fact("aged"))
        self.assertLess(fact["start_ckpt"], self.checkpoints["aged"])
        self.assertIn(fact["node"], (*self.left, ""))
        value = wait_until("aged to count on", lambda: self.count("aged"))
        self.assertGreaterEqual(value - STEPS, self.older_count)

    def test_30_without_a_majority_nothing_is_ended_and_the_status_says_why(self):
        stays, goes = self.left
        here = [name for name in self.services if self.copies(name) == [stays]]
        processes = self.processes(stays)
        self.assertEqual(len(processes), len(here))
        before = self.facts()
        self.cluster.kill(goes)

        def says_why():
            done = self.cluster.run(stays, ["depctl", "status"], capture_output=True, text=True)
            return "no quorum: metad has not answered" in done.stderr and "that are silent: " in done.stderr
        wait_until("the status to say why", says_why)
        self.assertTrue(here)
        wait_until("one to fall silent", lambda: not self.count(here[0]))
        # What is frozen is there still, and every placement is as it was.
        self.assertEqual(self.processes(stays), processes)
        known = wait_until("what is known there", self.facts)
        self.assertEqual({name: fact["epoch"] for name, fact in known.items()}, {name: fact["epoch"] for name, fact in before.items()})
        self.cluster.start(goes)
        for name in self.services:
            if name not in ("alone", "aged"):
                self.assert_recovered(name)
        wait_until("aged to count on", lambda: self.count("aged"))

    def test_40_what_waited_goes_on_when_a_node_with_its_image_is_back(self):
        self.cluster.start(self.second)
        self.assert_recovered("alone")
        self.assertEqual(self.fact("alone")["start_ckpt"], self.checkpoints["alone"])


if __name__ == "__main__":
    suite.main(sys.argv[1:])
