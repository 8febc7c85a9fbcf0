#!/usr/bin/env python3
"""Who is a member, by the administrator's signature: real daemons in a local cluster; nodes join, are revoked, change their keys, and restart.

usage: test_keys.py BUILD_DIR
"""
import ctypes
import ctypes.util
import json
import os
import subprocess
import sys
import time
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
import suite  # noqa: E402

BASE = "dst-keys"
BUILD = os.path.join(TREE, "build")
SERVICES = ("busd", "metad", "fdd", "gossipd", "gosd")
PATIENCE_S = 90  # the longest wait for what must come
# Verdicts. A suspicion is reversible and depends on how long the machine lets a daemon wait: it is counted, not judged.
FAILURE, SUSPICION = "member.dead", "member.suspect"


def sodium():
    library = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")
    if library.sodium_init() < 0:
        raise RuntimeError("libsodium does not start")
    return library


class Keys(unittest.TestCase):
    def setUp(self):
        self.directory, self.cluster = suite.new_cluster(BASE, self.addCleanup)
        self.admin, self.public = self.new_admin("admin.key")
        self.config = f"[node]\nadmin = {self.public}\n[fdd]\ninterval_ms = 250\n[metad]\nvoters = n1 n2 n3\n"
        self.names = ["n1", "n2", "n3"]

    def new_admin(self, name):
        """A key file that the nodes can see (their directories are the machine's), and its public half."""
        path = os.path.join(self.directory, name)
        made = subprocess.run([os.path.join(BUILD, "depctl", "depctl"), "key", "admin-new", path], capture_output=True, text=True, check=True)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        return path, made.stdout.strip()

    def up(self):
        self.cluster.up(BUILD, nodes=3, config_extra=self.config, services=SERVICES)
        self.wait("all are alive everywhere", self.all_alive)

    def stranger(self, number=4):
        name = f"n{number}"
        key = self.cluster.add_node(BUILD, name, number, self.config, SERVICES)
        self.wait(f"gossipd of {name}", lambda: self.run_depctl(name, "node", "ls").returncode == 0)
        return name, key

    def run_depctl(self, node, *words):
        """With --timeout of its own if the words have none: the default is for people."""
        patience = () if "--timeout" in words else ("--timeout", "30s")
        return self.cluster.run(node, ["depctl", "-o", "json", *patience, *words], capture_output=True, text=True)

    def depctl(self, node, *words):
        done = self.run_depctl(node, *words)
        self.assertEqual(done.returncode, 0, f"{node}: depctl {' '.join(words)}: {done.stderr}")
        return json.loads(done.stdout)

    def wait(self, what, condition, timeout_s=PATIENCE_S):
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                self.fail(f"waited {timeout_s} s: {what}; " + "; ".join(f"{name}: {self.states(name)}" for name in self.names))
            time.sleep(0.05)
        return time.monotonic() - began

    def members(self, node):
        done = self.run_depctl(node, "node", "ls")
        return json.loads(done.stdout) if done.returncode == 0 else []

    def states(self, node):
        return {member["node"]: member["state"] for member in self.members(node)}

    def assert_members(self, node):
        """These and no others are members for a node, and none of them is dead; suspected may be whom the machine lets wait."""
        states = self.states(node)
        self.assertEqual(sorted(states), sorted(self.names))
        self.assertLessEqual(set(states.values()), {"alive", "suspect"})

    def all_alive(self):
        return all(self.states(name) == dict.fromkeys(self.names, "alive") for name in self.names)

    def stat(self, node, daemon, name):
        return {row["name"]: row["value"] for row in self.depctl(node, "stats", daemon)}[name]

    def key_of(self, node, name):
        return next(row for row in self.depctl(node, "key", "ls") if row["node"] == name)

    def pids(self, node):
        return {row["daemon"]: row["pid"] for row in json.loads(self.run_depctl(node, "status").stdout)["daemons"] if "pid" in row}

    def failures(self, names):
        """Verdicts in the event logs of these nodes so far."""
        return self.told_of(names)[0]

    def assert_no_failure(self):
        found, suspicions = self.told_of(self.names)
        print(f"suspicions, all of them refuted: {suspicions}")
        self.assertEqual(found, [])

    def told_of(self, names):
        """(verdicts, number of suspicions)"""
        found, suspicions = [], 0
        for name in names:
            done = self.cluster.run(name, ["depctl", "-o", "jsonl", "events", "--since", "all"], capture_output=True, text=True)
            found += [line for line in done.stdout.splitlines() if f'"{FAILURE}"' in line]
            suspicions += done.stdout.count(f'"topic":"{SUSPICION}"')
        return found, suspicions

    def join(self, name, key, by="n1"):
        self.depctl(name, "node", "join", self.cluster.address(by), "--server-key", self.cluster.nodes[by]["public_key"])
        self.wait(f"{name} waits at {by}", lambda: [row["public_key"] for row in self.depctl(by, "key", "pending")] == [key])

    def let_in(self, name, key, by="n1"):
        self.join(name, key, by)
        self.depctl(by, "key", "allow", name, "--admin-key", self.admin)
        self.names.append(name)
        self.wait(f"{name} is a member everywhere", self.all_alive)

    def put_object(self, node):
        self.cluster.run(node, ["sh", "-c", "echo something >/tmp/object"], check=True)
        self.wait(f"an object of {node} is everywhere",
                  lambda: self.run_depctl(node, "obj", "put", "/tmp/object", "--copies", str(len(self.names) - 1)).returncode == 0)

    def test_10_a_node_joins_by_a_member_and_nothing_restarts(self):
        self.up()
        before = {name: self.pids(name) for name in self.names}
        name, key = self.stranger()
        self.join(name, key)
        time.sleep(2)
        self.assertEqual(self.states(name), {name: "alive"})  # it was told nothing
        self.assert_members("n2")
        self.names.append(name)
        self.depctl("n1", "key", "allow", name, "--admin-key", self.admin)
        print(f"allowed to alive everywhere, s: {self.wait('n4 is a member everywhere', self.all_alive):.1f}")
        self.assertEqual(self.depctl("n1", "key", "pending"), [])
        for other in ("n1", "n2", "n3"):
            self.assertEqual(self.pids(other), before[other])
        self.put_object(name)
        self.assert_no_failure()

    def test_20_a_stranger_waits_and_a_word_of_another_signer_lets_nobody_in(self):
        self.up()
        other, _ = self.new_admin("other.key")
        name, key = self.stranger()
        self.join(name, key)
        forged = self.run_depctl("n1", "key", "allow", name, "--admin-key", other)
        self.assertEqual((forged.returncode, "not signed by the administrator" in forged.stderr), (5, True), forged.stderr)
        self.assertGreaterEqual(self.stat("n1", "gossipd", "records_forged"), 1)
        self.assertEqual([row["node"] for row in self.depctl("n1", "key", "pending")], [name])
        self.assert_members("n1")
        # What it sends to the ports of members is refused.
        refused = self.stat("n1", "gossipd", "nodes_refused")
        self.cluster.run(name, ["sh", "-c", f"printf '[peer n1]\\naddress = {self.cluster.address('n1')}\\nkey = {self.cluster.nodes['n1']['public_key']}\\n'"
                                " >/etc/depsys/depsys.conf.d/60-n1.conf; kill $(pidof gossipd)"], check=True)
        self.wait("its datagrams are refused", lambda: self.stat("n1", "gossipd", "refused_unknown_sender") > 0)
        time.sleep(1)
        self.assert_members("n1")
        self.assertGreaterEqual(self.stat("n1", "gossipd", "nodes_refused"), refused)

    def test_25_a_stranger_with_the_name_of_a_member_does_not_take_its_place(self):
        self.up()
        name, key = self.stranger()
        self.cluster.run(name, ["sh", "-c", "sed -i 's/^name = n4/name = n2/' /etc/depsys/depsys.conf; kill $(pidof gossipd)"], check=True)
        self.wait("its gossipd is back under that name", lambda: self.states(name) == {"n2": "alive"})
        self.join(name, key)
        self.assertTrue(self.depctl("n1", "key", "pending")[0]["replaces"])
        done = self.run_depctl("n1", "key", "allow", "n2", "--admin-key", self.admin)
        self.assertEqual((done.returncode, f"--key {key}" in done.stderr), (2, True), done.stderr)
        for words, text in ((("n9", "--key", key, "--address", self.cluster.address("n3")), "n3 has this address"),
                            (("n9", "--key", self.cluster.nodes["n3"]["public_key"], "--address", "10.77.0.9"), "n3 has this key")):
            done = self.run_depctl("n1", "key", "allow", *words, "--admin-key", self.admin)
            self.assertEqual((done.returncode, text in done.stderr), (2, True), done.stderr)
        self.assertEqual(self.key_of("n3", "n2")["public_key"], self.cluster.nodes["n2"]["public_key"])
        self.assert_members("n1")

    def test_30_a_revoked_node_is_out_everywhere_and_an_old_record_does_not_bring_it_back(self):
        self.up()
        self.let_in(*self.stranger())
        record = os.path.join(self.cluster.node_directory("n2"), "var", "members", "n4")
        with open(record, "rb") as file:
            old = file.read()
        self.names.remove("n4")
        self.depctl("n2", "key", "revoke", "n4", "--admin-key", self.admin)
        took = self.wait("n4 is out of the views", lambda: all(
            set(self.states(name).values()) == {"alive"} and "n4" not in self.states(name) for name in self.names))
        print(f"revoked to out everywhere, s: {took:.1f}")
        for name in self.names:
            self.assertEqual(self.key_of(name, "n4")["state"], "revoked")
        sent = self.stat("n1", "fdd", "refused_unknown_sender")
        self.wait("its heartbeats are refused", lambda: self.stat("n1", "fdd", "refused_unknown_sender") > sent)
        done = self.cluster.run("n4", ["depctl", "--timeout", "3s", "meta", "ls"], capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        with open(record + ".tmp", "wb") as file:  # as a member that lies might have it done
            file.write(old)
        self.cluster.run("n2", ["mv", "/var/lib/depsys/members/n4.tmp", "/var/lib/depsys/members/n4"], check=True)
        self.wait("the old record is refused", lambda: self.stat("n2", "gossipd", "records_stale") > 0)
        self.assertNotIn("n4", self.states("n2"))
        self.assert_no_failure()

    def test_31_a_voter_that_metad_needs_for_a_majority_is_revoked_by_force_only(self):
        def voters():
            return {row["voter"]: row["state"] for row in json.loads(self.run_depctl("n1", "meta", "status").stdout or "[]")}
        self.up()
        self.cluster.kill("n3")
        self.wait("n1 knows which voters are left", lambda: [name for name, state in voters().items() if state == "unreachable"] == ["n3"])
        revoke = ("key", "revoke", "n2", "--admin-key", self.admin)
        done = self.run_depctl("n1", *revoke)
        self.assertEqual((done.returncode, "n2 is one of metad's 3 voters" in done.stderr, "--force" in done.stderr), (1, True, True), done.stderr)
        self.assertNotEqual(self.key_of("n1", "n2")["state"], "revoked")
        self.depctl("n1", *revoke, "--force")
        self.wait("n2 is revoked", lambda: self.key_of("n1", "n2")["state"] == "revoked")

    def test_40_a_node_changes_its_key_and_is_never_missed(self):
        self.up()
        for name in self.names:
            before = self.key_of("n2", name)["public_key"]
            done = self.depctl(name, "key", "rotate", "--admin-key", self.admin)
            self.assertNotEqual(done["public_key"], before)
            self.wait("all are alive under one key each", lambda: self.all_alive() and
                      all(len(self.members(other)) == 3 for other in self.names))
            for other in self.names:
                self.wait(f"{other} has the new key of {name}",
                          lambda o=other, n=name, d=done: self.key_of(o, n)["public_key"] == d["public_key"])
        self.put_object("n1")
        self.assert_no_failure()
        for name in self.names:  # what stands in the files is enough after a power cut
            self.cluster.kill(name)
        for name in self.names:
            self.cluster.start(name)
        self.wait("all are alive again", self.all_alive)

    def test_50_a_rolling_restart_is_no_failure(self):
        self.up()
        self.let_in(*self.stranger())
        for name in self.names:
            self.depctl(name, "node", "leave")
            others = [other for other in self.names if other != name]
            self.wait(f"{name} has left", lambda n=name, o=others: all(self.states(other).get(n) == "left" for other in o))
            self.cluster.kill(name)
            time.sleep(2)
            self.cluster.start(name)
            self.wait(f"{name} is back", self.all_alive)
        self.assert_no_failure()
        self.cluster.kill("n4")  # without a good-bye it is one: the check sees it
        self.wait("n4's failure is told", lambda: self.failures(["n1"]))

    def test_60_wrong_use_is_told(self):
        self.up()
        for words, status, text in (
                (("key", "allow", "n9", "--admin-key", self.admin), 4, "nobody waits as n9"),
                (("key", "allow", "n9"), 2, "--admin-key is missing"),
                (("key", "allow", "n9", "--admin-key", "/nowhere"), 4, "nobody waits"),
                (("key", "allow", "n9", "--admin-key", self.admin, "--key", "12"), 2, "64 hex digits"),
                (("key", "allow", "n9", "--admin-key", self.admin, "--key", "0" * 64, "--address", "10.0.0.9"), 2, "of no use"),
                (("key", "revoke", "n9", "--admin-key", self.admin), 4, "no node n9"),
                (("key", "revoke", "n3", "--admin-key", "/nowhere"), 1, "/nowhere"),
                (("node", "join", "n1", "--server-key", "0" * 64), 2, "numeric address"),
                (("node", "join", "10.77.0.1"), 2, "--server-key"),
                (("node", "show", "n9"), 4, "no member n9")):
            done = self.run_depctl("n1", *words)
            self.assertEqual((done.returncode, text in done.stderr), (status, True), f"{words}: {done.returncode} {done.stderr}")
        self.assertEqual(self.depctl("n1", "node", "show", "n2")["detector"]["name"], "n2")
        self.assert_members("n1")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        BUILD = os.path.realpath(sys.argv.pop(1))
    suite.main(sys.argv[1:])
