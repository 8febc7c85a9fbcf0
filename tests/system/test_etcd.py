#!/usr/bin/env python3
"""The facts in etcd instead of dqlite: three nodes (tools/cluster.py), on each a member of Debian's etcd, TLS with client certificates,
and a service that outlives the leader of etcd and its own node.

usage: test_etcd.py BUILD_DIR [TEST ...]

The tests follow the service's life, so their order matters and each leaves it running.
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import cluster as clusters  # noqa: E402
import scenario  # noqa: E402
import suite  # noqa: E402
from test_recovery import ADDRESS, BUILD, Counting, NODES, RecoveryCase, wait_until  # noqa: E402

BASE = "dst-etcd"
CLIENT, PEER = 2379, 2380
OTHER_PORTS = 3379, 3380
ADDRESSES = {name: f"10.77.0.{number}" for number, name in enumerate(NODES, start=1)}
FILES = "/etc/depsys/etcd-ca.pem", "/etc/depsys/etcd.pem", "/etc/depsys/etcd.key"
SECRETS = f"etcd_ca = {FILES[0]}\netcd_cert = {FILES[1]}\netcd_key = {FILES[2]}\n"
CONFIGURATION = (f"[metad]\netcd = {' '.join(f'https://{address}:{CLIENT}' for address in ADDRESSES.values())}\n"
                 f"{SECRETS}[fdd]\ninterval_ms = 250\n")
STATE = "/var/lib/depsys"  # of a node


class Etcd(RecoveryCase):
    """The life of a service whose facts are in etcd."""

    @classmethod
    def setUpClass(cls):
        cls.pace = scenario.Pace()
        cls.directory, cls.cluster = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.certificates = os.path.join(cls.directory, "certificates")
        os.mkdir(cls.certificates)
        subprocess.run([os.path.join(TREE, "tests", "certificates"), cls.certificates, *ADDRESSES.values()], check=True,
                       capture_output=True)
        cls.cluster.up(BUILD, nodes=3, config_extra=CONFIGURATION)
        for node in NODES:
            cls.give_certificate(node, "client")
            cls.start_etcd(node)
        scenario.wait_ready(cls.cluster)
        cls.bundle = scenario.make_bundle(cls.directory)
        cls.run_ve("counter", ADDRESS, "n1")
        cls.counting = Counting(cls.cluster, os.path.join(cls.directory, "record"))
        cls.addClassCleanup(lambda: cls.counting.close())
        wait_until("the first increment", lambda: os.path.exists(cls.counting.path) and cls.counting.lines())

    @classmethod
    def give_certificate(cls, node, name):
        """The node's certificate for etcd, readable for metad; whole or not at all."""
        for source, path in zip(("ca.pem", f"{name}.pem", f"{name}.key"), FILES):
            target = os.path.join(cls.cluster.node_directory(node), "etc", os.path.basename(path))
            with open(os.path.join(cls.certificates, source), encoding="ascii") as file:
                clusters.write(target + ".new", file.read(), 0o640)
            os.chown(target + ".new", 0, clusters.FIRST_ID)
            os.replace(target + ".new", target)

    @classmethod
    def start_etcd(cls, node, other=False):
        """A member of the cluster; other: a cluster of its own beside it."""
        name, ports = ("other", OTHER_PORTS) if other else (node, (CLIENT, PEER))
        url, peer = (f"https://{ADDRESSES[node]}:{port}" for port in ports)
        members = {name: peer} if other else {name: f"https://{address}:{PEER}" for name, address in ADDRESSES.items()}
        server = os.path.join(cls.certificates, "server")
        ca = os.path.join(cls.certificates, "ca.pem")
        command = ["etcd", "--name", name, "--data-dir", os.path.join(cls.directory, f"etcd-{name}"), "--logger", "zap",
                   "--initial-cluster", ",".join(f"{name}={peer}" for name, peer in members.items()),
                   "--initial-advertise-peer-urls", peer, "--listen-peer-urls", peer,
                   "--advertise-client-urls", url, "--listen-client-urls", url]
        for kind in "", "peer-":
            command += [f"--{kind}cert-file", server + ".pem", f"--{kind}key-file", server + ".key",
                        f"--{kind}trusted-ca-file", ca, f"--{kind}client-cert-auth"]
        cls.start_process(node, command, "etcd")

    @classmethod
    def start_process(cls, node, command, log):
        with open(os.path.join(cls.cluster.node_directory(node), "log", log), "ab") as output:
            process = cls.cluster.popen(node, command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        cls.addClassCleanup(process.wait)
        cls.addClassCleanup(process.kill)  # first: it does not end by itself

    def endpoints(self, node):
        return {row["voter"]: row["state"] for row in self.depctl(node, "meta", "status", check=False) or []}

    def leader(self):
        """The node whose etcd leads."""
        urls = {f"https://{address}:{CLIENT}": node for node, address in ADDRESSES.items()}

        def one():
            return next((urls[url] for url, state in self.endpoints(self.any_node()).items() if state == "leads" and url in urls), None)
        return wait_until("a leader of etcd", one)

    def said(self, node, text):
        path = os.path.join(self.cluster.node_directory(node), "log", "metad", "current")
        with open(path, encoding="utf-8", errors="replace") as log:
            return text in log.read()

    def test_10_depctl_tells_the_endpoints_and_who_leads(self):
        self.assertIn(self.leader(), NODES)
        states = wait_until("all endpoints", lambda: sorted(self.endpoints("n1").values()) == ["leads", "serves", "serves"] and
                            self.endpoints("n1"))
        self.assertEqual(sorted(states), sorted(f"https://{address}:{CLIENT}" for address in ADDRESSES.values()))

    def test_11_voters_are_etcds_own_matter(self):
        for verb in "add", "remove", "rejoin":
            done = self.cluster.run("n1", ["depctl", "meta", verb, "n2"], capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("the facts are in etcd", done.stderr)

    def export(self, *options):
        """The path on n1 of all facts, and {key: value}."""
        def exported():
            done = self.cluster.run("n1", ["depctl", *options, "meta", "export"], capture_output=True, text=True)
            return done.returncode == 0 and done.stdout.split(": ")[0]
        path = wait_until("an export", exported)
        with open(path.replace(STATE, os.path.join(self.cluster.node_directory("n1"), "var")), encoding="ascii") as file:
            return path, {fact["key"]: fact["value"] for fact in map(json.loads, file) if "key" in fact}

    def test_12_facts_are_exported_and_come_into_an_etcd_that_is_empty(self):
        self.wait_checkpoint()
        path, facts = self.export()
        self.assertLessEqual({"ve/counter", "key/counter", "cat/counter"}, set(facts))
        self.start_etcd("n1", other=True)
        with open(os.path.join(self.cluster.node_directory("n1"), "etc", "depsys.conf"), encoding="ascii") as file:
            text = file.read().split("[peer n2]")[0].replace("port = 7400", "port = 7500")
        config = os.path.join(self.cluster.node_directory("n1"), "etc", "other.conf")
        clusters.write(config, text.replace("[node]", f"[node]\nrun = /run/other\nstate = {STATE}/other") + (
            f"[metad]\netcd = https://{ADDRESSES['n1']}:{OTHER_PORTS[0]}\n" + SECRETS))
        self.start_process("n1", ["/run/bin/metad", "--config", "/etc/depsys/other.conf"], "other-metad")
        other = "--config", "/etc/depsys/other.conf"
        wait_until("the import", lambda: self.cluster.run(
            "n1", ["depctl", *other, "meta", "import", path], capture_output=True, text=True).stdout == f"{len(facts)} facts\n")
        self.assertEqual(self.export(*other)[1], facts)

    def test_13_facts_are_not_imported_over_others(self):
        path, _ = self.export()
        self.next_checkpoint()
        wait_until("a refusal", lambda: "the store is not empty" in self.cluster.run(
            "n1", ["depctl", "meta", "import", path], capture_output=True, text=True).stderr)

    def test_20_checkpoints_go_on_after_the_leader_of_etcd_is_killed(self):
        leader = self.leader()
        self.cluster.run(leader, ["pkill", "-9", "-x", "etcd"])
        wait_until("another leader", lambda: self.leader() != leader)
        self.next_checkpoint()
        self.wait_answers()
        self.start_etcd(leader)
        wait_until("it to serve again", lambda: "unreachable" not in self.endpoints(self.any_node()).values())

    def test_30_the_service_goes_on_elsewhere_when_its_node_and_a_member_of_etcd_die(self):
        victim = self.fact()["node"]
        acknowledged = self.next_checkpoint()
        self.cluster.kill(victim)
        wait_until("it to be placed elsewhere", lambda: self.fact()["node"] != victim)
        self.wait_answers()
        self.next_checkpoint()
        self.assertGreater(self.checkpoints()[-1]["id"], acknowledged["id"])
        self.cluster.start(victim)
        self.start_etcd(victim)
        wait_until("it to serve again", lambda: self.endpoints(victim) and "unreachable" not in self.endpoints(victim).values())
        scenario.wait_ready(self.cluster)

    def test_40_a_refused_certificate_is_told_and_a_new_one_taken(self):
        node = next(name for name in NODES if name != self.fact()["node"])
        self.give_certificate(node, "old")
        self.cluster.run(node, ["sv", "-w", "60", "restart", "/run/service/metad"], check=True, capture_output=True)
        wait_until("metad to be refused", lambda: self.said(node, "refuses our certificate"))

        def told():
            done = self.cluster.run(node, ["depctl", "meta", "status"], capture_output=True, text=True)
            return done.returncode != 0 and "facts cannot be written" in done.stderr
        wait_until("depctl to tell", told)
        self.give_certificate(node, "client")  # without a restart
        wait_until("metad to be let in", lambda: "leads" in self.endpoints(node).values())


class Configuration(unittest.TestCase):
    """What metad --check says of the lines."""

    def check(self, *lines):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write("[node]\nname = n1\ncluster = c\naddress = 10.77.0.1\n[peer n1]\naddress = 10.77.0.1\nport = 7400\n"
                       f"key = {'1' * 64}\n[metad]\n" + "\n".join(lines) + "\n")
            file.flush()
            done = subprocess.run([os.path.join(BUILD, "metad", "metad"), "--check", "--config", file.name], capture_output=True,
                                  text=True, check=False)
        return done.returncode == 0, done.stdout + done.stderr

    def test_lines_that_cannot_be_are_refused_with_the_reason(self):
        files = "etcd_ca = /a", "etcd_cert = /b", "etcd_key = /c"
        self.assertEqual(self.check("etcd = https://10.0.0.1:2379 https://[fd00::1]:2379", *files)[0], True)
        for said, lines in {
                "https://ADDRESS:PORT": ("etcd = http://10.0.0.1:2379", *files),
                "numeric address": ("etcd = https://etcd.example:2379", *files),
                "is not https": ("etcd = https://10.0.0.1:99999", *files),
                "at most 7": ("etcd = " + " ".join(f"https://10.0.0.{i}:2379" for i in range(1, 9)), *files),
                "etcd_key: a path": ("etcd = https://10.0.0.1:2379", *files[:2]),
                "without etcd": files[:1],
                "nobody votes here": ("etcd = https://10.0.0.1:2379", "voters = n1", *files)}.items():
            right, text = self.check(*lines)
            self.assertFalse(right, lines)
            self.assertIn(said, text)


if __name__ == "__main__":
    suite.main()
