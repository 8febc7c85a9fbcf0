#!/usr/bin/env python3
"""A VE never runs twice: its lease, the fence in the kernel, and what becomes of the old copy (tools/cluster.py).

usage: test_lease.py BUILD_DIR [TEST ...]

Beside the client a prober asks the VE on its first node, whose cable is out: it reaches nothing but the old copy, and the last answer
that it gets must come before the VE is placed elsewhere.
"""
import os
import sys
import threading
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import scenario  # noqa: E402
import suite  # noqa: E402
from test_recovery import ADDRESS, DAEMONS, RecoveryCase, wait_until  # noqa: E402

PROBE = ("import socket, sys, time\n"
         "while True:\n"
         "    try:\n"
         f"        with socket.create_connection(('{ADDRESS}', 6379), 0.2) as s:\n"
         "            s.settimeout(0.2)\n"
         "            asked = time.time_ns()\n"
         "            s.sendall(b'PING\\r\\n')\n"
         "            if s.recv(64).startswith(b'+PONG'):\n"
         "                print(asked, time.time_ns(), flush=True)\n"
         "    except OSError:\n"
         "        pass\n"
         "    time.sleep(0.01)\n")


class Prober:
    """Asks the VE again and again from one node, each time over a new connection; keeps when it was answered (wall clock)."""

    def __init__(self, cluster, node):
        self.answers = []
        self.process = cluster.popen(node, ["/usr/bin/python3", "-c", PROBE], stdout=-1, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.answers.append(tuple(map(int, line.split())))

    def close(self):
        self.process.kill()
        self.process.wait()


class Lease(RecoveryCase):
    """One service on three nodes; each test takes its node away in another way, and gives it back."""

    def setUp(self):
        super().setUp()
        self.node = self.fact()["node"]
        self.others = [node for node in self.up() if node != self.node]
        self.events = [scenario.Events(self.cluster, node) for node in self.others]
        for events in self.events:
            self.addCleanup(events.close)
        self.prober = Prober(self.cluster, self.node)
        self.addCleanup(self.prober.close)
        wait_until("answers on its own node", lambda: len(self.prober.answers) > 3)
        self.wait_checkpoint(newer_than=self.checkpoints()[-1]["id"] if self.checkpoints() else 0)
        self.epoch = self.fact()["epoch"]

    def wait_placed(self):
        return wait_until("the VE is placed elsewhere", lambda: next(
            (e for events in self.events for e in events.all("ve.placed", ve="counter") if e["body"]["epoch"] > self.epoch and
             e["body"]["node"] != self.node), None))

    def assert_not_heard_after(self, placed):
        """Its node's cable is out: who answers there is the old copy. What was asked before may have been answered before, too, and
        read by a prober that stood still."""
        late = [answer for answer in self.prober.answers if answer[0] >= placed["time_ns"]]
        self.assertEqual(late, [], f"the old copy was heard after {placed['time_ns']}")

    def wait_old_copy_ended(self):
        wait_until("the old copy is gone", lambda: self.cluster.run(
            self.node, ["test", "-e", "/run/depsys/ve/counter"]).returncode == 1)

    def assert_counts_on(self):
        last = self.counting.last()
        wait_until("the client counts on", lambda: self.counting.last() > last + 10)

    def test_10_a_node_that_is_cut_off_is_silent_before_its_ve_runs_elsewhere(self):
        before = self.counting.last()
        self.cluster.cut(self.node)
        try:
            placed = self.wait_placed()
            self.assert_counts_on()
            self.assertTrue(self.cluster.run(self.node, ["test", "-e", "/run/depsys/ve/counter"]).returncode == 0)
            self.assert_not_heard_after(placed)
        finally:
            self.cluster.heal(self.node)
        self.wait_old_copy_ended()
        self.assertGreater(self.counting.last(), before)
        self.assert_counts_on()

    def test_20_a_node_without_any_daemon_is_silent_all_the_same(self):
        pids = self.cluster.run(self.node, ["pidof", *DAEMONS], capture_output=True, text=True).stdout.split()
        self.assertGreaterEqual(len(pids), len(DAEMONS))
        self.cluster.run(self.node, ["kill", "-STOP", *pids], check=True)
        self.cluster.cut(self.node)
        try:
            placed = self.wait_placed()
            self.assert_counts_on()
            self.assert_not_heard_after(placed)
        finally:
            self.cluster.heal(self.node)
            self.cluster.run(self.node, ["kill", "-CONT", *pids], check=True)
        self.wait_old_copy_ended()
        self.assert_counts_on()

    def test_30_a_coordinator_that_is_away_a_moment_moves_nothing(self):
        coordinator = self.coordinator()
        pid = self.cluster.run(coordinator, ["pidof", "migrated"], capture_output=True, text=True).stdout.split()[0]
        self.cluster.run(coordinator, ["kill", "-KILL", pid], check=True)
        wait_until("it is back", lambda: self.cluster.run(
            coordinator, ["pidof", "migrated"], capture_output=True, text=True).stdout.split() not in ([], [pid]))
        self.assert_counts_on()
        self.assertEqual(self.fact()["epoch"], self.epoch)

    def test_40_a_ve_that_nobody_may_take_over_stands_still_and_goes_on(self):
        """No two nodes reach each other, so nothing can be decided. Afterwards its node may be taken for dead, rightly, where the
        machine stands still just then; so it may take more than one try."""
        for _ in range(5):
            before = self.lapse()
            self.assert_counts_on()
            if self.fact()["epoch"] == before["epoch"]:
                break
        self.assertEqual(self.fact()["epoch"], before["epoch"])
        self.assertEqual(self.processes(before["node"]), before["processes"])
        values = [value for _, value in self.counting.since(before["began"])]
        self.assertEqual(values, sorted(set(values)), "the count went back")

    def processes(self, node):
        return sorted(self.cluster.run(node, ["pidof", "redis-server"], capture_output=True, text=True).stdout.split())

    def lapse(self):
        """Cuts all nodes from each other until the VE is frozen; returns what was before."""
        fact, began = self.fact(), time.monotonic_ns()
        node, other = fact["node"], next(n for n in self.up() if n != fact["node"])
        events = scenario.Events(self.cluster, node)
        try:
            before = {"epoch": fact["epoch"], "node": node, "processes": self.processes(node), "began": began}
            for cut in (node, other):
                self.cluster.cut(cut)
            try:
                wait_until("the VE's lease has lapsed", lambda: events.all("ve.lapsed", ve="counter"))
                wait_until("the VE is frozen", lambda: self.frozen(node) == "1")  # it may have lapsed before the cut, too
            finally:
                for cut in (node, other):
                    self.cluster.heal(cut)
            wait_until("the VE goes on, or has gone elsewhere", lambda: events.all("ve.resumed", ve="counter") or
                       events.all("ve.stopped", ve="counter"))
        finally:
            events.close()
        return before

    def frozen(self, node):
        """As the kernel has it."""
        pid = self.processes(node)[0]
        script = ("import sys; path = next(l for l in open(f'/proc/{sys.argv[1]}/cgroup') if l.startswith('0::'))[3:].strip(); "
                  "top = next(l.split()[1] for l in open('/proc/mounts') if l.split()[2] == 'cgroup2'); "
                  "print(dict(l.split() for l in open(top + path + '/cgroup.events'))['frozen'])")
        return self.cluster.run(node, ["/usr/bin/python3", "-c", script, pid], capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    suite.main(sys.argv[1:])
