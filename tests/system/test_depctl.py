#!/usr/bin/env python3
"""test_depctl.py BUILD_DIR: depctl as an operator meets it: every command, form and exit code, on three real nodes.

One cluster serves the whole file, so the classes are in the order of what they break. Needs root.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402
import suite  # noqa: E402

BASE = "dst-depctl"
BUILD = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(TREE, "build")
OK, FAILED, USAGE, UNREACHABLE, NOT_FOUND, DENIED, TIMEOUT = range(7)
ADDRESS = "10.77.0.100"
PATIENCE_S = 90  # the longest wait for what must come
STRANGER = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
CLUSTER = None
DIRECTORY = None
CONFIGURATION = "[metad]\nvoters = n1 n2 n3\n[fdd]\ninterval_ms = 250\n"


def path(*parts):
    return os.path.join(DIRECTORY, *parts)


def wait_until(what, condition):
    return clusters.wait_for(what, condition, PATIENCE_S, 0.02)


def run(node, *words, wrapper=()):
    """(exit code, standard output, standard error) of depctl on a node, with the patience of a test unless the words have their own."""
    patience = () if {"--timeout", "--help", "--version"} & set(words) else ("--timeout", "30s")
    done = CLUSTER.run(node, [*wrapper, "depctl", *patience, *words], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def data(node, *words):
    """The JSON that a command prints, None when it fails."""
    code, out, _ = run(node, "-o", "json", *words)
    return json.loads(out) if code == OK else None


def ready():
    for node in ("n1", "n2", "n3"):
        members = data(node, "node", "ls")
        if not data(node, "status") or not members or not any(m["coordinator"] for m in members) or \
                any(m["state"] != "alive" for m in members):
            return False
    return True


def redis(*words):
    done = CLUSTER.run("client", ["redis-cli", "-h", ADDRESS, *words], capture_output=True, text=True, timeout=60)
    return done.stdout.strip() if done.returncode == 0 else None


def answers(value):
    def asks():
        try:
            return redis("get", "key") == value
        except subprocess.TimeoutExpired:
            return False
    wait_until(f"redis to say {value}", asks)


def digest(file):
    with open(file, "rb") as content:
        return hashlib.sha256(content.read()).hexdigest()


class Depctl(unittest.TestCase):
    def says(self, *words, node="n1"):
        """Standard output of a command that succeeds without a word of complaint."""
        code, out, err = run(node, *words)
        complaints = [line for line in err.splitlines() if "stood still lately" not in line]  # true on a machine that stalls
        self.assertEqual((code, complaints), (OK, []), f"depctl {' '.join(words)}")
        return out

    def gives(self, *words, node="n1"):
        return json.loads(self.says("-o", "json", *words, node=node))

    def fails(self, expected, *words, node="n1", saying="", wrapper=()):
        """It fails with that code, prints no data and says why."""
        code, out, err = run(node, *words, wrapper=wrapper)
        self.assertEqual(code, expected, f"depctl {' '.join(words)}: {out}{err}")
        self.assertEqual(out, "", f"depctl {' '.join(words)}")
        self.assertIn(saying, err)
        return err


class Looking(Depctl):
    def test_every_table_has_a_json_and_a_jsonl_twin(self):
        for words in (("status",), ("stats", "fdd"), ("node", "ls"), ("cluster", "ls"), ("fd", "ls"), ("meta", "ls"), ("meta", "ls", "coord/"),
                      ("obj", "verify")):
            self.assertGreaterEqual(len(self.says(*words).splitlines()), 2, words)
            value = self.gives(*words)
            lines = [json.loads(line) for line in self.says("-o", "jsonl", *words).splitlines()]
            self.assertEqual(len(lines), len(value) if isinstance(value, list) else 1, words)

    def test_an_empty_list_is_empty_json_and_a_remark_for_people(self):
        for words in (("ve", "ls"), ("ckpt", "ls"), ("obj", "ls")):
            self.assertEqual(self.gives(*words), [])
            self.assertEqual(self.says("-o", "jsonl", *words), "")
            code, out, err = run("n1", *words)
            self.assertEqual((code, out), (OK, ""))
            self.assertTrue(err)

    def test_status_tells_of_daemons_and_of_the_cluster(self):
        wait_until("all to be alive", ready)
        status = self.gives("status")
        self.assertEqual({row["state"] for row in status["daemons"]}, {"up"})
        self.assertEqual((status["node"], status["all_up"], len(status["daemons"])), ("n1", True, 9))
        wait_until("three to be told of", lambda: f"3 of 3 nodes alive, coordinator {self.gives('status')['coordinator']}" in self.says("status"))

    def test_events_end_continue_and_begin_where_asked(self):
        everything = [json.loads(line) for line in self.says("-o", "jsonl", "events", "--since", "all").splitlines()]
        started = [event for event in everything if event["topic"] == "member.alive" or event["topic"].startswith("daemon.")]
        self.assertTrue(started, {event["topic"] for event in everything})
        third = everything[2]
        after = self.says("-o", "jsonl", "events", "--since", f"{third['epoch']}:{third['seq']}", "--count", "1")
        self.assertEqual(json.loads(after)["seq"], third["seq"] + 1)
        self.assertLessEqual(len(self.says("events").splitlines()), 20)
        self.assertEqual(len(self.says("events", "-f", "--since", "all", "--count", "2").splitlines()), 2)
        self.assertTrue(all(" fdd " in line for line in self.says("events", "--since", "all", "fd.").splitlines()))

    def test_log_changes_what_a_running_daemon_tells(self):
        self.assertEqual(self.says("log", "gosd", "debug"), "")
        self.assertEqual(self.says("log", "gosd", "info"), "")

    def test_keys_are_made_once_and_shown(self):
        public = self.says("key", "new", path("key")).strip()
        self.assertRegex(public, "^[0-9a-f]{64}$")
        self.assertEqual(self.gives("key", "show", path("key")), {"public_key": public})
        self.fails(FAILED, "key", "new", path("key"), saying="exists")
        self.fails(FAILED, "key", "show", path("no-key"), saying="no-key")


class Using(Depctl):
    def test_help_is_data_with_examples(self):
        self.assertIn("first steps:", self.says("--help"))
        self.assertIn("example: depctl ve run", self.says("ve", "run", "--help"))
        self.assertNotIn("obj put", self.says("ve", "--help"))
        self.assertRegex(self.says("--version"), r"^depctl \d")

    def test_wrong_use_is_2_before_anybody_is_asked(self):
        for words in ((), ("nosuch",), ("nosuch", "--help"), ("ve",), ("ve", "nosuch"), ("ve", "show"), ("ve", "ls", "one"),
                      ("-o", "xml", "status"), ("-o",), ("--timeout", "soon", "status"), ("events", "--since", "now"),
                      ("events", "--count", "0"), ("events", "--nosuch"), ("events", "--count", "1", "--count", "2"),
                      ("stats", "nosuch"), ("log", "fdd", "loud"), ("obj", "get", "3f9a", "/tmp/x"), ("obj", "rm", "x"),
                      ("ckpt", "restore", "one", "last"), ("ckpt", "show", "x"), ("ckpt", "rm", "one"),
                      ("ckpt", "schedule", "one", "--interval", "often"), ("ckpt", "schedule", "one", "--keep", "40"), ("ckpt", "restore", "one", "1."),
                      ("obj", "put", "/etc/hostname", "--copies", "many")):
            self.fails(USAGE, *words)

    def test_a_missing_configuration_says_what_to_give(self):
        self.fails(FAILED, "--config", "/nosuch", "status", saying="--config FILE")

    def test_a_stranger_is_denied_and_told_who_is_not(self):
        for words in (("ve", "ls"), ("meta", "ls"), ("events",), ("events", "-f"), ("obj", "put", "/etc/hostname")):
            self.fails(DENIED, *words, wrapper=STRANGER, saying="group depsys")
        self.assertEqual(run("n1", "status", wrapper=STRANGER)[0], DENIED)


class Objects(Depctl):
    def setUp(self):
        os.makedirs(path("tree"), exist_ok=True)
        for name, size in (("empty", 0), ("small", 10), ("large", 3000000)):
            with open(path("tree", name), "wb") as file:
                file.write(os.urandom(size))

    def returns(self, source, *key):
        """The object id of what was put, once it came back equal on another node."""
        oid = self.gives("obj", "put", source, *key)["oid"]
        target = path("back-" + oid[:12])
        self.gives("obj", "get", oid, target, *key, node="n3")
        files = [source] if os.path.isfile(source) else [os.path.join(source, name) for name in os.listdir(source)]
        self.assertEqual(sorted(os.listdir(target)), sorted(map(os.path.basename, files)))
        for file in files:
            self.assertEqual(digest(file), digest(os.path.join(target, os.path.basename(file))))
        return oid

    def test_what_is_put_comes_back_the_same_with_and_without_a_key(self):
        self.says("key", "new", path("mine"))
        self.says("key", "new", path("other"))
        oids = [self.returns(path("tree")), self.returns(path("tree", "small")), self.returns(path("tree"), "--key", path("mine"))]
        self.fails(DENIED, "obj", "get", oids[2], path("wrong"), "--key", path("other"))
        self.assertFalse(os.path.exists(path("wrong")))
        self.assertNotEqual(run("n1", "obj", "get", oids[2], path("plain"))[0], OK)
        self.assertFalse(os.path.exists(path("plain")))
        listed = {row["oid"]: row for row in self.gives("obj", "ls")}
        self.assertEqual([listed[oid]["sealed"] for oid in oids], [False, False, True])
        for oid in oids:
            self.assertEqual(self.gives("obj", "verify", oid)["broken"], [])
            self.gives("obj", "rm", oid)
        self.assertEqual(self.gives("obj", "ls"), [])
        self.fails(NOT_FOUND, "obj", "get", oids[0], path("gone"))
        self.fails(NOT_FOUND, "obj", "rm", oids[0])

    def test_copies_are_on_other_nodes_and_what_is_not_there_is_not_found(self):
        put = self.gives("obj", "put", path("tree"), "--copies", "2", "--name", "three")
        self.assertEqual(sorted(put["replicas"]), ["n2", "n3"])
        self.assertEqual(self.gives("obj", "ls", node="n2")[0]["oid"], put["oid"])
        self.gives("obj", "rm", put["oid"])
        self.fails(NOT_FOUND, "obj", "put", path("nosuch"), saying="No such file")
        self.assertEqual(os.listdir(f"/proc/{CLUSTER.pid('n1')}/root/run/depsys/images"), [])


class Services(Depctl):
    @classmethod
    def setUpClass(cls):
        subprocess.run([os.path.join(TREE, "tools", "bundle"), "--out", path("redis"), "--program", "/usr/bin/redis-server",
                        "--user", "redis", "--dir", "/data:redis", "--", "--dir", "/data", "--save", "", "--protected-mode",
                        "no"], check=True)

    def refuses(self, code, *words, saying):
        self.fails(code, "ve", "run", *words, saying=saying)

    def test_1_what_cannot_run_is_refused_and_leaves_no_object(self):
        self.refuses(USAGE, "Bad name", path("redis"), saying="a-z 0-9 -")
        self.refuses(USAGE, "one", path("redis"), "--address", "here", saying="like 10.77.0.100/24")
        self.refuses(USAGE, "one", path("redis"), "--address", "10.77.0.2/24", saying="that of node n2")
        self.refuses(USAGE, "one", path("redis"), "--interval", "often", saying="not a time")
        self.refuses(USAGE, "one", path("redis"), "--copies", "9", saying="from 0 to 4")
        self.refuses(NOT_FOUND, "one", path("redis"), "--node", "n9", saying="no node n9")
        self.refuses(NOT_FOUND, "one", path("nosuch"), saying="tools/bundle makes one")
        for words in (("ve", "show"), ("ve", "stop"), ("ve", "rm"), ("ckpt", "create"), ("ckpt", "ls"), ("ckpt", "restore")):
            self.fails(NOT_FOUND, *words, "nosuch", saying="nosuch")
        for node in ("n1", "n2", "n3"):
            self.assertEqual(self.gives("obj", "ls", node=node), [])

    def test_2_a_service_goes_back_to_an_older_checkpoint(self):
        placed = self.gives("ve", "run", "one", path("redis"), "--address", f"{ADDRESS}/24", "--node", "n1", "--interval", "0")
        self.assertEqual((placed["name"], placed["node"], placed["want"]), ("one", "n1", "run"))
        self.refuses(FAILED, "one", path("redis"), saying="there is a VE one already")
        self.refuses(FAILED, "two", path("redis"), "--address", f"{ADDRESS}/16", saying=f"VE one has the address {ADDRESS}/24")
        answers("")
        made = []
        for value in ("old", "new"):
            redis("set", "key", value)
            made.append(wait_until("a checkpoint", lambda: data("n1", "ckpt", "create", "one")))
        redis("set", "key", "newest")
        self.assertEqual([one["committed"] for one in made], [True, True])
        listed = {one["id"]: one for one in self.gives("ckpt", "ls", "one", node="n3")}
        old, new = (listed[one["id"]] for one in made)
        self.assertLess(old["id"], new["id"])
        shown = f"{old['id'] >> 32}.{old['id'] & 0xffffffff}"
        self.assertIn(f" {shown} ", self.says("ckpt", "ls"))
        self.assertEqual(self.gives("ckpt", "restore", "one", shown)["start_ckpt"], old["id"])
        answers("old")
        self.assertEqual(self.gives("ckpt", "restore", "one", node="n2")["start_ckpt"], new["id"])
        answers("new")
        self.fails(NOT_FOUND, "ckpt", "restore", "one", "9.9", saying="no checkpoint 9.9")
        self.assertLessEqual({old["id"], new["id"]}, {one["id"] for one in self.gives("ve", "show", "one", node="n2")["checkpoints"]})
        self.assertRegex(self.says("ve", "show", "one"), r"(?s)^VE +one\n.*CHECKPOINT")
        self.look_at_one(shown, old)
        self.assertIn(f"{ADDRESS}/24", self.says("ve", "ls", node="n3"))

    def look_at_one(self, shown, old):
        """What one checkpoint is, that the older one can be taken away, and, last as it makes new ones, when the next is due."""
        self.assertEqual([(one["ve"], one["id"]) for one in self.gives("ckpt", "show", shown, node="n2")], [("one", old["id"])])
        for node in (old["node"], *old["replicas"]):
            self.assertEqual([(one["node"], one["state"]) for one in self.gives("ckpt", "verify", shown, node=node)], [(node, "whole")])
        self.fails(NOT_FOUND, "ckpt", "show", "9.9", saying="no checkpoint 9.9")
        self.fails(NOT_FOUND, "ckpt", "rm", "one", "9.9", saying="no such checkpoint")
        newest = self.gives("ckpt", "ls", "one")[-1]["id"]
        self.fails(FAILED, "ckpt", "rm", "one", str(newest), saying="it is the newest")
        self.says("ckpt", "rm", "one", shown, node="n3")
        self.assertNotIn(old["id"], [one["id"] for one in self.gives("ckpt", "ls", "one")])
        for node in ("n1", "n2", "n3"):
            wait_until(f"its image to be gone from {node}", lambda n=node: old["oid"] not in [one["oid"] for one in data(n, "obj", "ls")])
        self.assertEqual(self.gives("ckpt", "schedule", "one")["keep"], 3)
        self.gives("ckpt", "schedule", "one", "--adaptive", "--loss", "2min", "--keep", "2", "--hourly", "24", node="n3")
        plan = self.gives("ckpt", "schedule", "one", "--share", "20", node="n2")
        self.assertEqual((plan["adaptive"], plan["loss_ms"], plan["share"], plan["keep"], plan["keep_hourly"]), (True, 120000, 20, 2, 24))
        self.assertEqual(self.gives("ckpt", "schedule", "one", "--interval", "0")["adaptive"], False)
        self.fails(NOT_FOUND, "ckpt", "schedule", "nosuch", saying="no VE nosuch")

    def test_3_a_stopped_service_stays_known_and_a_removed_one_leaves_nothing(self):
        self.assertEqual(self.gives("ve", "stop", "one")["want"], "stopped")
        wait_until("one to be stopped", lambda: CLUSTER.run("client", ["ping", "-c1", "-W1", ADDRESS],
                                                            stdout=subprocess.DEVNULL).returncode != 0)
        self.assertEqual([ve["want"] for ve in self.gives("ve", "ls")], ["stopped"])
        self.gives("ve", "rm", "one")
        # What a round came to is kept, a bounded number of them: ckptd's cells belong to no VE.
        wait_until("the facts to be gone", lambda: {fact["key"].split("/")[0] for fact in data("n2", "meta", "ls")} <=
                   {"coord", "ckpt"})
        for node in ("n1", "n2", "n3"):
            wait_until(f"the objects on {node} to be gone", lambda n=node: data(n, "obj", "ls") == [])
        self.assertEqual(self.gives("ve", "ls"), [])


class Trouble(Depctl):
    """Last: what is broken here stays broken."""

    def sv(self, node, command, daemon):
        """stop and start return when it is so; down and up would when it is asked for."""
        CLUSTER.run(node, ["sv", "-w", "60", command, f"/run/service/{daemon}"], stdout=subprocess.DEVNULL, check=True)

    def test_1_a_daemon_that_hangs_is_a_timeout(self):
        with open(f"/proc/{CLUSTER.pid('n1')}/root/run/service/fdd/supervise/pid", encoding="ascii") as file:
            pid = file.read().strip()
        CLUSTER.run("n1", ["kill", "-STOP", pid], check=True)
        try:
            self.fails(TIMEOUT, "fd", "ls", "--timeout", "300ms", saying="--timeout")
            code, out, err = run("n1", "status", "--timeout", "300ms")
            self.assertEqual(code, TIMEOUT)
            self.assertRegex(out, r"(?m)^fdd +timeout")
            self.assertIn("fdd did not answer within 300 ms", err)
        finally:
            CLUSTER.run("n1", ["kill", "-CONT", pid], check=True)

    def test_2_without_busd_all_but_the_events_works(self):
        self.sv("n1", "stop", "busd")
        self.fails(UNREACHABLE, "events", saying="sv status busd")
        code, out, err = run("n1", "status")
        self.assertEqual(code, UNREACHABLE)
        self.assertRegex(out, r"(?m)^busd +down")
        self.assertIn("busd is down; try:", err)
        self.assertEqual(len(self.gives("node", "ls")), 3)
        self.assertEqual(self.gives("ve", "ls"), [])
        self.sv("n1", "start", "busd")

    def test_3_a_daemon_that_is_down_is_unreachable_at_once(self):
        self.sv("n1", "stop", "gosd")
        self.fails(UNREACHABLE, "obj", "ls", "--timeout", "60s", saying="systemctl status depsys-gosd", wrapper=("timeout", "30"))

    def test_4_without_a_majority_nothing_is_placed_and_it_says_so(self):
        CLUSTER.kill("n2")
        CLUSTER.kill("n3")
        wait_until("n1 to see that it is alone", lambda: "cut off from the majority" in run("n1", "node", "ls")[2])
        self.fails(UNREACHABLE, "ve", "stop", "one", saying="try: depctl status, and depctl node ls")
        self.assertIn("cut off from the majority", run("n1", "status")[1])


def main():
    global CLUSTER, DIRECTORY
    clusters.sweep(BASE)
    DIRECTORY = tempfile.mkdtemp(prefix=f"{BASE}-{os.getpid()}-")
    CLUSTER = clusters.Cluster(f"{BASE}-{os.getpid()}", path("cluster"))
    try:
        CLUSTER.up(BUILD, config_extra=CONFIGURATION)
        wait_until("all daemons to be up", ready)
        loader = unittest.defaultTestLoader
        cases = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (Looking, Using, Objects, Services, Trouble))
        good = suite.runner().run(cases).wasSuccessful()
    finally:
        CLUSTER.down()
        shutil.rmtree(DIRECTORY, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces and control groups")
        sys.exit(77)
    sys.exit(main())
