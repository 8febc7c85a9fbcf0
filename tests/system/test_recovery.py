#!/usr/bin/env python3
"""The whole chain on three real nodes (tools/cluster.py): redis runs as a VE, is checkpointed, and outlives what is done to it.

usage: test_recovery.py BUILD_DIR [TEST ...]

One service, one client that counts over TCP and writes down every acknowledged value; the tests follow the service's life, so
their order matters and each leaves it running.
"""
import os
import random
import subprocess
import sys
import time
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import cluster as clusters  # noqa: E402
import scenario  # noqa: E402
import suite  # noqa: E402
from scenario import Pace, Record  # noqa: E402

BUILD = sys.argv.pop(1) if len(sys.argv) > 1 else os.path.join(TREE, "build")
BASE = "dst-recovery"
ADDRESS, OTHER = "10.77.0.100", "10.77.0.101"
INTERVAL_S = 1.0
KILLS_MIN, LOST_MIN, KILLS_MAX = 8, 2, 60
HOLD_S = 4.0  # ved thaws what nobody comes back for: twice ckptd's hold_ms
SLACK_S = 15.0  # of the machine, for what has a limit
PATIENCE_S = 90.0  # the longest wait for what must come
CONFIGURATION = "[metad]\nvoters = n1 n2 n3\n[fdd]\ninterval_ms = 250\n"
NODES = ("n1", "n2", "n3")
DAEMONS = ("busd", "metad", "fdd", "gossipd", "gosd", "ved", "ckptd", "migrated", "webd")


def wait_until(what, condition, seconds=PATIENCE_S):
    return clusters.wait_for(what, condition, seconds, 0.05, AssertionError)


class Counting:
    """tools/demo-client in the client's node: one line for each acknowledged value, with the monotonic time."""

    def __init__(self, cluster, path, address=ADDRESS):
        self.path, self.record = path, Record(path)
        self.process = cluster.popen("client", [os.path.join(TREE, "tools", "demo-client"), address, "6379", path],
                                     stdin=subprocess.DEVNULL)

    def lines(self):
        return self.record.lines()

    def since(self, ns):
        return [line for line in self.lines() if line[0] > ns]

    def last(self):
        return self.lines()[-1][1]

    def close(self):
        self.process.terminate()
        self.process.wait()


class RecoveryCase(unittest.TestCase):
    """Three nodes, one service, its client; what tests of it ask and wait for."""

    configuration = CONFIGURATION

    @classmethod
    def setUpClass(cls):
        cls.pace = Pace()
        cls.directory, cls.cluster = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.cluster.up(BUILD, nodes=3, config_extra=cls.configuration)
        scenario.wait_ready(cls.cluster)
        cls.bundle = scenario.make_bundle(cls.directory)
        cls.run_ve("counter", ADDRESS, "n1")
        cls.counting = Counting(cls.cluster, os.path.join(cls.directory, "record"))
        cls.addClassCleanup(lambda: cls.counting.close())
        wait_until("the first increment", lambda: os.path.exists(cls.counting.path) and cls.counting.lines())
        cls.random = random.Random(int(os.environ.get("SEED", "1")))

    @classmethod
    def depctl(cls, node, *words, check=True):
        return scenario.depctl(cls.cluster, node, *words, check=check)

    @classmethod
    def run_ve(cls, name, address, node, interval=f"{INTERVAL_S:g}s"):
        cls.depctl("n1", "ve", "run", name, cls.bundle, "--address", f"{address}/24", "--node", node, "--interval", interval,
                   "--copies", "1")

    def setUp(self):
        self.began_ns = time.monotonic_ns()

    # ---- looking

    def up(self):
        return [node for node in NODES if self.cluster.pid(node)]

    def any_node(self):
        return self.up()[0]

    def fact(self, name="counter"):
        def one():
            listed = self.depctl(self.any_node(), "ve", "ls", check=False) or []
            return next((ve for ve in listed if ve["name"] == name), None)
        return wait_until(f"the placement of {name}", one)

    def checkpoints(self, name="counter"):
        """Those kept, once somebody can say it: not while the store has no leader."""
        found = wait_until("the checkpoints", lambda: [self.depctl(self.any_node(), "ckpt", "ls", name, check=False)] != [None] and
                           [self.depctl(self.any_node(), "ckpt", "ls", name, check=False)])
        return [c for c in found[0] or [] if c["ve"] == name]

    def coordinator(self):
        def one():
            members = self.depctl(self.any_node(), "node", "ls", check=False) or []
            return next((m["node"] for m in members if m["coordinator"] and self.cluster.pid(m["node"])), None)
        return wait_until("a coordinator", one)

    def wait_checkpoint(self, newer_than=0, name="counter", seconds=PATIENCE_S):
        def newer():
            found = self.checkpoints(name)
            return found and found[-1]["id"] > newer_than and found[-1]
        return wait_until(f"a checkpoint of {name} above {newer_than:x}", newer, seconds)

    def next_checkpoint(self, name="counter", seconds=PATIENCE_S):
        found = self.checkpoints(name)
        return self.wait_checkpoint(found[-1]["id"] if found else 0, name, seconds)

    def wait_answers(self, seconds=PATIENCE_S):
        now = time.monotonic_ns()
        wait_until("the service to answer", lambda: len(self.counting.since(now)) > 5, seconds)

    def checkpoint_now(self):
        """Makes one; what the client had seen before it was asked for is in it."""
        def made():
            seen = self.counting.last()
            return self.depctl(self.any_node(), "ckpt", "create", "counter", check=False) and seen
        return wait_until("a checkpoint on request", made)

    def assert_untouched(self, worst_s=0.0):
        """The same copy all the time: no value twice, none going back; and no silence that the machine did not make longer than
        worst_s and some slack."""
        lines = self.counting.since(self.began_ns)
        for (at, value), (later, following) in zip(lines, lines[1:]):
            self.assertGreater(following, value, "the count went back: another copy answered")
            self.assertLess(self.pace.ran(at / 1e9, later / 1e9), worst_s + SLACK_S, "the service stood still for too long")
        self.assertGreater(len(lines), 10)
        worst = max(later - at for (at, _), (later, _) in zip(lines, lines[1:]))
        print(f"# longest_silence_ms={worst // 1000000}", flush=True)

    def pid(self, node, daemon):
        out = self.cluster.run(node, ["pidof", daemon], capture_output=True, text=True).stdout.split()
        return int(out[0]) if out else None

    def kill_daemon(self, node, daemon):
        pid = self.pid(node, daemon)
        if pid:
            self.cluster.run(node, ["kill", "-9", str(pid)])
        return pid


class Recovery(RecoveryCase):
    """The life of a service."""

    def test_10_checkpoints_come_at_their_interval_and_the_last_three_are_kept(self):
        self.wait_checkpoint()
        first = self.checkpoints()[-1]["id"]
        wait_until("five more checkpoints", lambda: self.checkpoints()[-1]["id"] >= first + 5)

        def three():
            kept = self.checkpoints()
            self.assertLessEqual(len(kept), 3)
            return len(kept) == 3 and kept
        kept = wait_until("three that are kept", three)  # rounds that are broken off have numbers, too
        for checkpoint in kept:
            self.assertEqual(checkpoint["node"], "n1")
            self.assertTrue(set(checkpoint["replicas"]) & {"n2", "n3"}, "an image that is nowhere else")
        self.assert_untouched()

    def test_11_images_that_are_no_longer_kept_are_removed_everywhere(self):
        for node in NODES:
            wait_until(f"{node} to have removed them", lambda n=node: len(self.images(n)) <= 5)

    def images(self, node):
        return [o for o in self.depctl(node, "obj", "ls") if any(t["kind"] == "image" for t in o["tags"])]

    def test_20_two_services_are_captured_in_one_round(self):
        self.run_ve("other", OTHER, "n2", interval="0s")
        wait_until("the other service", lambda: self.cluster.run(
            "client", ["redis-cli", "-h", OTHER, "ping"], capture_output=True, text=True).stdout.strip() == "PONG")

        def together():
            """Soon, as three more rounds of the first one alone put it out of the list."""
            made = self.depctl("n2", "ckpt", "create", "counter", "other", check=False)
            return made and all(made["id"] in [c["id"] for c in self.checkpoints(name)] for name in ("counter", "other"))
        wait_until("a round of both", together)
        self.assert_untouched()

    def test_21_a_round_with_a_service_that_cannot_be_frozen_leaves_the_other_running(self):
        before = len(self.checkpoints("other"))
        ved = self.pid("n2", "ved")
        self.cluster.run("n2", ["kill", "-STOP", str(ved)])
        try:
            made = self.depctl("n1", "ckpt", "create", "counter", "other", check=False)
            self.assertIsNone(made, "a round is committed without one of its members")
        finally:
            self.cluster.run("n2", ["kill", "-CONT", str(ved)])
        self.assertEqual(len(self.checkpoints("other")), before)
        self.assert_untouched(HOLD_S)
        self.next_checkpoint()
        self.depctl("n1", "ve", "rm", "other")

    def kill_within_rounds(self, node):
        """Rounds come in step, so the next one's time is known: ckptd is killed in the window where it should be under way, until
        enough rounds were lost by that; those that began at once again are not seen as such. A machine that is late misses more."""
        lost = kills = 0
        last = self.next_checkpoint()
        while kills < KILLS_MIN or lost < LOST_MIN:
            self.assertLess(kills, KILLS_MAX, f"only {lost} of so many kills met a round: the test shows nothing")
            due = last["wall_ms"] / 1000 + INTERVAL_S
            while due < time.time() + 0.2:
                due += INTERVAL_S
            time.sleep(max(0, due - self.random.uniform(0, 0.14) - time.time()))
            self.kill_daemon(node, "ckptd")
            kills += 1
            last = self.next_checkpoint()
            lost += last["wall_ms"] / 1000 > due + 0.5 * INTERVAL_S
        print(f"# kills={kills} rounds_lost={lost}", flush=True)

    def assert_nothing_left_over(self):
        """Of rounds that were broken off: frozen services, undecided cells, images on their way."""
        def clean():
            for node in self.up():
                images = self.cluster.run(node, ["ls", "/run/depsys/ckptd-images"], capture_output=True, text=True).stdout.split()
                if len(images) > 1:
                    return False
            return True
        wait_until("the images of broken rounds to be removed", clean)

    def test_30_ckptd_of_the_service_is_killed_at_any_instant_of_a_round(self):
        self.kill_within_rounds("n1")
        self.next_checkpoint()
        self.assert_untouched(HOLD_S)
        self.assert_nothing_left_over()
        self.assertEqual(self.fact()["epoch"], self.checkpoints()[-1]["ve_epoch"])

    def test_31_ckptd_of_the_coordinator_is_killed_at_any_instant_of_a_round(self):
        self.kill_within_rounds(self.coordinator())
        self.next_checkpoint()
        self.assert_untouched(HOLD_S)
        self.assert_nothing_left_over()

    def test_32_every_daemon_is_killed_in_turn_and_the_service_does_not_notice(self):
        epoch = self.fact()["epoch"]
        for node in dict.fromkeys(("n1", self.coordinator())):
            for daemon in DAEMONS:
                self.next_checkpoint()
                killed = self.kill_daemon(node, daemon)
                wait_until(f"{daemon} on {node} to be back", lambda d=daemon, n=node, k=killed: self.pid(n, d) not in (None, k))
        self.next_checkpoint()
        self.assert_untouched(HOLD_S)
        self.assertEqual(self.fact()["epoch"], epoch, "the service was placed anew")

    def test_40_a_service_whose_process_dies_is_recovered_in_place(self):
        epoch = self.fact()["epoch"]
        least = self.checkpoint_now()
        killed_ns = time.monotonic_ns()
        self.cluster.run("n1", ["pkill", "-9", "-x", "redis-server"])
        wait_until("a new placement", lambda: self.fact()["epoch"] > epoch)
        self.wait_answers()
        self.assertEqual(self.fact()["node"], "n1")
        resumed = self.counting.since(killed_ns + 200000000)[0][1]  # or of the old copy, if the kill took so long: not less
        self.assertGreater(resumed, least, "older than the last committed checkpoint")
        self.next_checkpoint()

    def test_50_a_service_goes_back_to_the_checkpoint_that_is_asked_for(self):
        self.next_checkpoint()
        newest = self.checkpoints()[-1]
        epoch = self.fact()["epoch"]

        def restored():
            """Soon, as the next round puts the oldest one out of the list."""
            oldest = self.checkpoints()[0]["id"]
            placed = self.depctl("n2", "ckpt", "restore", "counter", str(oldest), check=False)
            return placed and (oldest, placed["start_ckpt"])
        asked, taken = wait_until("the oldest one to be restored", restored)
        self.assertEqual(asked, taken)

        def went_back():
            lines = self.counting.since(self.began_ns)
            return next(((a, b) for (_, a), (_, b) in zip(lines, lines[1:]) if b < a), None)
        last, resumed = wait_until("the count to go back", went_back)
        print(f"# from {last} to {resumed}", flush=True)
        self.assertGreater(self.fact()["epoch"], epoch)
        self.wait_checkpoint(newest["id"])

    def lose(self, node):
        """Cuts a node's power; what must hold afterwards, whatever it was."""
        others = [n for n in self.up() if n != node]
        epoch = self.fact()["epoch"]
        least = self.checkpoint_now()
        began_ns = time.monotonic_ns()
        self.cluster.kill(node)
        killed_ns = time.monotonic_ns()
        wait_until("the service to answer elsewhere", lambda: len(self.counting.since(killed_ns + 500000000)) > 5)
        after = self.counting.since(killed_ns + 500000000)
        print(f"# outage_ms={(after[0][0] - began_ns) // 1000000}", flush=True)
        self.assertGreater(after[0][1], least, "older than the last committed checkpoint")
        fact = self.fact()
        self.assertIn(fact["node"], others)
        self.assertGreater(fact["epoch"], epoch)
        values = [v for _, v in after]
        self.assertEqual(values, sorted(set(values)), "the count went back after the service had resumed")
        return fact

    def test_60_a_node_is_lost_and_its_service_goes_on_elsewhere(self):
        where = self.fact()["node"]
        fact = self.lose(where)
        self.next_checkpoint()
        self.cluster.start(where)
        wait_until(f"{where} is back", lambda: scenario.is_ready(self.cluster, where))
        time.sleep(2)
        self.assertEqual(self.fact()["node"], fact["node"], "it moved because a node came back")
        self.assertEqual(self.cluster.run(where, ["pidof", "redis-server"], capture_output=True, text=True).stdout, "",
                         "a second copy runs on the node that came back")

    def test_61_the_coordinator_is_lost_together_with_the_service(self):
        where = self.fact()["node"]
        for _ in range(3):
            if self.coordinator() == where:
                break
            other = self.coordinator()
            self.cluster.kill(other)
            wait_until("another coordinator", lambda o=other: self.coordinator() != o)
            self.cluster.start(other)
            wait_until(f"{other} is back", lambda o=other: scenario.is_ready(self.cluster, o))
        self.lose(where)
        self.next_checkpoint()
        self.cluster.start(where)
        wait_until(f"{where} is back", lambda: scenario.is_ready(self.cluster, where))

    def replicas(self):
        listed = self.depctl(self.any_node(), "ve", "ls", check=False) or []
        return {ve["name"]: ve for ve in listed if ve["name"].startswith("replica-")}

    def run_replica(self, number):
        """While it is asked the coordinator may change: then nobody can say whether it was done."""
        name = f"replica-{number}"
        wait_until(f"{name} to be placed", lambda: name in self.replicas() or self.depctl(
            "n1", "ve", "run", name, self.bundle, "--interval", "0s", "--copies", "0", "--group", "replicas", "--apart", check=False))

    def wait_apart(self):
        wait_until("one replica on each node", lambda: {ve["node"] for ve in self.replicas().values()} == set(NODES))

    def test_70_replicas_are_apart_also_when_a_node_is_lost(self):
        taken = "of group replicas is there"
        for number in (1, 2, 3):
            self.run_replica(number)
        self.wait_apart()

        def is_refused():
            done = self.cluster.run("n1", ["depctl", "ve", "run", "replica-4", self.bundle, "--group", "replicas", "--apart"],
                                    capture_output=True, text=True)
            return taken in done.stderr
        wait_until("a fourth one is refused, node by node", is_refused)
        self.cluster.kill("n3")
        wait_until("one to wait, and to say for what", lambda: [
            ve for ve in self.replicas().values() if ve["node"] == "" and taken in ve["reason"]])
        self.cluster.start("n3")
        self.wait_apart()

    def test_90_no_daemon_found_a_bug_of_its_own(self):
        lines = self.counting.lines()
        self.assertGreater(len(lines), 1000)
        for node in NODES:
            logs = os.path.join(self.cluster.node_directory(node), "log")
            for daemon in DAEMONS:
                path = os.path.join(logs, daemon, "current")
                with open(path, encoding="utf-8", errors="replace") as log:
                    bugs = [line for line in log if " bug: " in line]
                self.assertEqual(bugs, [], f"{daemon} on {node}")


if __name__ == "__main__":
    suite.main(sys.argv[1:])
