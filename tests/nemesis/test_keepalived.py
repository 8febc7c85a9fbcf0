#!/usr/bin/env python3
"""The checker can fail: the same clients, service and checks on keepalived, which has no fence, and its node that stood still.

usage: test_keepalived.py BUILD_DIR

Two nodes, a counter and keepalived on each, one address. The node that has the address, the one of higher priority, is stopped as a whole
until the other one has it, and goes on. It finds that it has the address still, and answers: the checks must say so.
"""
import os
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
from testbed import ADDRESS, COUNTER_PORT, PATIENCE_S, TREE, Client, wait_until  # noqa: E402
from checks import History, check, single_runner  # noqa: E402

sys.path.insert(0, os.path.join(TREE, "tests", "system"))
import cluster as clusters  # noqa: E402
import suite  # noqa: E402

BUILD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else os.path.join(TREE, "build")
BASE = "dst-keepalived"
NODES = {"n1": 150, "n2": 100}  # and their priorities
FIRST = "n1"  # it has the higher one, so that it does not give way at once when it goes on
CONFIGURATION = """global_defs {{
    router_id {node}
    script_user root
}}
vrrp_instance counter {{
    state BACKUP
    interface br0
    virtual_router_id 77
    priority {priority}
    advert_int 0.3
    version 3
    virtual_ipaddress {{
        {address}/24 dev br0
    }}
}}
"""


class Keepalived(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory, cls.cluster = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.cluster.up(BUILD, nodes=len(NODES), services=())
        cls.history = History()
        for node, priority in NODES.items():
            cls.start(node, priority)
        cls.clients = [Client(cls.cluster, node, cls.history, 20) for node in (*NODES, "client")]
        for client in cls.clients:
            cls.addClassCleanup(client.close)

    @classmethod
    def start(cls, node, priority):
        path = os.path.join(cls.cluster.node_directory(node), "files", "keepalived.conf")
        clusters.write(path, CONFIGURATION.format(node=node, priority=priority, address=ADDRESS))
        said = os.path.join(cls.cluster.node_directory(node), "log", "console")
        with open(said, "ab") as console:
            for command in ([os.path.join(BUILD, "tests", "nemesis", "counter"), str(COUNTER_PORT)],
                            ["keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file", "/run/node/dir/files/keepalived.conf"]):
                cls.cluster.popen(node, command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)

    def has_address(self, node):
        shown = self.cluster.run(node, ["ip", "-o", "address", "show"], capture_output=True, text=True).stdout
        return f" {ADDRESS}/" in shown

    def answered_outside(self, since_ns):
        """Whether the client outside has an answer to what it asked after."""
        return any(answer.client == self.clients[-1].name and self.history.invoked(answer) > since_ns for answer in self.history.answers)

    def freeze(self, node):
        """Stops all that runs in a node; returns when it stands, and how to let it go on."""
        group = self.cluster.groups(node)[0]
        clusters.write(os.path.join(group, "cgroup.freeze"), "1")

        def stands():
            with open(os.path.join(group, "cgroup.events"), encoding="ascii") as events:
                return "frozen 1" in events.read()
        wait_until(f"{node} to stand still", stands, PATIENCE_S)
        return lambda: clusters.write(os.path.join(group, "cgroup.freeze"), "0")

    def test_a_node_that_stood_still_answers_beside_its_successor_and_is_found(self):
        wait_until(f"{FIRST} to have the address, and nobody else", lambda: [n for n in NODES if self.has_address(n)] == [FIRST], PATIENCE_S)
        wait_until("answers", lambda: self.answered_outside(0), PATIENCE_S)
        go_on = self.freeze(FIRST)
        frozen = time.monotonic_ns()
        wait_until("the other node to answer", lambda: self.answered_outside(frozen), PATIENCE_S)
        go_on()
        found = wait_until("the checks to find both", lambda: single_runner(self.history), PATIENCE_S)
        print(f"# {found[0]}", flush=True)
        self.assertEqual({text.partition(":")[0] for text in check(self.history)}, {"single_runner"})


if __name__ == "__main__":
    suite.main(sys.argv[1:])
