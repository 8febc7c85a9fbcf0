#!/usr/bin/env python3
"""Every daemon that takes part in a checkpoint is killed at each of its crash points (common/crashpoint.h), once: goal C3.

usage: test_crashpoints.py BUILD_DIR [LABEL...]

Three nodes; two redis, one on the coordinator's node, are checkpointed together in rounds that the test asks for; a client counts
with each over one connection. For each label: it is armed, rounds are asked for until it has killed, the supervisor starts the
daemon again, and then the next round must commit, both services must answer over their connections without a step left out, every
image of the catalogue must be where the catalogue says, and no cell may stay undecided. At the end each kept image is read chunk
by chunk, and nothing may be left over: no image without a catalogue, no directory.

The labels are those in the sources: one that stands in no row of PLAN fails, and so does one that is never reached.
"""
import glob
import itertools
import os
import re
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402
import scenario  # noqa: E402
import suite  # noqa: E402

BASE = "dst-crash"
BUILD = os.path.realpath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(TREE, "build")
ONLY = sys.argv[2:]
NODES = scenario.NODES
VES = {"one": "10.77.0.100", "two": "10.77.0.101"}
PATIENCE_S = 180.0
CLIENT_PATIENCE_S = 60.0  # of one answer: whatever holds a VE, its connection must last
FRESH_NS = 1_000_000_000
FIRST_WAIT_S, LONGEST_WAIT_S = 4, 60  # for one round: it may wait for an answer of a daemon that was killed
INSIDE = "/run/node/dir/crash"  # the directory of armed labels, as a node sees it

# (labels, where they are armed, and what brings them about if a good round does not: a label, and where).
# coordinator: the node that runs the rounds; member: the other node with a VE; any: all nodes, and one of them is killed.
REFUSAL = ("ckptd.freeze", "member")  # its ckptd is killed before it freezes, and its successor refuses
PLAN = (
    ("ckptd.journal-id ckptd.create-cell ckptd.cell-created ckptd.send-vote-request ckptd.send-dump ckptd.commit-cell "
     "ckptd.cell-committed ckptd.send-global-commit ckptd.committed", "coordinator", None),
    ("ckptd.journal-freezing ckptd.freeze ckptd.frozen ckptd.send-vote-commit ckptd.dump ckptd.dumped ckptd.thaw ckptd.thawed "
     "ckptd.journal-captured ckptd.store ckptd.stored ckptd.journal-stored ckptd.send-dumped ckptd.journal-committed ckptd.clean",
     "member", None),
    ("ckptd.journal-refused ckptd.send-vote-abort ckptd.journal-aborted", "member", REFUSAL),
    ("ckptd.abort-cell ckptd.cell-aborted ckptd.send-global-abort ckptd.aborted", "coordinator", REFUSAL),
    ("ckptd.read-cell", "member", ("ckptd.commit-cell", "coordinator")),
    ("ved.freeze ved.frozen ved.dump ved.dumped ved.thaw ved.thawed ved-worker.freeze-recorded ved-worker.gate-shut ved-worker.frozen "
     "ved-worker.dump ved-worker.dumped ved-worker.thawed ved-worker.gate-open", "member", None),
    ("gosd.put gosd.stored-here gosd.offered gosd.sent gosd.copied gosd.put-done gosd.offer gosd.commit gosd.kept gosd.rm "
     "gosd.removed-here gosd.drop", "any", None),
)


def planned():
    """(label, where, cause) in an order that goes from daemon to daemon: a supervisor waits before it starts again what has just begun."""
    rows = [[(label, where, cause) for label in labels.split()] for labels, where, cause in PLAN]
    return [kill for turn in itertools.zip_longest(*rows) for kill in turn if kill]


def labels_in_sources():
    found = set()
    for path in glob.glob(os.path.join(TREE, "*", "*.c")) + glob.glob(os.path.join(TREE, "gdn", "*", "*.c")):
        with open(path, encoding="utf-8") as file:
            found.update(re.findall(r'\bcrash_point\(\s*"([^"]+)"\s*\)', file.read()))
    return found


class Crashing(clusters.Cluster):
    """Its daemons have tests/system/crash.c in them, each node with a directory of its own for what is armed."""

    def _furnish(self, name, bundle, config_extra, programs):
        super()._furnish(name, bundle, config_extra, programs)
        if name == "client":
            return
        os.mkdir(self.armed(name))
        os.chmod(self.armed(name), 0o777)  # the daemons are users of their own
        for service in ("ckptd", "ved", "gosd"):
            run = os.path.join(self.node_directory(name), "service", service, "run")
            with open(run, encoding="utf-8") as file:
                first, _, rest = file.read().partition("\n")
            library = os.path.join(BUILD, "tests", "system", "crash.so")
            clusters.write(run, f"{first}\nexport LD_PRELOAD={library} CRASH_POINTS={INSIDE}\n{rest}", 0o755)

    def armed(self, node, label=""):
        return os.path.join(self.node_directory(node), "crash", label)


def wait_until(what, condition, seconds=PATIENCE_S):
    return scenario.wait_until(what, condition, seconds)


class CrashPoints(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory, plain = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.cluster = Crashing(plain.prefix, plain.state["directory"])
        cls.addClassCleanup(cls.cluster.down)
        cls.addClassCleanup(suite.assert_no_bugs, cls.cluster)
        cls.cluster.up(BUILD, nodes=3, config_extra=scenario.CONFIGURATION)
        scenario.wait_ready(cls.cluster)
        home = cls.coordinator()
        cls.places = dict(zip(VES, (home, next(node for node in NODES if node != home))))
        cls.records, cls.checked = {}, {}
        bundle = scenario.make_bundle(cls.directory)
        for ve, address in VES.items():
            cls.depctl(home, "ve", "run", ve, bundle, "--address", f"{address}/24", "--node", cls.places[ve], "--interval", "0s", "--copies", "1")
            cls.start_client(ve, address)
        for ve, record in cls.records.items():
            wait_until(f"the first answer of {ve}", lambda r=record: os.path.exists(r.path) and r.lines())
        for _ in range(4):  # more than are kept: from here on every round makes an old image superfluous
            cls.commit()

    @classmethod
    def start_client(cls, ve, address):
        path = os.path.join(cls.directory, f"record-{ve}")
        with open(f"{path}.errors", "ab") as errors:
            client = cls.cluster.popen("client", [os.path.join(TREE, "tools", "demo-client"), "--patience", str(CLIENT_PATIENCE_S), address,
                                                  "6379", path], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        cls.addClassCleanup(client.wait)
        cls.addClassCleanup(client.terminate)
        cls.records[ve], cls.checked[ve] = scenario.Record(path), 0

    # ---- asking

    @classmethod
    def depctl(cls, node, *words, check=True):
        return scenario.depctl(cls.cluster, node, *words, check=check)

    @classmethod
    def coordinator(cls):
        def named():
            listed = cls.depctl(NODES[0], "node", "ls", check=False) or []
            return next((member["node"] for member in listed if member["coordinator"]), None)
        return wait_until("a coordinator", named)

    @classmethod
    def create(cls, timeout_s):
        """One try of a round, as a process."""
        return cls.cluster.popen(cls.coordinator(), ["depctl", "-o", "json", "--timeout", f"{timeout_s}s", "ckpt", "create", *VES],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @classmethod
    def commit(cls):
        """Rounds are asked for until one commits; why the others did not."""
        deadline, wait_s, refusals = time.monotonic() + PATIENCE_S, FIRST_WAIT_S, []
        while True:
            process = cls.create(wait_s)
            _, error = process.communicate()
            if process.returncode == 0:
                return refusals
            refusals.append(error.strip())
            if time.monotonic() > deadline:
                raise scenario.Failed(f"no round commits: {refusals[-5:]}")
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            time.sleep(0.1)

    # ---- what must hold

    def look_at_services(self):
        for ve, record in self.records.items():
            wait_until(f"{ve} to answer", lambda r=record: time.monotonic_ns() - r.lines()[-1][0] < FRESH_NS)
            self.assertEqual(record.losses(), [], f"{ve}: its client's connection broke")
            lines = record.lines()
            values = [value for _, value in lines[max(0, self.checked[ve] - 1):]]
            self.assertEqual(values, list(range(values[0], values[0] + len(values))), f"{ve} left out a step")
            self.checked[ve] = len(lines)

    def catalogue(self):
        return self.depctl(NODES[0], "ckpt", "ls")

    def missing_images(self):
        """Kept images that are not where the catalogue says; None: not now."""
        held = {node: self.depctl(node, "obj", "ls", check=False) for node in NODES}
        if None in held.values():
            return None
        oids = {node: {entry["oid"] for entry in entries} for node, entries in held.items()}
        return [f"{kept['ve']} {kept['id']:x} on {node}" for kept in self.catalogue() for node in [kept["node"], *kept["replicas"]]
                if kept["oid"] not in oids[node]]

    def undecided(self):
        entries = self.depctl(NODES[0], "meta", "ls", "ckpt/", check=False)
        return None if entries is None else [e["key"] for e in entries if e["value"]["outcome"] == 0]

    def look(self):
        self.look_at_services()
        kept = {ve: {entry["id"] for entry in self.catalogue() if entry["ve"] == ve} for ve in VES}
        self.assertEqual(kept["one"], kept["two"], "the catalogues of one round's VEs differ")
        self.assertEqual(len(kept["one"]), 3, "checkpoints are kept")
        wait_until("every kept image to be where the catalogue says", lambda: self.missing_images() == [])
        wait_until("every cell to be decided", lambda: self.undecided() == [])

    # ---- one label

    def nodes_of(self, where):
        if where == "any":
            return NODES
        coordinator = self.coordinator()
        if where == "coordinator":
            return [coordinator]
        return [next(node for node in self.places.values() if node != coordinator)]

    def arm(self, label, where):
        nodes = self.nodes_of(where)
        for node in nodes:
            clusters.write(self.cluster.armed(node, label), "")
        return nodes

    def disarm(self):
        """What is still armed; it no longer is."""
        left = [path for node in NODES for path in glob.glob(self.cluster.armed(node, "*"))]
        for path in left:
            try:
                os.unlink(path)
            except FileNotFoundError:  # it killed in this instant
                pass

    def wait_killed(self, label, nodes):
        """Asks for rounds until the label has killed; on which node."""
        def killed():
            return next((node for node in nodes if not os.path.exists(self.cluster.armed(node, label))), None)
        deadline, wait_s = time.monotonic() + PATIENCE_S, FIRST_WAIT_S
        while time.monotonic() < deadline:
            process = self.create(wait_s)
            try:
                while process.poll() is None and not killed():
                    time.sleep(0.01)
            finally:
                process.kill()
                process.communicate()
            if killed():
                return killed()
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        raise scenario.Failed(f"{label} is armed on {nodes} and was never reached")

    def kill_at(self, label, where, cause):
        began = time.monotonic()
        nodes = self.arm(label, where)
        if cause:
            self.arm(*cause)
        node = self.wait_killed(label, nodes)
        self.disarm()
        refusals = self.commit()
        self.look()
        print(f"killed: {label} on {node}, all good after {time.monotonic() - began:.1f} s, {len(refusals)} rounds came to nothing", flush=True)

    def test_1_every_label_of_the_sources_is_in_the_plan(self):
        self.assertEqual(sorted(label for label, _, _ in planned()), sorted(labels_in_sources()))

    def test_2_a_daemon_killed_at_any_crash_point_leaves_every_ve_thawed_and_the_catalogue_whole(self):
        killed = 0
        for label, where, cause in planned():
            if not ONLY or label in ONLY:
                with self.subTest(label=label):
                    self.kill_at(label, where, cause)
                    killed += 1
        print(f"goal C3: {killed} labelled crash points killed and restarted: every VE thawed, catalogue whole", flush=True)

    def left_over(self):
        """Images that no catalogue has, and directories of images on their way."""
        kept = {entry["oid"] for entry in self.catalogue()}
        found = []
        for node in NODES:
            listed = self.depctl(node, "obj", "ls", check=False)
            if listed is None:
                return None
            found += [f"{tag['name']} on {node}" for entry in listed for tag in entry["tags"]
                      if tag["kind"] == "image" and entry["oid"] not in kept]
            found += os.listdir(f"/proc/{self.cluster.pid(node)}/root/run/depsys/ckptd-images")
        return found

    def test_3_nothing_is_left_over_and_every_kept_image_is_whole(self):
        wait_until("everything that no catalogue has to be gone", lambda: self.left_over() == [])
        for node in NODES:
            self.depctl(node, "obj", "verify")
            wait_until(f"all daemons of {node} to be up", lambda n=node: self.cluster.all_up(n))


if __name__ == "__main__":
    suite.main(failfast=True)
