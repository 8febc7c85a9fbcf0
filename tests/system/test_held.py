#!/usr/bin/env python3
"""A VE whose old copy nobody can be sure of stays where it is, says so, and goes on when an administrator vouches (tools/cluster.py).

usage: test_held.py BUILD_DIR [TEST ...]
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import scenario  # noqa: E402
import suite  # noqa: E402
from test_recovery import BASE, CONFIGURATION, NODES, RecoveryCase, wait_until  # noqa: E402

WRITER, SWITCHED, STUCK = "10.77.0.110", "10.77.0.111", "10.77.0.112"

# What the administrator wrote: the test is the switch.
OFF = """#!/bin/sh
echo "$DEPSYS_VE $DEPSYS_NODE $DEPSYS_EPOCH" >"$1/asked.new" && mv "$1/asked.new" "$1/asked" || exit 1
until test -e "$1/is-off"; do sleep 0.1; done
"""
BROKEN = """#!/bin/sh
echo connecting >&2
echo "no route to the power switch" >&2
exit 1
"""


class HeldCase(RecoveryCase):
    """What tests of both kinds ask."""

    def wait_refused(self, text, node, *words):
        """Not of the coordinator's office, which may change hands on a machine that stands still."""
        wait_until(f"{words} is refused: {text}", lambda: text in self.cluster.run(
            node, ["depctl", "--timeout", "30s", *words], capture_output=True, text=True).stderr)


class Held(HeldCase):
    """Nodes without a fence."""

    configuration = CONFIGURATION + "[ved]\nfence = none\n"

    def lose_its_node(self):
        """Returns the VE's placement once it is held, and the events of a node that lives."""
        node = self.fact()["node"]
        others = [name for name in self.up() if name != node]
        listeners = [scenario.Events(self.cluster, other) for other in others]
        for events in listeners:
            self.addCleanup(events.close)
        self.cluster.cut(node)
        self.addCleanup(self.heal, node)
        wait_until("the VE is held", lambda: any(events.all("ve.held", ve="counter") for events in listeners))
        return wait_until("its placement says so", lambda: next((ve for ve in self.depctl(others[0], "ve", "ls", check=False) or []
                                                                 if ve["name"] == "counter" and ve["held"]), None)), others[0]

    def heal(self, node):
        self.cluster.heal(node)
        wait_until("all nodes are there", lambda: scenario.is_ready(self.cluster, node))

    def assert_counts_on(self):
        last = self.counting.last()
        wait_until("the client counts on", lambda: self.counting.last() > last + 10)

    def test_10_it_stays_until_the_administrator_vouches_for_the_right_epoch(self):
        self.wait_checkpoint()
        ve, other = self.lose_its_node()
        self.assertIn("no fence", ve["held"])
        wait_until("status says so", lambda: "no fence" in str((self.depctl(other, "status", check=False) or {}).get("held")))
        self.wait_refused("nothing is confirmed", other, "ve", "fenced", "counter", str(ve["epoch"] - 1))
        self.wait_refused("no fence", other, "ckpt", "restore", "counter")
        self.assertEqual((self.fact_on(other)["epoch"], self.fact_on(other)["node"]), (ve["epoch"], ve["node"]))
        wait_until("the word is taken, and the VE is placed elsewhere", lambda: self.fact_on(other)["node"] != ve["node"] or (
            self.depctl(other, "ve", "fenced", "counter", str(ve["epoch"]), check=False) and False))
        self.assert_counts_on()
        self.heal(ve["node"])
        wait_until("the old copy is gone", lambda: self.cluster.run(
            ve["node"], ["test", "-e", "/run/depsys/ve/counter"]).returncode == 1)
        self.assert_counts_on()

    def fact_on(self, node):
        return wait_until("the placement", lambda: next((ve for ve in self.depctl(node, "ve", "ls", check=False) or []
                                                         if ve["name"] == "counter"), None))

    def test_20_a_node_that_comes_back_goes_on_where_it_stood(self):
        ve, _ = self.lose_its_node()
        self.heal(ve["node"])
        wait_until("nothing holds it", lambda: not self.fact()["held"])
        self.assertEqual(self.fact()["epoch"], ve["epoch"])
        self.assert_counts_on()


class Shared(HeldCase):
    """A directory of the host that two of the nodes have, and a service that writes there."""

    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.mkdtemp(prefix=BASE + "-shared-")
        cls.addClassCleanup(shutil.rmtree, cls.shared, True)
        os.chmod(cls.shared, 0o777)
        cls.commands = tempfile.mkdtemp(prefix=BASE + "-commands-")
        cls.addClassCleanup(shutil.rmtree, cls.commands, True)
        os.chmod(cls.commands, 0o777)
        for name, text in (("off", OFF), ("broken", BROKEN)):
            with open(os.path.join(cls.commands, name), "w", encoding="utf-8") as script:
                script.write(text)
            os.chmod(script.name, 0o755)
        without = CONFIGURATION + (
            f"[fence off]\ncommand = {cls.commands}/off {cls.commands}\ntimeout_s = 600\n"
            f"[fence broken]\ncommand = {cls.commands}/broken\n"
            "[migrated]\nrestarts = 2\nbackoff_ms = 100\nbackoff_max_ms = 1000\n[ved]\nmounts = /srv/no")
        cls.configuration = {"n1": f"{without} {cls.shared}\n", "n2": f"{without} {cls.shared}\n", "n3": f"{without}\n"}
        super().setUpClass()
        cls.sharing = os.path.join(cls.directory, "sharing")
        subprocess.run([os.path.join(TREE, "tools", "bundle"), "--out", cls.sharing, "--program", "/usr/bin/redis-server", "--user",
                        "redis", "--mount", f"{cls.shared}:/shared", "--", "--dir", "/shared", "--protected-mode", "no"], check=True)

    def run_writer(self, name, address, *words):
        wait_until(f"{name} is placed", lambda: self.depctl("n1", "ve", "ls", check=False) and self.depctl(
            "n1", "ve", "run", name, self.sharing, "--address", f"{address}/24", "--node", "n1", "--interval", "0s", *words, check=False))
        self.wait_writes(address)

    def wait_writes(self, address):
        """Its service writes to the directory of the host, now."""
        path = os.path.join(self.shared, "dump.rdb")
        if os.path.exists(path):
            os.unlink(path)
        wait_until(f"{address} writes to the shared directory", lambda: self.cluster.run(
            "client", ["timeout", "5", "redis-cli", "-h", address, "save"], capture_output=True, text=True).stdout.strip() == "OK" and
            os.path.exists(path))

    def placed(self, name):
        """As a node that is not cut off has it."""
        return wait_until(f"the placement of {name}", lambda: next((ve for ve in self.depctl("n2", "ve", "ls", check=False) or []
                                                                    if ve["name"] == name), None))

    def assert_never_on_n3(self):
        for node in NODES:
            with open(os.path.join(self.cluster.node_directory(node), "log", "migrated", "current"), encoding="utf-8",
                      errors="replace") as log:
                self.assertFalse(re.findall(r"placed ve=(?:writer|switched|stuck) .*node=n3:.*", log.read()))

    def test_05_a_node_that_does_not_list_the_directory_is_refused(self):
        self.wait_refused(f"does not mount {self.shared}", "n1", "ve", "run", "far", self.sharing, "--address", f"{WRITER}/24",
                          "--node", "n3")

    def test_10_it_is_captured_and_brought_back_with_the_directory_as_it_is(self):
        self.run_writer("writer", WRITER)
        wait_until("a checkpoint", lambda: self.depctl("n1", "ckpt", "create", "writer", check=False))
        epoch = self.placed("writer")["epoch"]
        wait_until("it is restored", lambda: self.placed("writer")["epoch"] > epoch or self.depctl(
            "n1", "ckpt", "restore", "writer", check=False))
        wait_until("from the checkpoint", lambda: self.placed("writer")["start_ckpt"])
        self.wait_writes(WRITER)

    def test_20_its_fence_is_not_enough_for_a_directory_that_is_shared(self):
        before = self.placed("writer")
        self.cluster.cut("n1")
        self.addCleanup(self.cluster.heal, "n1")
        wait_until("the VE that shares nothing goes on elsewhere", lambda: self.placed("counter")["node"] != "n1")
        held = wait_until("the other one is held", lambda: self.placed("writer")["held"])
        self.assertIn("shared directories", held)
        self.assertEqual(self.placed("writer")["epoch"], before["epoch"])
        wait_until("the word is taken, and it goes on elsewhere", lambda: self.placed("writer")["node"] == "n2" or (
            self.depctl("n2", "ve", "fenced", "writer", str(before["epoch"]), check=False) and False))
        self.wait_writes(WRITER)
        self.assert_never_on_n3()

    def test_30_a_fence_command_makes_sure_and_one_that_fails_says_why(self):
        self.cluster.heal("n1")
        wait_until("all nodes are there", lambda: scenario.is_ready(self.cluster, "n1"))
        self.run_writer("switched", SWITCHED, "--fence", "off")
        self.run_writer("stuck", STUCK, "--fence", "broken")
        epoch = self.placed("switched")["epoch"]
        self.cluster.cut("n1")
        wait_until("the switch is asked", lambda: os.path.exists(os.path.join(self.commands, "asked")))
        with open(os.path.join(self.commands, "asked"), encoding="utf-8") as asked:
            self.assertEqual(asked.read().split(), ["switched", "n1", str(epoch)])
        wait_until("the failure is told", lambda: "no route to the power switch" in self.placed("stuck")["held"])
        self.assertEqual((self.placed("switched")["node"], self.placed("switched")["epoch"]), ("n1", epoch))
        self.cluster.kill("n1")
        with open(os.path.join(self.commands, "is-off"), "w", encoding="utf-8"):
            pass
        wait_until("it is believed, and the VE goes on elsewhere", lambda: self.placed("switched")["node"] == "n2")
        self.wait_writes(SWITCHED)
        self.assertEqual(self.placed("stuck")["node"], "n1")
        self.cluster.start("n1")
        wait_until("its own node has said that the other copy is gone", lambda: not self.placed("stuck")["held"])
        self.wait_writes(STUCK)
        self.assert_never_on_n3()

    def placed_because(self, name):
        """Why it was placed, each time, as the coordinators wrote it down."""
        found = []
        for node in NODES:
            with open(os.path.join(self.cluster.node_directory(node), "log", "migrated", "current"), encoding="utf-8",
                      errors="replace") as log:
                found += re.findall(rf"placed ve={name} [^:]*: ([^:\n]*)", log.read())
        return found

    def test_40_a_service_that_ends_again_and_again_is_tried_here_then_elsewhere_and_given_up(self):
        bundle = os.path.join(self.directory, "short")
        subprocess.run([os.path.join(TREE, "tools", "bundle"), "--out", bundle, "--program", "/bin/sleep", "--", "0.2"], check=True)

        def given_up(name):
            """Not each time: a node may just then be taken for dead, or the start be so slow that it has failed."""
            wait_until("it is placed", lambda: self.depctl("n1", "ve", "run", name, bundle, "--node", "n1", "--interval", "0s",
                                                           check=False) or name in str(self.depctl("n1", "ve", "ls", check=False)))
            wait_until("it is given up", lambda: self.placed(name)["want"] == "failed")
            return {"restart in place", "restart elsewhere", "ended again and again"} <= set(self.placed_because(name)) and (
                "ended again and again" in self.placed(name)["reason"])
        names = (f"short-{number}" for number in range(100))
        wait_until("all of it", lambda: given_up(next(names)))


if __name__ == "__main__":
    suite.main(sys.argv[1:])
