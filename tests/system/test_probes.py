#!/usr/bin/env python3
"""A web service as a VE, watched by its node's fdd as `depctl ve run --probe` says (tools/cluster.py).

usage: test_probes.py BUILD_DIR [TEST ...]

The service is stopped (SIGSTOP), killed, moved and ended; its node is well all the time. Its probes are for people, so that it stays
hung until it is continued; those of another one have it mended.
"""
import ast
import json
import os
import platform
import subprocess
import sys
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import msgpack  # noqa: E402
import cluster as clusters  # noqa: E402
import scenario  # noqa: E402
import suite  # noqa: E402

BUILD = sys.argv.pop(1) if len(sys.argv) > 1 else os.path.join(TREE, "build")
BASE = "dst-probes"
PATIENCE_S = 90  # the longest wait for what must come
ANSWER_MS = 4000  # two failed restores take so long; a sound one has to answer within it on a slow machine too
CONFIGURATION = f"[metad]\nvoters = n1 n2 n3\n[fdd]\ninterval_ms = 250\n[migrated]\nanswer_ms = {ANSWER_MS}\n" \
    "restarts = 50\nbackoff_max_ms = 2000\n"  # a slow machine makes a try in vain, which is no reason to give the service up
FOREIGN = [(59, "bti"), (0, "pni")]  # features of migrated/cpu.c that an x86 lacks, and an ARM
HTTP, PROCESS, HEARTBEAT, COMMAND = "web/http:8080/health", "web/process", "web/heartbeat", "web/command"


def wait_until(what, condition):
    return clusters.wait_for(what, condition, PATIENCE_S, 0.05, AssertionError)


class ProbesCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory, cls.cluster = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.cluster.up(BUILD, nodes=3, config_extra=CONFIGURATION)
        scenario.wait_ready(cls.cluster)
        cls.bundle = os.path.join(cls.directory, "bundle")
        subprocess.run([os.path.join(TREE, "tools", "bundle"), "--out", cls.bundle, "--program",
                        os.path.join(BUILD, "tests", "system", "web"), "--also", "/bin/sh", "--also", "/bin/cat", "--", "8080"],
                       check=True)
        cls.run_ve("web", cls.bundle, "--address", "10.77.0.100/24", "--node", "n1", "--interval", "0s", "--copies",
                   "0", "--probe", "http:8080/health~well", "--probe", "process", "--probe", "heartbeat",
                   "--probe", "cmd:test $(cat /proc/1/stat | { read -r _ name _; echo $name; }) = '(web)'",
                   "--probe-interval", "500ms", "--hung-after", "0s")
        wait_until("all probes succeed", lambda: cls.states() == dict.fromkeys((HTTP, PROCESS, HEARTBEAT, COMMAND), "alive"))

    @classmethod
    def depctl(cls, *words, node="n1", check=True):
        return scenario.depctl(cls.cluster, node, *words, check=check)

    @classmethod
    def run_ve(cls, name, *words):
        """While it is asked the coordinator may change: then nobody can say whether it was done."""
        wait_until(f"{name} to be placed", lambda: cls.depctl("ve", "run", name, *words, check=False) or
                   cls.depctl("ve", "show", name, check=False))

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
            wait_until("the suspicions", lambda: self.states()[HTTP] == self.states()[HEARTBEAT] == "silent")
            wait_until("the events", lambda: {event["name"] for event in self.events("fd.service_suspect")} >= {HTTP, HEARTBEAT})
            wait_until("what failed", lambda: self.services()[HTTP]["fault"] == "no answer in time")
            # Its processes are there and a command in it works: hung, not dead.
            wait_until("they to be well", lambda: self.states()[COMMAND] == self.states()[PROCESS] == "alive")
            wait_until("its node to be well", lambda: {row["name"]: row["state"] for row in self.depctl("fd", "ls", node="n2")} ==
                       {"n1": "alive", "n3": "alive"})
            self.assertEqual((self.states()[HTTP], self.states()[HEARTBEAT]), ("silent", "silent"), "all of that at one time")
        finally:
            self.signal("CONT")
        wait_until("its trust", lambda: self.states()[HTTP] == self.states()[HEARTBEAT] == "alive")
        self.assertTrue(self.events("fd.service_trust"))

    def curl(self, path, *words, seconds=60):
        """What webd of n1 says; a stream has no end and is read for so long."""
        return self.cluster.run("n1", ["curl", "-sN", "--max-time", str(seconds), f"http://localhost:7420{path}", *words], capture_output=True,
                                text=True).stdout

    def test_12_who_registers_for_a_service_over_http_is_told_that_it_hangs(self):
        wish = {"service": HTTP, "raise": [0.5], "application": "test"}
        events = wait_until("a registration", lambda: json.loads(
            self.curl("/v1/detection/registrations", "--json", json.dumps(wish))).get("events"))
        self.signal("STOP")
        try:
            wait_until("its event", lambda: f'"raised":true,"threshold":0.5,"name":"{HTTP}","kind":"service"' in self.curl(events, seconds=1))
            rows = wait_until("the levels", lambda: json.loads(self.curl("/v1/detection/levels?ve=web")).get("levels"))
            self.assertEqual({row["name"] for row in rows}, {HTTP, PROCESS, HEARTBEAT, COMMAND})
        finally:
            self.signal("CONT")
        wait_until("its trust", lambda: self.states()[HTTP] == self.states()[HEARTBEAT] == "alive")

    def exec(self, command, epoch=None, **more):
        """Asks ved to run a command in the VE."""
        epoch = epoch or self.depctl("ve", "show", "web")["epoch"]
        program = ("import msgpack, sys, zmq\n"
                   "caller = zmq.Context().socket(zmq.DEALER)\n"
                   "caller.connect('ipc:///run/depsys/ved.rpc')\n"
                   f"body = {({'name': 'web', 'epoch': epoch, 'command': command, **more})!r}\n"
                   "caller.send_multipart([msgpack.packb({'n': 'ved.exec', 'i': 1, 't': 60000}), msgpack.packb(body)])\n"
                   "header, body = [msgpack.unpackb(frame) for frame in caller.recv_multipart()]\n"
                   "print(header.get('s', 0), header.get('e', ''), sep='|')\n"
                   "print(body.get('status'), body.get('output', ''), sep='|')\n")
        done = self.cluster.run("n1", ["/usr/bin/python3", "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        (code, error), (status, output) = (line.split("|", 1) for line in done.stdout.splitlines())
        return int(code), error, status, output.strip()

    def test_15_a_command_has_no_more_privilege_than_its_ve_and_no_more_time_than_asked(self):
        self.assertEqual(self.exec("echo hello; exit 3")[2:], ("3", "hello"))
        first = self.exec("while read -r key value; do case $key in Cap[PEB]*) echo $key $value;; esac; done </proc/1/status")
        own = self.exec("while read -r key value; do case $key in Cap[PEB]*) echo $key $value;; esac; done </proc/self/status")
        self.assertTrue(first[3])
        self.assertEqual(own[3], first[3])
        self.assertIn("no such file", self.exec("cat /var/lib/depsys/secret")[3].lower())
        code, error, _, _ = self.exec("while :; do :; done", timeout_ms=300)
        self.assertEqual((code, "longer than 300 ms" in error), (6, True), error)
        self.assertEqual(self.exec("true", epoch=1)[0], 5)
        self.assertEqual(len(self.exec("while echo xxxxxxxxxxxxxxxx; do :; done", timeout_ms=300)[3]), 0)

    def checkpoints(self, name):
        return [c["id"] for c in self.depctl("ckpt", "ls", name) if c["ve"] == name]

    def refused_as_unwell(self, name):
        done = self.cluster.run("n1", ["depctl", "ckpt", "create", name], capture_output=True, text=True)
        return "what hangs is not captured" in done.stderr

    def test_16_a_hung_service_is_not_checkpointed_until_it_is_well_again(self):
        self.signal("STOP")
        try:
            wait_until("a refusal that says why", lambda: self.refused_as_unwell("web"))
            wait_until("the event", lambda: "unwell" in [e["reason"] for node in ("n1", "n2", "n3") for e in self.events("ckpt.aborted", node)])
            for node in "n1", "n2", "n3":
                wait_until(f"{node} to show it", lambda: self.refused_as_unwell("web") and self.shows_failure(node))
            before = self.checkpoints("web")
            wait_until("a second refusal", lambda: self.refused_as_unwell("web"))
            self.assertEqual(self.checkpoints("web"), before)
        finally:
            self.signal("CONT")
        wait_until("a checkpoint of it", lambda: self.depctl("ckpt", "create", "web", check=False))
        wait_until("nothing to fail any more", lambda: self.failing("n2") == {})

    def failing(self, node):
        """What `ve show` says of rounds that come to nothing; None: it cannot be said, {}: there are none."""
        shown = self.depctl("ve", "show", "web", node=node, check=False)
        return shown and shown.get("failing", {})

    def shows_failure(self, node):
        failing = self.failing(node) or {}
        text = self.cluster.run(node, ["depctl", "ve", "show", "web"], capture_output=True, text=True).stdout
        return (failing.get("reason"), failing.get("at")) == ("unwell", "web") and failing["since_ms"] >= failing["age_ms"] and (
            "checkpoints fail for" in text and "what hangs is not captured" in text)

    def test_18_a_service_that_tells_by_itself_is_checkpointed_and_restored(self):
        wait_until("a checkpoint", lambda: self.depctl("ckpt", "create", "web", check=False))
        before = self.services()[HEARTBEAT]
        wait_until("its restoration", lambda: self.depctl("ckpt", "restore", "web", check=False))
        wait_until("it tells again, in another epoch", lambda: any(
            row["epoch"] > before["epoch"] and row["state"] == "alive" for name, row in self.everywhere().items()
            if name == HEARTBEAT))

    def everywhere(self):
        return {name: row for node in ("n1", "n2", "n3") for name, row in self.services(node).items()}

    def test_20_a_restarted_fdd_learns_the_probes_again(self):
        pid = self.depctl("status")["daemons"]
        before = next(row["pid"] for row in pid if row["daemon"] == "fdd")
        self.cluster.run("n1", ["kill", "-9", str(before)], check=True)
        wait_until("fdd asks again", lambda: len(self.depctl("fd", "ls", check=False) or []) == 6 and
                   set(self.states().values()) == {"alive"})

    def test_30_probes_end_with_their_ve(self):
        self.depctl("ve", "stop", "web")
        wait_until("nothing is probed", lambda: self.states() == {})

    # ---- a service whose probes have it mended

    def mended(self):
        return self.depctl("ve", "show", "mended", check=False) or {"epoch": 0, "node": "", "set_aside": []}

    def where(self):
        return wait_until("a node of it", lambda: self.mended()["node"])

    def answers(self):
        """Its epoch while its probe succeeds, or None."""
        ve = self.mended()
        rows = self.services(ve["node"]) if ve["node"] else {}
        row = rows.get("mended/http:8080/health", {"state": "silent", "good": 0, "epoch": 0})
        return ve["epoch"] if row["state"] == "alive" and row["good"] and row["epoch"] == ve["epoch"] else None

    def in_mended(self, script):
        """Runs a script on its node; $pid is its first process."""
        return self.cluster.run(self.where(), ["sh", "-c", f"pid=$(cat /run/depsys/ve/mended/pid) && {script}"],
                                capture_output=True, text=True).stdout.strip()

    def placements(self):
        return [event for node in ("n1", "n2", "n3") for event in self.events("ve.placed", node) if event["ve"] == "mended"]

    def checkpoint(self):
        return wait_until("a checkpoint", lambda: self.depctl("ckpt", "create", "mended", check=False))["id"]

    def test_40_a_service_that_hangs_is_put_back_to_its_last_checkpoint(self):
        self.run_ve("mended", self.bundle, "--address", "10.77.0.101/24", "--interval", "0s", "--probe", "http:8080/health~well",
                    "--probe-interval", "200ms", "--hung-after", "1s")
        before = wait_until("it answers", self.answers)
        made = self.checkpoint()
        self.in_mended("kill -STOP $pid")
        wait_until("it answers again, in another epoch", lambda: (self.answers() or 0) > before)
        self.assertEqual(self.mended()["start_ckpt"], made)
        reasons = [event["reason"] for event in self.placements() if event["epoch"] > before]
        self.assertTrue(any("it hangs: mended/http:8080/health" in reason for reason in reasons), reasons)

    def test_41_a_checkpoint_that_never_answers_is_set_aside_for_the_one_before(self):
        made = []

        def captured_hung():
            """A checkpoint that was committed while the service hung and nobody knew yet, and one from before; not each time: it may
            be mended before, refused as it is known to hang, or captured while it had not got round to hanging."""
            epoch = wait_until("it answers", self.answers)
            self.checkpoint()
            self.cluster.run("client", ["curl", "-s", "--max-time", "0.5", "http://10.77.0.101:8080/hang"], capture_output=True)
            hung = self.depctl("ckpt", "create", "mended", check=False)
            made.append(hung and hung["id"])
            try:
                clusters.wait_for("it is mended", lambda: self.mended()["epoch"] > epoch, 15, 0.1)
            except clusters.ClusterError:
                pass
            wait_until("it answers", self.answers)
            return next((id for id in made if id in (self.mended().get("set_aside") or [])), None)
        bad = wait_until("a checkpoint of a hung service to be set aside", captured_hung)
        placed = sorted(self.placements(), key=lambda event: event["epoch"])
        last = max(i for i, event in enumerate(placed) if event["from_ckpt"] == bad)
        self.assertLess(placed[last + 1]["from_ckpt"], bad)
        reasons = [event["reason"] for event in placed]
        self.assertTrue(any("its probe has never succeeded" in reason for reason in reasons), reasons)

    def ask_metad(self, name, body):
        """What the admin of a node may ask of its metad."""
        program = ("import msgpack, sys, zmq\n"
                   "caller = zmq.Context().socket(zmq.DEALER)\n"
                   "caller.connect('ipc:///run/depsys/metad.rpc')\n"
                   f"caller.send_multipart([msgpack.packb({{'n': {name!r}, 'i': 1, 't': 5000}}), msgpack.packb({body!r})])\n"
                   "if caller.poll(10000):\n"
                   "    header, body = [msgpack.unpackb(frame) for frame in caller.recv_multipart()]\n"
                   "    print(body if header.get('s', 0) == 0 else None)\n")
        done = self.cluster.run("n1", ["/usr/bin/python3", "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)
        return ast.literal_eval(done.stdout.strip() or "None")

    def set_cpu(self, change):
        """Changes the features that the fact of mended tells; returns what they were."""
        got = self.ask_metad("metad.get", {"key": "ve/mended"})
        fact = got and msgpack.unpackb(got["entry"]["d"])
        if not fact:
            return None
        old, fact["cpu"] = fact["cpu"], change(fact["cpu"])
        reply = self.ask_metad("metad.txn", {"ops": [{"o": "put", "k": "ve/mended", "e": got["entry"]["v"],
                                                      "d": msgpack.packb(fact)}]})
        return old if reply and reply["result"] == "applied" else None

    def test_45_what_no_node_can_run_is_refused_with_what_it_lacks(self):
        def refusal(*words):
            return self.cluster.run("n1", ["depctl", *words], capture_output=True, text=True).stderr
        wait_until("too much memory to be refused", lambda: "of memory are free" in refusal(
            "ve", "run", "big", self.bundle, "--memory", str(1 << 24)))
        wait_until("it answers", self.answers)
        self.checkpoint()
        self.depctl("ve", "stop", "mended", check=False)
        wait_until("it to be stopped", lambda: self.mended().get("want") == "stopped")
        lacking = FOREIGN[platform.machine() == "aarch64"]
        features = wait_until("another CPU in its fact", lambda: self.set_cpu(lambda cpu: cpu | 1 << lacking[0]))
        self.assertGreater(features, 0)
        wait_until("it to be refused with the name of what is lacking", lambda: f"its CPU lacks {lacking[1]}" in refusal(
            "ckpt", "restore", "mended"))
        wait_until("its own CPU again", lambda: self.set_cpu(lambda cpu: features))
        wait_until("its restoration", lambda: self.depctl("ckpt", "restore", "mended", check=False) or self.mended().get("want") == "run")
        wait_until("it answers", self.answers)

    def signal_metads(self, which, but):
        for node in {"n1", "n2", "n3"} - {but}:
            self.cluster.run(node, ["pkill", f"-{which}", "-x", "metad"])

    def test_50_without_a_quorum_the_status_says_why_services_fall_silent(self):
        where = self.where()

        def said(word, *parts):
            done = self.cluster.run(where, ["depctl", *word.split()], capture_output=True, text=True)
            return all(part in done.stderr for part in parts)
        wait_until("it answers", self.answers)
        self.signal_metads("STOP", where)
        try:
            for word in ("ve ls", "status"):
                wait_until(f"{word} says so", lambda w=word: said(w, "no quorum: metad has not answered", "that are silent: "))
        finally:
            self.signal_metads("CONT", where)
        wait_until("it answers again", self.answers)


if __name__ == "__main__":
    suite.main(sys.argv[1:])
