#!/usr/bin/env python3
"""Goal A7: metad's store beside etcd, three nodes each, in the same namespaces and in turns.

    bench/store.py BUILD [--minutes N] [--seed N]        or STORE_MINUTES=N make bench ONLY=store

Writes of 100 bytes, one after the other, from each node: metad is asked as any daemon asks it (its local socket, TLS
between the nodes), etcd by its HTTP gateway over a connection that stays open, without TLS and
with its default heartbeat (100 ms) and election (1 s): less work than ours. "on etcd" is metad with [metad] etcd, asked the same
way, its facts in that etcd by TLS with a client certificate; it tells what each store costs beneath the same interface and is no
part of the goal. Bare dqlite (bench/dqlite.c: one table, one
statement, plain TCP) tells how much of our time is that of the engine beneath, and is none either. Failover is the
time from kill -9 of the leader to the first write that a client of another node gets acknowledged. Then metad alone under
random kills, pauses and cuts for N minutes (default 1; the goal says 30), with the history checked: what was acknowledged is
there, and no value of the counter that all raise by compare-and-swap, as epochs are raised, was given twice.

Needs root. Both keep their logs on the same disk.
"""
import argparse
import base64
import ctypes
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

TREE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, os.path.join(TREE, "tests", "system"))
import test_metad as metads  # noqa: E402

BLOCKS, BLOCK = 8, 50  # writes of one kind before it is the other's turn
FAILOVERS = 6
CLIENT, PEER, DQLITE, TLS = 2379, 2380, 2381, 2382
ON_ETCD = 7500  # port of those metads
CLONE_NEWNET = 0x40000000
WRITE_TIMES, FAILOVER_TIMES, RSS_MB = 2.0, 0.5, 30
GOAL_MINUTES = 30
FAULTS = ("kill leader", "kill follower", "stop leader", "cut leader", "cut follower", "stop follower")


class Metad:
    """What is measured of ours."""

    name = "metad"

    def __init__(self, cluster):
        self.cluster = cluster
        self.nodes = cluster.nodes

    def leader(self):
        return self.cluster.wait_leader()

    def client(self, node):
        return metads.Client(node)

    def write(self, client, key):
        return client.txn(metads.put(key, b"x" * 100), timeout_ms=1000)["result"] == "applied"

    def kill(self, node):
        node.kill()

    def start(self, node):
        node.start()

    def rss_mb(self, node):
        return node.rss_mb()

    errors = (metads.Failed,)


class Etcd:
    """The same of etcd, in the namespaces of the same nodes."""

    name = "etcd"
    errors = (OSError, http.client.HTTPException, ValueError)

    def __init__(self, cluster):
        self.nodes = cluster.nodes
        self.processes = {}
        self.certificates = os.path.join(cluster.root, "certificates")
        os.mkdir(self.certificates)
        subprocess.run([os.path.join(TREE, "tests", "certificates"), self.certificates, *(node.address for node in self.nodes)],
                       check=True, capture_output=True)
        for name in os.listdir(self.certificates):
            os.chmod(os.path.join(self.certificates, name), 0o644)  # metad gives up root
        for node in self.nodes:
            self.start(node)

    def certificate(self, name):
        return os.path.join(self.certificates, name)

    def start(self, node):
        peers = ",".join(f"{n.name}=http://{n.address}:{PEER}" for n in self.nodes)
        url = f"http://{node.address}"
        with open(node.path("etcd.log"), "ab") as log:
            self.processes[node] = subprocess.Popen(
                node.inside("etcd", "--name", node.name, "--data-dir", node.path("etcd"), "--initial-cluster", peers,
                            "--initial-advertise-peer-urls", f"{url}:{PEER}", "--listen-peer-urls", f"{url}:{PEER}",
                            "--advertise-client-urls", f"{url}:{CLIENT}",
                            "--listen-client-urls", f"{url}:{CLIENT},https://{node.address}:{TLS}",
                            "--cert-file", self.certificate("server.pem"), "--key-file", self.certificate("server.key"),
                            "--trusted-ca-file", self.certificate("ca.pem"), "--client-cert-auth"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, node):
        self.processes[node].kill()
        self.processes[node].wait()

    def end(self):
        for node in self.processes:
            self.kill(node)

    def client(self, node):
        """A connection that is made inside the node's namespace; a socket stays where it was made."""
        client = http.client.HTTPConnection(node.address, CLIENT, timeout=1)

        def connect():
            with open(f"/run/netns/{metads.namespace(node.name)}", encoding="ascii") as space:
                if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET) == 0:
                    try:
                        client.sock = socket.create_connection((node.address, CLIENT), 1)
                        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    except OSError:
                        pass
        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
        if not client.sock:
            raise ConnectionRefusedError(node.name)
        client.auto_open = 0
        return client

    def ask(self, client, path, body):
        client.request("POST", path, json.dumps(body))
        answer = client.getresponse()
        return json.loads(answer.read()) if answer.status == 200 else {}

    def write(self, client, key):
        put = {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(b"x" * 100).decode()}
        return "header" in self.ask(client, "/v3/kv/put", put)

    def leads(self, node):
        try:
            client = self.client(node)
            status = self.ask(client, "/v3/maintenance/status", {})
            client.close()
        except self.errors:
            return False
        return status.get("leader") == status.get("header", {}).get("member_id", "?")

    def leader(self):
        return metads.wait_for("etcd's leader", lambda: next((node for node in self.nodes if self.leads(node)), None))

    def rss_mb(self, node):
        with open(f"/proc/{self.processes[node].pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


class NodeOnEtcd(metads.Node):
    """A metad in a node's namespace beside the one with a store of its own."""

    def __init__(self, cluster, number, etcd):
        super().__init__(number, cluster.nodes[number].name, os.path.join(cluster.root, "on-etcd"), cluster.nodes[number].metad)
        self.etcd = etcd

    def write_config(self, nodes):
        super().write_config(nodes)
        with open(self.path("depsys.conf"), encoding="ascii") as file:
            text = file.read().replace(f"port = {metads.PORT}", f"port = {ON_ETCD}")
        lines = {"etcd": " ".join(f"https://{node.address}:{TLS}" for node in nodes),
                 **{f"etcd_{kind}": self.etcd.certificate(name) for kind, name in
                    (("ca", "ca.pem"), ("cert", "client.pem"), ("key", "client.key"))}}
        with open(self.path("depsys.conf"), "w", encoding="ascii") as file:
            file.write(re.sub(r"voters = .*\n", "".join(f"{key} = {value}\n" for key, value in lines.items()), text))


class OnEtcd(Metad):
    """metad whose facts are in etcd; what fails is etcd's leader."""

    name = "on etcd"

    def __init__(self, cluster, etcd):
        super().__init__(cluster)
        self.leader, self.kill, self.start = etcd.leader, etcd.kill, etcd.start
        self.metads = {node: NodeOnEtcd(cluster, number, etcd) for number, node in enumerate(cluster.nodes)}
        for node in self.metads.values():
            node.write_config(list(self.metads.values()))
            node.start()

    def client(self, node):
        return metads.Client(self.metads[node])

    def rss_mb(self, node):
        return self.metads[node].rss_mb()

    def end(self):
        for node in self.metads.values():
            node.kill()


class DqliteServer(subprocess.Popen):
    """One server, which takes keys on standard input; it stays when who writes has done."""

    def __init__(self, build, nodes, number):
        node = nodes[number - 1]
        os.mkdir(node.path("dqlite"))
        with open(node.path("dqlite.log"), "ab") as log:
            super().__init__(node.inside(os.path.join(build, "bench", "bare-dqlite"), node.path("dqlite"), str(number),
                                         *(f"{other.address}:{DQLITE}" for other in nodes)),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1)

    def ask(self, line):
        self.stdin.write(line + "\n")
        return self.stdout.readline().rstrip()

    def close(self):
        pass


class Dqlite:
    """The engine of metad's store without metad."""

    name = "dqlite"
    errors = (OSError,)

    def __init__(self, cluster, build):
        self.servers = {}
        for number, node in enumerate(cluster.nodes, start=1):
            self.servers[node] = DqliteServer(build, cluster.nodes, number)
        for node, server in self.servers.items():
            if server.stdout.readline() != "ready\n":
                raise RuntimeError(f"{node.name}: dqlite does not come up; its log is {node.path('dqlite.log')}")

    def client(self, node):
        return self.servers[node]

    def write(self, client, key):
        return client.ask(key) == "ok"

    def end(self):
        for server in self.servers.values():
            server.kill()
            server.communicate()


def write_until_applied(store, node, client, key):
    """The client that it took: one that got no answer is given up."""
    while True:
        try:
            if store.write(client, key):
                return client
        except store.errors:
            client.close()
            client = reconnected(store, node)


def reconnected(store, node):
    while True:
        try:
            return store.client(node)
        except store.errors:
            time.sleep(0.01)


def write_times(store, node, count):
    """Milliseconds of each write from one node; those that a stall of the machine made fail are tried again and count in full."""
    client, times = reconnected(store, node), []
    for _ in range(count):
        begin = time.monotonic()
        client = write_until_applied(store, node, client, "bench")
        times.append((time.monotonic() - begin) * 1000)
    client.close()
    return times


def failover_time(store, number):
    """Seconds from the end of the leader to the first acknowledgement on another node."""
    victim = store.leader()
    other = next(node for node in store.nodes if node is not victim)
    client = write_until_applied(store, other, reconnected(store, other), "before")
    begin = time.monotonic()
    store.kill(victim)
    client = write_until_applied(store, other, client, f"after/{number}")
    took = time.monotonic() - begin
    client.close()
    store.start(victim)
    write_until_applied(store, victim, reconnected(store, victim), "back").close()
    return took


def strike(cluster, fault, dice):
    """One fault, for a moment; both ends of it."""
    leader = cluster.wait_leader()
    victim = leader if fault.endswith("leader") else dice.choice([node for node in cluster.nodes if node is not leader])
    if fault.startswith("kill"):
        victim.kill()
    elif fault.startswith("stop"):
        victim.kill(signal.SIGSTOP)
    else:
        cluster.cut(victim)
    time.sleep(dice.uniform(0.1, 2.5))
    if fault.startswith("kill"):
        victim.start()
    elif fault.startswith("stop"):
        victim.kill(signal.SIGCONT)
    else:
        cluster.heal(victim)


def under_faults(cluster, minutes, dice):
    """Faults struck, acknowledged writes checked, in doubt; raises AssertionError when one is missing or given twice."""
    writers = [metads.Writer(node, i) for i, node in enumerate(cluster.nodes)]
    for writer in writers:
        writer.start()
    end, faults = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:
        strike(cluster, dice.choice(FAULTS), dice)
        faults += 1
        time.sleep(dice.uniform(0, 1.5))
    cluster.wait_leader()
    for writer in writers:
        writer.stop()
    return faults, metads.check_history(cluster, writers), sum(writer.doubts for writer in writers)


def p99(times):
    return sorted(times)[int(len(times) * 0.99) - 1]


def verdict(text, limit, met):
    print(f"goal A7: {text} ({limit}) {'met' if met else 'missed'}")


def measure(cluster, etcd, on_etcd, dqlite, arguments):
    stores = [Metad(cluster), etcd, on_etcd]
    for store in stores:
        store.leader()
    writes = {store.name: [] for store in (*stores, dqlite)}
    for block in range(BLOCKS):
        for store in (*stores, dqlite):
            writes[store.name] += write_times(store, cluster.nodes[block % len(cluster.nodes)], BLOCK)
    dqlite.end()
    gaps = {store.name: [] for store in stores}
    for number in range(FAILOVERS):
        for store in stores:
            gaps[store.name].append(failover_time(store, number))
    rss = {store.name: max(store.rss_mb(node) for node in store.nodes) for store in stores}
    print(f"{'':8} {'write, ms':>10} {'p99':>8} {'failover, s':>12} {'worst':>7} {'resident, MB':>13}")
    for name in gaps:
        print(f"{name:8} {statistics.median(writes[name]):10.2f} {p99(writes[name]):8.2f} {statistics.median(gaps[name]):12.2f} "
              f"{max(gaps[name]):7.2f} {rss[name]:13.1f}")
    print(f"{dqlite.name:8} {statistics.median(writes[dqlite.name]):10.2f} {p99(writes[dqlite.name]):8.2f}")
    on_etcd.end()
    etcd.end()
    faults = acknowledged = doubts = 0
    wrong = None
    try:
        faults, acknowledged, doubts = under_faults(cluster, arguments.minutes, random.Random(arguments.seed))
    except AssertionError as error:
        wrong = error
        print(f"history: {error}")
    print(f"history: {arguments.minutes:g} min, seed {arguments.seed}: {faults} faults, {acknowledged} acknowledged writes checked, "
          f"{doubts} in doubt")

    times = statistics.median(writes["metad"]) / statistics.median(writes["etcd"])
    faster = statistics.median(gaps["metad"]) / statistics.median(gaps["etcd"])
    verdict(f"write {times:.2f} x etcd's", f"<= {WRITE_TIMES:g}", times <= WRITE_TIMES)
    verdict(f"failover {faster:.2f} x etcd's default", f"<= {FAILOVER_TIMES:g}", faster <= FAILOVER_TIMES)
    verdict(f"{rss['metad']:.1f} MB", f"<= {RSS_MB}", rss["metad"] <= RSS_MB)
    if wrong or arguments.minutes >= GOAL_MINUTES:
        verdict(f"{'lost or given twice' if wrong else '0 lost, 0 given twice'} in {arguments.minutes:g} min",
                f"0 in {GOAL_MINUTES} min", not wrong)
    else:
        print(f"history: too short for a word on the goal: STORE_MINUTES={GOAL_MINUTES} or --minutes {GOAL_MINUTES}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("STORE_MINUTES", 1)), help="of faults")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    arguments = parser.parse_args()
    if not shutil.which("etcd"):
        subprocess.run([os.path.join(TREE, "tools", "setup"), "bench"], check=True, stdout=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    cluster, peers = metads.Cluster(os.path.join(arguments.build, "metad", "metad")), []
    try:
        cluster.up()
        peers.append(Etcd(cluster))
        peers.append(OnEtcd(cluster, peers[0]))
        peers.append(Dqlite(cluster, arguments.build))
        measure(cluster, *peers, arguments)
    finally:
        for peer in peers:
            peer.end()
        cluster.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
