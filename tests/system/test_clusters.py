#!/usr/bin/env python3
"""Three clusters of five real nodes on one switch: what stays inside, what is known outside, and who coordinates.

usage: test_clusters.py BUILD_DIR

The nodes run busd, metad (three voters, one of each site), fdd and gossipd. The switch itself counts what passes between
sites, and cuts a site off.
"""
import json
import os
import subprocess
import sys
import time
import unittest

import msgpack
import zmq

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402
import suite  # noqa: E402

BASE = "dst-sites"
BUILD = os.path.join(TREE, "build")
SERVICES = ("busd", "metad", "fdd", "gossipd")
SITES = ("oslo", "paris", "rome")
SIZE = 5
SITE_OF = {f"n{i + 1}": SITES[i // SIZE] for i in range(len(SITES) * SIZE)}
CONFIG = ("[fdd]\ninterval_ms = 250\n[metad]\nvoters = n1 n6 n11\n[gossipd]\nbridge_ms = 500\nsilence_ms = 2000\n" +
          "".join(f"[peer {node}]\nsite = {site}\n" for node, site in SITE_OF.items()))


def members(site):
    return [node for node, where in SITE_OF.items() if where == site]


class Caller:
    """Requests to the gossipd of one node, and the stream of what it tells of members and coordinator."""

    def __init__(self, pid):
        self.stream, self.socket = self._connect(pid), self._connect(pid)
        self.members, self.coord, self.reigns = {}, None, set()
        self._send(self.stream, "gossipd.watch")

    @staticmethod
    def _connect(pid):
        socket = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"ipc:///proc/{pid}/root/run/depsys/gossipd.rpc")
        return socket

    @staticmethod
    def _send(socket, name):
        socket.send_multipart([msgpack.packb({"n": name, "i": 1, "t": 0}), msgpack.packb({})])

    def ask(self, name):
        self._send(self.socket, name)
        if not self.socket.poll(60000):
            raise TimeoutError(f"no answer to {name}")
        header, body = (msgpack.unpackb(frame) for frame in self.socket.recv_multipart())
        if header.get("s"):
            raise RuntimeError(header["e"])
        return body

    def read(self):
        while self.stream.poll(0):
            header, body = (msgpack.unpackb(frame) for frame in self.stream.recv_multipart())
            if header["n"] == "gossipd.member":
                self.members[body["node"]] = body["state"]
            elif header["n"] == "gossipd.coord":
                self.coord = body
                if body["node"]:
                    self.reigns.add((body["epoch"], body["node"]))

    def abroad(self):
        """State of each node of the other clusters."""
        return {node["node"]: node["state"] for node in self.ask("gossipd.abroad")["nodes"]}

    def unknown(self):
        return {one["cluster"].rpartition("/")[2] for one in self.ask("gossipd.cluster_ls")["clusters"] if one["unknown"]}

    def close(self):
        self.stream.close()
        self.socket.close()


class Clusters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory, cls.cluster = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.callers = {}
        cls.addClassCleanup(lambda: [caller.close() for caller in cls.callers.values()])
        cls.cluster.up(BUILD, nodes=len(SITE_OF), config_extra=CONFIG, services=SERVICES)
        cls.count()
        for node in SITE_OF:
            cls.call(node)

    @classmethod
    def call(cls, node):
        if node in cls.callers:
            cls.callers[node].close()
        cls.callers[node] = Caller(cls.cluster.pid(node))

    # -- the switch --

    @classmethod
    def nft(cls, rules, *words):
        """Rules by a file, or words on the command line."""
        done = subprocess.run(["nsenter", "--target", str(cls.cluster.state["switch"]), "--net", "nft", *(words or ("-f", "-"))],
                              input=rules, text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"nft: {done.stderr}")
        return done.stdout

    @classmethod
    def addresses(cls, site):
        return "{ " + ", ".join(cls.cluster.address(node) for node in members(site)) + " }"

    @classmethod
    def count(cls):
        rules = "table bridge sites {\n"
        for source in SITES:
            for to in SITES:
                rules += f"counter {source}-{to} {{}}\n"
        rules += "chain cut { type filter hook forward priority 10; }\nchain count { type filter hook forward priority 0;\n"
        for source in SITES:
            for to in SITES:
                rules += (f"ip saddr {cls.addresses(source)} ip daddr {cls.addresses(to)} udp dport {clusters.PORT} "
                          f"counter name {source}-{to}\n")
        cls.nft(rules + "}\n}\n")

    @classmethod
    def heartbeats(cls):
        """{(from, to): packets} so far."""
        listed = json.loads(cls.nft("", "-j", "list", "table", "bridge", "sites"))["nftables"]
        return {tuple(one["counter"]["name"].split("-")): one["counter"]["packets"] for one in listed if "counter" in one}

    def cut(self, site):
        self.nft("".join(f"add rule bridge sites cut ip {way} {self.addresses(site)} ip {back} {self.addresses(other)} drop\n"
                         for other in SITES if other != site for way, back in (("saddr", "daddr"), ("daddr", "saddr"))))

    def heal(self):
        self.nft("flush chain bridge sites cut\n")

    # -- waiting --

    def wait(self, what, condition, timeout_s=90):
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                self.fail(f"waited {timeout_s} s: {what}; " + "; ".join(
                    f"{node}: {caller.members} {caller.coord} {caller.abroad()} {caller.unknown()}"
                    for node, caller in self.callers.items()))
            time.sleep(0.05)

    def near(self, site):
        """What the nodes of a site that are up tell, up to date."""
        callers = [self.callers[node] for node in members(site) if node in self.callers]
        for caller in callers:
            caller.read()
        return callers

    def all_alive(self):
        return all(caller.members == dict.fromkeys(members(site), "alive") for site in SITES for caller in self.near(site))

    def known_abroad(self, node, state):
        """Do all nodes of the other clusters hold it for that?"""
        return all(caller.abroad().get(node) == state
                   for name, caller in self.callers.items() if SITE_OF[name] != SITE_OF[node])

    def known_near(self, node, state):
        return all(caller.members.get(node) == state for caller in self.near(SITE_OF[node]))

    def all_known_abroad(self):
        return all(set(caller.abroad().values()) == {"alive"} for caller in self.callers.values())

    def coordinator(self, site):
        """Who coordinates a site, if all its nodes agree."""
        named = {caller.coord and caller.coord["node"] for caller in self.near(site)}
        return named.pop() if len(named) == 1 and named.isdisjoint({None, ""}) else None

    def kill(self, node):
        self.callers.pop(node).close()
        self.cluster.kill(node)

    def start(self, node):
        self.cluster.start(node)
        self.call(node)

    def events(self, node, topic):
        said = self.cluster.run(node, ["depctl", "-o", "jsonl", "events", "--since", "all", topic], check=True,
                                capture_output=True, text=True).stdout
        return [json.loads(line) for line in said.splitlines()]

    # -- claims --

    def test_1_each_site_is_a_cluster_and_all_know_of_all(self):
        self.wait("all are alive in each cluster", self.all_alive)
        self.wait("each cluster has a coordinator", lambda: all(self.coordinator(site) for site in SITES))
        self.wait("all nodes know of all", self.all_known_abroad)
        for site in SITES:
            self.wait(f"all name the same gateways of {site}, the coordinator first", lambda s=site: self.first_gateway(s) == self.coordinator(s))
            self.wait(f"a node of {site} coordinates it", lambda s=site: SITE_OF.get(self.coordinator(s)) == s)

    def first_gateway(self, site):
        """The first of the gateways that all name; None when they name others."""
        gateways = {tuple(one["gateways"]) for caller in self.callers.values()
                    for one in caller.ask("gossipd.cluster_ls")["clusters"] if one["cluster"].endswith("/" + site)}
        return gateways.pop()[0] if len(gateways) == 1 else None

    def test_2_heartbeats_stay_inside(self):
        before = self.heartbeats()
        self.wait("heartbeats inside each cluster", lambda: all(
            count - before[pair] > 12 * SIZE for pair, count in self.heartbeats().items() if pair[0] == pair[1]))
        outside = {pair: count for pair, count in self.heartbeats().items() if pair[0] != pair[1] and count}
        self.assertEqual(outside, {}, "heartbeats between clusters, ever")

    def test_3_a_failure_in_one_cluster_is_known_in_the_others(self):
        victim = [node for node in members("paris") if node != self.coordinator("paris") and node != "n6"][0]
        self.kill(victim)
        self.wait("it is dead in its own cluster", lambda: self.known_near(victim, "dead"))
        self.wait("and in the others", lambda: self.known_abroad(victim, "dead"))
        for node in ("n1", "n15"):
            self.wait(f"{node} tells of it", lambda n=node: self.events(n, "cluster.member_dead"))
            self.assertIn(victim, self.told_dead(node, "cluster.member_dead"))
            self.assertNotIn(victim, self.told_dead(node, "member.dead"))
        self.start(victim)
        self.wait("it is alive again for all", lambda: self.known_near(victim, "alive") and
                  self.known_abroad(victim, "alive"))
        self.wait("it knows of all itself", self.all_known_abroad)

    def told_dead(self, node, topic):
        return [event["body"]["node"] for event in self.events(node, topic)]

    def test_4_a_join_completes_though_the_coordinator_is_killed(self):
        before = self.callers[members("rome")[1]].coord["epoch"]
        old = self.coordinator("rome")
        joining = [node for node in members("rome") if node != old and node != "n11"][0]
        self.kill(joining)
        self.wait("the one that will join is gone", lambda: self.known_near(joining, "dead"))
        self.start(joining)
        self.kill(old)
        self.wait("the join completes", lambda: self.known_near(joining, "alive"))
        self.wait("another coordinates", lambda: self.coordinator("rome") not in (None, old))
        self.wait("the others know who", lambda: self.known_abroad(joining, "alive") and self.known_abroad(old, "dead"))
        self.assertGreater(self.callers[joining].coord["epoch"], before)
        self.start(old)
        self.wait("all are alive again", self.all_alive)
        for site in SITES:
            reigns = set().union(*(caller.reigns for caller in self.near(site)))
            self.assertEqual(len(reigns), len({epoch for epoch, _ in reigns}), f"two in one epoch: {sorted(reigns)}")

    def test_5_a_cluster_cut_off_is_unknown_and_nobody_is_dead(self):
        earlier = {topic: len(self.events("n15", topic)) for topic in ("cluster.unknown", "cluster.back")}
        dead = {node: len(self.told_dead(node, "cluster.member_dead")) for node in ("n1", "n6", "n15")}
        self.cut("oslo")
        self.wait("oslo is unknown elsewhere, and all others to oslo", lambda: all(
            caller.unknown() == ({"oslo"} if SITE_OF[node] != "oslo" else {"paris", "rome"})
            for node, caller in self.callers.items()))
        for node, caller in self.callers.items():  # what was last known stays
            self.wait(f"{node} to hold nobody for dead", lambda c=caller: set(c.abroad().values()) <= {"alive", "suspect"})
        table = self.cluster.run("n6", ["depctl", "cluster", "ls"], check=True, capture_output=True, text=True).stdout
        self.assertRegex(table, r"(?m)/oslo +UNKNOWN +5 +\d ")
        self.assertRegex(table, r"(?m)/rome +heard +5 +\d ")
        nodes = self.cluster.run("n6", ["depctl", "cluster", "nodes"], check=True, capture_output=True, text=True).stdout
        self.assertRegex(nodes, r"(?m)^n1 +\S+/oslo +\S+ +(alive|suspect) +UNKNOWN")
        self.heal()
        self.wait("all are heard again", lambda: not any(caller.unknown() for caller in self.callers.values()))
        self.wait("all are alive in each cluster", self.all_alive)
        for node, count in dead.items():
            for name in self.told_dead(node, "cluster.member_dead")[count:]:  # only by its own cluster's word, if ever
                self.assertTrue(any(name in self.told_dead(other, "member.dead") for other in members(SITE_OF[name])), (node, name))
        for topic, count in earlier.items():
            told = [event["body"]["cluster"].rpartition("/")[2] for event in self.events("n15", topic)[count:]]
            self.assertIn("oslo", told, topic)


if __name__ == "__main__":
    if len(sys.argv) > 1 and os.path.isdir(sys.argv[1]):
        BUILD = os.path.abspath(sys.argv.pop(1))
    suite.main(sys.argv[1:], failfast=True)
