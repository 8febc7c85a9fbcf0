#!/usr/bin/env python3
"""Two sites with one metad: a VE is of one site, its name of all, and it waits for its site.

usage: test_sites.py BUILD_DIR

The nodes run no ved: a VE is placed here, and nothing starts it.
"""
import os
import sys
import unittest

import msgpack
import zmq

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402
import suite  # noqa: E402

BASE = "dst-ve-sites"
BUILD = os.path.join(TREE, "build")
SERVICES = ("busd", "metad", "fdd", "gossipd", "migrated")
OSLO, PARIS = ("n1", "n2", "n3"), ("n4", "n5", "n6")
CONFIG = ("[fdd]\ninterval_ms = 250\n[metad]\nvoters = n1 n4 n5\n[gossipd]\nbridge_ms = 500\nsilence_ms = 2000\n" +
          "".join(f"[peer {node}]\nsite = {site}\n" for site, nodes in (("oslo", OSLO), ("paris", PARIS)) for node in nodes))
WAIT_S = 60


class Sites(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory, cls.cluster = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.bundle = os.path.join(cls.directory, "bundle")
        os.mkdir(cls.bundle)
        for name in ("config.json", "rootfs.tar"):
            with open(os.path.join(cls.bundle, name), "w", encoding="ascii"):
                pass
        cls.cluster.up(BUILD, nodes=6, config_extra=CONFIG, services=SERVICES)
        cls.wait("a VE is placed", lambda: cls.place("shared", "n3"))

    @staticmethod
    def wait(what, condition):
        clusters.wait_for(what, condition, WAIT_S, 0.2)

    @classmethod
    def ask(cls, node, name, body):
        """The header and body of an answer of the daemon that the message is named after."""
        with zmq.Context.instance().socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(f"ipc:///proc/{cls.cluster.pid(node)}/root/run/depsys/{name.partition('.')[0]}.rpc")
            socket.send_multipart([msgpack.packb({"n": name, "i": 1, "t": 0}), msgpack.packb(body)])
            return [msgpack.unpackb(frame) for frame in socket.recv_multipart()] if socket.poll(10000) else [{"s": 1}, {}]

    @classmethod
    def place(cls, ve, node):
        return not cls.ask(node, "migrated.run", {"name": ve, "bundle": bytes(32), "node": node})[0].get("s")

    def depctl(self, node, *words):
        return self.cluster.run(node, ["depctl", *words], capture_output=True, text=True, check=False)

    def waits_to_hear(self, node, text, *words):
        """A command is refused with that text, as soon as there is a coordinator to refuse it."""
        self.wait(text, lambda: text in self.depctl(node, *words).stderr)

    def fact(self):
        body = self.ask("n4", "metad.get", {"key": "ve/shared"})[1]
        return msgpack.unpackb(body["entry"]["d"]) if "entry" in body else {"node": "", "epoch": 0}

    def oslo_is_unknown(self):
        body = self.ask("n4", "gossipd.cluster_ls", {})[1]
        return any(one["unknown"] for one in body.get("clusters", []) if one["cluster"].endswith("/oslo"))

    def test_1_a_name_that_another_site_has_is_refused_with_where_it_is(self):
        self.waits_to_hear("n5", "there is a VE shared already, of site oslo, on node n3; names are one for all sites",
                           "ve", "run", "shared", self.bundle)
        self.waits_to_hear("n5", "VE shared is of site oslo, on node n3: ask there", "ve", "rm", "shared")
        self.assertEqual(self.fact()["node"], "n3")

    def test_2_a_node_of_another_site_is_refused(self):
        self.waits_to_hear("n5", "node n3 is not of site paris, and a VE runs in the site where it is asked for",
                           "ve", "run", "other", self.bundle, "--node", "n3")

    def test_3_a_ve_waits_for_its_site(self):
        self.cluster.kill("n3")
        self.wait("another node of its site has it", lambda: self.fact()["node"] in ("n1", "n2"))
        for node in ("n1", "n2"):
            self.cluster.kill(node)
        self.wait("the site is unknown", self.oslo_is_unknown)
        last = self.fact()
        self.assertIn(last["node"], ("n1", "n2"))
        others = [node for node in OSLO if node != last["node"]]
        for node in others:
            self.cluster.start(node)
        # Nobody there has ever heard of its node, which may be running it: people decide.
        self.wait("it is given to another node of its site",
                  lambda: self.depctl(others[0], "ckpt", "restore", "shared").returncode == 0)
        self.assertIn(self.fact()["node"], others)


if __name__ == "__main__":
    if len(sys.argv) > 1 and os.path.isdir(sys.argv[1]):
        BUILD = os.path.abspath(sys.argv.pop(1))
    suite.main(sys.argv[1:], failfast=True)
