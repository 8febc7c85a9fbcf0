#!/usr/bin/env python3
"""Real busd, metad, fdd and gossipd in local clusters: who is dead, who is not, and who coordinates.

usage: test_membership.py BUILD_DIR
"""
import os
import subprocess
import sys
import time
import unittest

import msgpack
import zmq

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
from scenario import Events  # noqa: E402
import suite  # noqa: E402

BASE = "dst-member"
BUILD = os.path.join(TREE, "build")
CONFIG = "[fdd]\ninterval_ms = 250\n[metad]\nvoters = n1 n2 n3\n"
SERVICES = ("busd", "metad", "fdd", "gossipd")
KILLS_MAX = 5


class Caller:
    """A DEALER of the gossipd of one node, through the node's own file system."""

    def __init__(self, pid):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(f"ipc:///proc/{pid}/root/run/depsys/gossipd.rpc")

    def send(self, name, **body):
        self.socket.send_multipart([msgpack.packb({"n": name, "i": 1, "t": 0}), msgpack.packb(body)])

    def receive(self, timeout_s):
        """(name, body) of the next answer, or None."""
        if not self.socket.poll(max(0, timeout_s) * 1000):
            return None
        header, body = (msgpack.unpackb(frame) for frame in self.socket.recv_multipart())
        if header.get("s"):
            raise RuntimeError(header["e"])
        return header["n"], body

    def close(self):
        self.socket.close()


class Watcher:
    """What one gossipd tells of its members and its coordinator, with the times at which it was told."""

    def __init__(self, pid, **terms):
        self.caller = Caller(pid)
        self.caller.send("gossipd.watch", **terms)
        self.members, self.told, self.coord = {}, [], None
        self.notices = []  # of members, as they came

    def read(self, timeout_s=0.0):
        answer = self.caller.receive(timeout_s)
        while answer:
            name, body = answer
            if name == "gossipd.member":
                self.members[body["node"]] = body["state"]
                self.told.append((time.monotonic(), body["node"], body["state"]))
                self.notices.append(body)
            elif name == "gossipd.coord":
                self.coord = body
            answer = self.caller.receive(0)

    def states(self):
        return [state for _, _, state in self.told]


class Membership(unittest.TestCase):
    def setUp(self):
        self.directory, self.cluster = suite.new_cluster(BASE, self.addCleanup)
        self.watchers = {}

    def tearDown(self):
        for watcher in self.watchers.values():
            watcher.caller.close()

    def up(self, nodes, config=""):
        self.cluster.up(BUILD, nodes=nodes, config_extra=CONFIG + config, services=SERVICES)
        self.names = [f"n{i + 1}" for i in range(nodes)]
        for name in self.names:
            self.watch(name)
        self.wait("all are alive everywhere", self.all_alive)
        self.wait("all know the coordinator", self.one_coordinator)

    def watch(self, name):
        if name in self.watchers:
            self.watchers[name].caller.close()
        self.watchers[name] = Watcher(self.cluster.pid(name))

    def wait(self, what, condition, timeout_s=60):
        """Seconds until the condition holds."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                self.fail(f"waited {timeout_s} s: {what}; " + "; ".join(
                    f"{name}: {watcher.members} {watcher.coord}" for name, watcher in self.watchers.items()))
            for watcher in self.watchers.values():
                watcher.read(0.001)
        return time.monotonic() - began

    def let_pass(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for watcher in self.watchers.values():
                watcher.read(0.01)

    def all_alive(self):
        return all(watcher.members == dict.fromkeys(self.names, "alive") for watcher in self.watchers.values())

    def agree(self, member, state):
        return all(watcher.members.get(member) == state
                   for name, watcher in self.watchers.items() if name != member)

    def one_coordinator(self):
        named = {watcher.coord and watcher.coord["node"] for watcher in self.watchers.values()}
        return len(named) == 1 and named.isdisjoint({None, ""})

    def forget(self):
        for watcher in self.watchers.values():
            watcher.read()
            watcher.told.clear()

    def kill(self, name):
        self.watchers.pop(name).caller.close()
        self.cluster.kill(name)

    def kill_daemon(self, name, daemon):
        self.cluster.run(name, ["sh", "-c", f"kill -9 $(pidof {daemon})"], check=True)

    def nobody_died(self):
        for name, watcher in self.watchers.items():
            watcher.read()
            self.assertNotIn("dead", watcher.states(), name)

    def test_10_a_killed_node_is_dead_for_all_and_alive_again_when_it_is_back(self):
        self.up(3)
        times, back = [], []
        for victim in ("n3", "n1", "n2", "n3"):
            self.let_pass(1)
            self.kill(victim)
            times.append(self.wait(f"{victim} is dead for all", lambda v=victim: self.agree(v, "dead")))
            self.cluster.start(victim)
            self.watch(victim)
            back.append(self.wait("all are alive again", self.all_alive))
        print("kill to verdict known by all, ms:", *(f"{1000 * t:.0f}" for t in times))
        print("boot to alive everywhere, ms:", *(f"{1000 * t:.0f}" for t in back))
        self.assertGreater(len(self.cluster.log_lines("n3 is dead was=suspect")), 1)

    def test_20_a_killed_coordinator_is_followed_by_another_one_under_a_higher_epoch(self):
        self.up(3)
        before = self.watchers["n1"].coord
        began = time.monotonic()
        self.kill(before["node"])
        self.wait("another one coordinates",
                  lambda: self.one_coordinator() and self.coordinator()["node"] != before["node"])
        print(f"kill of the coordinator to the next, ms: {1000 * (time.monotonic() - began):.0f}")
        self.assertGreater(self.coordinator()["epoch"], before["epoch"])

    def coordinator(self):
        return next(iter(self.watchers.values())).coord

    def test_30_a_daemon_killed_comes_back_without_a_failure(self):
        self.up(3)
        self.let_pass(1)
        self.forget()
        for daemon in ("gossipd", "fdd"):
            reigns = [self.epoch_before_and_after_kill("n2", daemon)]
            while reigns[-1][0] != reigns[-1][1] and len(reigns) < KILLS_MAX:  # a machine that stalls may cost the lease, too
                reigns.append(self.epoch_before_and_after_kill("n2", daemon))
            self.assertEqual(*reigns[-1], f"{daemon} never came back without another reign: {reigns}")

    def epoch_before_and_after_kill(self, name, daemon):
        before = self.watchers["n1"].coord["epoch"]
        self.kill_daemon(name, daemon)
        self.let_pass(3)
        self.watch(name)
        self.wait("all are alive", self.all_alive)
        self.nobody_died()
        return before, self.watchers["n1"].coord["epoch"]

    def test_40_a_link_cut_between_two_of_five_kills_nobody(self):
        self.up(5)
        self.let_pass(1)
        self.forget()
        other = next(m["node"] for m in self.ask("n1", "gossipd.members")["members"] if m.get("watched"))
        address = self.cluster.address(other)
        self.cluster.run("n1", ["nft", "-f", "-"], check=True, text=True, stdin=None, input=(
            "table inet cut {\nchain in { type filter hook input priority 0;\n"
            f"ip saddr {address} drop\n}}\nchain out {{ type filter hook output priority 0;\n"
            f"ip daddr {address} drop\n}}\n}}\n"))
        self.wait("the silence is seen", lambda: any("suspect" in watcher.states() for watcher in self.watchers.values()))
        self.let_pass(12)
        self.nobody_died()
        self.cluster.run("n1", ["nft", "delete", "table", "inet", "cut"], check=True)
        self.wait("all are alive", self.all_alive)

    def test_50_a_node_cut_off_judges_nobody_and_is_back_when_healed(self):
        self.up(3)
        self.let_pass(1)
        self.forget()
        self.cluster.cut("n3")
        self.wait("n3 is dead for the others", lambda: self.agree("n3", "dead"))
        self.let_pass(3)
        self.assertNotIn("dead", self.watchers["n3"].states())
        self.wait("it knows that it is alone", lambda: self.ask("n3", "gossipd.status")["isolated"])
        self.cluster.heal("n3")
        self.wait("all are alive", self.all_alive)

    def ask(self, name, request):
        caller = Caller(self.cluster.pid(name))
        try:
            caller.send(request)
            return caller.receive(60)[1]
        finally:
            caller.close()

    def signal_daemons(self, name, signal):
        self.cluster.run(name, ["sh", "-c", f"kill -{signal} $(pidof fdd) $(pidof gossipd)"], check=True)

    def holds_for_stalled(self, name, member):
        return self.listed(name, member).get("stalled")

    def test_55_one_that_stands_still_on_a_living_node_is_not_dead_and_one_killed_is(self):
        self.up(3, "[gossipd]\nstall_ms = 60000\n")
        self.let_pass(1)
        self.forget()
        self.signal_daemons("n3", "STOP")
        self.wait("both find that n3 stands still", lambda: all(self.holds_for_stalled(n, "n3") for n in ("n1", "n2")))
        self.watchers.pop("n3").caller.close()  # what waited for it is read by nobody
        self.let_pass(2)
        self.nobody_died()
        self.signal_daemons("n3", "CONT")
        self.watch("n3")
        self.wait("all are alive", self.all_alive)
        self.nobody_died()
        self.signal_daemons("n3", "STOP")
        self.wait("both find that n3 stands still", lambda: all(self.holds_for_stalled(n, "n3") for n in ("n1", "n2")))
        self.kill("n3")
        print(f"kill of one that stands still to the verdict, ms: {1000 * self.wait('n3 is dead', lambda: self.agree('n3', 'dead')):.0f}")

    def subscribe(self, name, **terms):
        """One more subscriber of that node, read with the others and named after its terms."""
        watcher = Watcher(self.cluster.pid(name), **terms)
        self.watchers[f"{name} {terms}"] = watcher
        return watcher

    @staticmethod
    def states_of(watcher, member):
        return [notice["state"] for notice in watcher.notices if notice["node"] == member]

    def test_56_each_subscriber_is_told_of_a_death_on_its_own_terms(self):
        self.up(4)
        plain = self.watchers["n1"]
        certain = self.subscribe("n1", quorum=100)
        patient = self.subscribe("n1", confirm_ms=1500)
        sceptic = self.subscribe("n1", confirm_ms=600000)
        self.kill("n4")
        for watcher in (plain, certain, patient):
            self.wait("it is told of the death", lambda w=watcher: w.members.get("n4") == "dead")
        dead = [notice for notice in certain.notices if notice["node"] == "n4"][-1]
        self.assertEqual(dead["votes"], dead["observers"])
        told = self.states_of(patient, "n4")
        self.assertEqual(told[told.index("dead") - 1], "suspect")
        self.wait("it is held for suspect", lambda: sceptic.members.get("n4") == "suspect")
        self.cluster.start("n4")
        self.watch("n4")
        self.wait("all are alive", self.all_alive)
        for watcher in (plain, certain, patient):
            self.assertIn("dead", self.states_of(watcher, "n4"))
        self.assertNotIn("dead", self.states_of(sceptic, "n4"))

    def test_57_one_that_is_killed_and_started_again_and_again_is_damped_and_knows_it(self):
        self.up(3)
        events = [Events(self.cluster, name) for name in self.names]
        for one in events:
            self.addCleanup(one.close)
        kills = 0
        while kills < 20 and not all(one.find("member.flapping", node="n3") for one in events):
            before = self.incarnation("n1", "n3")
            self.kill_daemon("n3", "gossipd")
            kills += 1
            self.wait("it is there again", lambda b=before: self.incarnation("n1", "n3") > b)
            self.let_pass(1)
        self.assertGreaterEqual(kills, 3)
        self.wait("all tell of it, itself too", lambda: all(one.find("member.flapping", node="n3") for one in events))
        self.assertFalse(any(one.find("member.flapping", node=name) for one in events for name in ("n1", "n2")))
        self.assertTrue(self.listed("n1", "n3")["damped"])
        self.wait("it knows", lambda: self.ask("n3", "gossipd.status")["damped"])

    def listed(self, name, member):
        return next(m for m in self.ask(name, "gossipd.members")["members"] if m["node"] == member)

    def incarnation(self, name, member):
        return self.listed(name, member)["incarnation"]

    def test_60_a_clean_leave_is_no_failure(self):
        self.up(3)
        self.let_pass(1)
        self.forget()
        self.ask("n3", "gossipd.leave")
        self.wait("n3 has left for the others", lambda: self.agree("n3", "left"))
        self.kill("n3")
        self.let_pass(4)
        self.nobody_died()
        told = [state for _, node, state in self.watchers["n1"].told if node == "n3"]
        self.assertEqual(set(told[told.index("left"):]), {"left"})
        self.cluster.start("n3")
        self.watch("n3")
        self.wait("all are alive", self.all_alive)

    def test_90_a_bad_configuration_is_one_clear_line(self):
        path = os.path.join(self.directory, "conf")
        gossipd = os.path.join(BUILD, "gossipd", "gossipd")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"[node]\nname = n1\naddress = 127.0.0.1\n[peer n1]\naddress = 127.0.0.1\nkey = {'0' * 63}1\n")
        good = subprocess.run([gossipd, "--config", path, "--check"], capture_output=True, text=True, check=False)
        self.assertEqual((good.returncode, good.stderr), (0, ""))
        with open(path, "a", encoding="ascii") as file:
            file.write("[gossipd]\nconfirm_ms = 60\n")
        bad = subprocess.run([gossipd, "--config", path, "--check"], capture_output=True, text=True, check=False)
        self.assertEqual(bad.returncode, 1)
        self.assertRegex(bad.stderr, r"\A.*confirm_ms must be at least twice tell_ms\n\Z")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        BUILD = os.path.realpath(sys.argv.pop(1))
    suite.main(sys.argv[1:])
