#!/usr/bin/env python3
"""test_metad.py METAD [--rounds N] [--seed N]: three metads in network namespaces, killed at random moments.

Writers on all nodes go on through kill -9 of the leader, kill -9 of a follower, a leader that is stopped, and one that is cut off.
Afterwards, and again after a restart of all, nothing that was acknowledged may be missing and no version may have been given
twice. Prints TAP, and the time of a write and of a failover.
"""
import argparse
import collections
import itertools
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import msgpack
import zmq
from zmq.utils import z85

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402

NODES = ("n1", "n2", "n3")
PORT = 7400
STREAM_PORT = PORT + 16
PATIENCE_MS = 60000  # the longest wait for what must come


def sh(*args, check=True):
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(args)}: {done.stdout.strip()}")
    return done.stdout


def sweep():
    """Removes directories and namespaces of runs whose process is gone."""
    clusters.sweep("dst-metad")
    for line in sh("ip", "netns", "list", check=False).splitlines():
        name = line.split()[0]
        parts = name.split("-")
        if len(parts) == 4 and parts[:2] == ["dst", "metad"] and not os.path.exists(f"/proc/{parts[2]}"):
            sh("ip", "netns", "del", name, check=False)


def namespace(name):
    return f"dst-metad-{os.getpid()}-{name}"


WRITE_MS = 2000  # a writer gives up, in doubt, and goes on
AWAY_S = 1.5  # a leader that stands still or is cut off; the others have another by then
DOUBTFUL = (3, 6)  # unreachable, timeout: it may have happened


class Failed(Exception):
    """An answer with a status that is not ok."""

    def __init__(self, status, error):
        super().__init__(f"{status}: {error}")
        self.status = status


class Client:
    """Requests to one metad, one at a time; a timeout gives the socket up, as a caller must."""

    context = zmq.Context.instance()
    ids = itertools.count(1)

    def __init__(self, node):
        self.endpoint = f"ipc://{node.path('run')}/metad.rpc"
        self.socket = None

    def _connect(self):
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.set(zmq.RECONNECT_IVL, 10)
        self.socket.connect(self.endpoint)

    def close(self):
        if self.socket:
            self.socket.close()
            self.socket = None

    def send(self, name, body, timeout_ms):
        if not self.socket:
            self._connect()
        ident = next(self.ids)
        self.socket.send_multipart([msgpack.packb({"n": name, "i": ident, "t": timeout_ms}), msgpack.packb(body)])
        return ident

    def receive(self, ident, deadline):
        while True:
            left = (deadline - time.monotonic()) * 1000
            if left <= 0 or not self.socket.poll(left):
                self.close()
                raise Failed(6, "no answer")
            head, body = (msgpack.unpackb(frame) if frame else {} for frame in self.socket.recv_multipart())
            if head["i"] == ident:
                break
        if head.get("s", 0):
            raise Failed(head["s"], head.get("e", ""))
        return body

    def ask(self, name, body=None, timeout_ms=PATIENCE_MS):
        ident = self.send(name, body or {}, timeout_ms)
        return self.receive(ident, time.monotonic() + timeout_ms / 1000 + 0.5)

    def get(self, key, **kwargs):
        entry = self.ask("metad.get", {"key": key}, **kwargs)["entry"]
        return entry["v"], entry["d"]

    def txn(self, *ops, nonce=None, **kwargs):
        body = {"ops": list(ops)}
        if nonce:
            body["nonce"] = nonce
        return self.ask("metad.txn", body, **kwargs)

    def apply(self, *ops, nonce=None):
        """The answer once it is no longer in doubt: under one nonce it may be asked for again, also of a new leader."""
        nonce = nonce or os.urandom(16)
        return wait_for(f"an answer to {ops}", lambda: self.certain(*ops, nonce=nonce))

    def certain(self, *ops, nonce):
        try:
            reply = self.txn(*ops, nonce=nonce, timeout_ms=5000)
        except Failed as failed:
            if failed.status not in DOUBTFUL:
                raise
            return None
        return None if reply["result"] == "unknown" else reply

    def scan(self, prefix):
        after = ""
        while True:
            page = self.ask("metad.scan", {"prefix": prefix, "after": after})
            for entry in page["entries"]:
                yield entry["k"], entry["v"], entry["d"]
                after = entry["k"]
            if not page.get("more"):
                return


def wait_for(what, condition):
    return clusters.wait_for(what, condition, PATIENCE_MS / 1000, 0.02, RuntimeError)


def put(key, value, expected=None):
    op = {"k": key, "o": "put", "d": value}
    if expected is not None:
        op["e"] = expected
    return op


class Node:
    def __init__(self, index, name, root, metad):
        self.name = name
        self.address = f"10.77.9.{index + 1}"
        self.root = os.path.join(root, name)
        self.metad = metad
        self.secret = os.urandom(32)
        self.public = z85.decode(zmq.curve_public(z85.encode(self.secret)))
        self.ident = None
        self.process = None
        os.makedirs(self.root)

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def write_config(self, nodes):
        with open(self.path("node.key"), "w", opener=lambda p, f: os.open(p, f, 0o640)) as key:
            key.write(self.secret.hex() + "\n")
        with open(self.path("depsys.conf"), "w") as conf:
            conf.write(f"[node]\nname = {self.name}\ncluster = test\naddress = {self.address}\nport = {PORT}\n"
                       f"key = {self.path('node.key')}\nrun = {self.path('run')}\nstate = {self.path('state')}\n"
                       f"group =\n[metad]\nvoters = {' '.join(NODES)}\nmin_free_mb = 1\n")
            for node in nodes:
                conf.write(f"[peer {node.name}]\naddress = {node.address}\nport = {PORT}\nkey = {node.public.hex()}\n")

    def inside(self, *args):
        return ["nsenter", f"--net=/run/netns/{namespace(self.name)}", "--", *args]

    def start(self):
        with open(self.path("log"), "ab") as log:
            self.process = subprocess.Popen(
                self.inside(self.metad, "--config", self.path("depsys.conf"), "--user", "nobody"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, sig=signal.SIGKILL):
        self.process.send_signal(sig)
        if sig == signal.SIGKILL:
            self.process.wait()

    def log(self):
        with open(self.path("log"), errors="replace") as log:
            return log.read()

    def rss_mb(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


class Cluster:
    def __init__(self, metad):
        self.root = tempfile.mkdtemp(prefix=f"dst-metad-{os.getpid()}-")
        os.chmod(self.root, 0o755)
        self.nodes = [Node(i, name, self.root, metad) for i, name in enumerate(NODES)]
        self.switch = namespace("switch")

    def up(self):
        sweep()
        sh("ip", "netns", "add", self.switch)
        sh("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        sh("ip", "-n", self.switch, "link", "set", "br0", "up")
        for node in self.nodes:
            ns = namespace(node.name)
            sh("ip", "netns", "add", ns)
            sh("ip", "-n", ns, "link", "set", "lo", "up")
            sh("ip", "-n", ns, "link", "add", "eth0", "type", "veth", "peer", "name", node.name, "netns", self.switch)
            sh("ip", "-n", self.switch, "link", "set", node.name, "master", "br0", "up")
            sh("ip", "-n", ns, "addr", "add", f"{node.address}/24", "dev", "eth0")
            sh("ip", "-n", ns, "link", "set", "eth0", "up")
            node.write_config(self.nodes)
            node.start()

    def cut(self, node):
        sh("ip", "-n", self.switch, "link", "set", node.name, "down")

    def heal(self, node):
        sh("ip", "-n", self.switch, "link", "set", node.name, "up")

    def leader(self, asked=None):
        """The node that leads, by the word of the one that is asked, or of the first that knows."""
        for node in [asked] if asked else self.nodes:
            client = Client(node)
            try:
                name = client.ask("metad.status", timeout_ms=300)["leader_name"]
                if name:
                    return next(n for n in self.nodes if n.name == name)
            except Failed:
                pass
            finally:
                client.close()
        return None

    def wait_leader(self):
        return wait_for("a leader", self.leader)

    def down(self):
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.kill(signal.SIGCONT)
                node.kill()
        for name in [*(namespace(node.name) for node in self.nodes), self.switch]:
            sh("ip", "netns", "del", name, check=False)
        shutil.rmtree(self.root, ignore_errors=True)


class Writer(threading.Thread):
    """Adds keys of its own and raises a counter that all share; remembers what was acknowledged."""

    def __init__(self, node, number):
        super().__init__(daemon=True)
        self.client = Client(node)
        self.number = number
        self.stopping = threading.Event()
        self.kept = {}      # key -> version, acknowledged
        self.counted = []   # (value, version) of the counter, acknowledged
        self.acks = []      # (time, seconds it took)
        self.doubts = 0
        self.error = None

    def run(self):
        try:
            for n in itertools.count():
                if self.stopping.is_set():
                    break
                self.add(f"log/{self.number}/{n:06d}")
                self.count()
        except Exception as error:  # the main thread tells
            self.error = error
        finally:
            self.client.close()

    def write(self, *ops):
        """The answer, or None when it is in doubt."""
        begin = time.monotonic()
        try:
            reply = self.client.txn(*ops, timeout_ms=WRITE_MS)
        except Failed as failed:
            if failed.status not in DOUBTFUL:
                raise
            self.doubts += 1
            return None
        if reply["result"] == "unknown":
            self.doubts += 1
            return None
        if reply["result"] == "applied":
            now = time.monotonic()
            self.acks.append((now, now - begin))
        return reply

    def add(self, key):
        reply = self.write(put(key, key.encode(), 0))
        if reply and reply["result"] == "applied":
            self.kept[key] = reply["version"]
        elif reply:
            raise AssertionError(f"{key} was there before it was written")

    def count(self):
        try:
            version, value = self.client.get("counter", timeout_ms=WRITE_MS)
        except Failed:
            return
        value = int(value or b"0") + 1
        reply = self.write(put("counter", b"%d" % value, version))
        if reply and reply["result"] == "applied":
            self.counted.append((value, reply["version"]))

    def stop(self):
        self.stopping.set()
        self.join()
        if self.error:
            raise self.error


def longest_gap(writers, begin, end):
    """The longest time without an acknowledgement that any one writer saw between begin and end."""
    longest = 0
    for writer in writers:
        times = [begin, *(t for t, _ in writer.acks if begin < t < end), end]
        longest = max(longest, *(after - before for before, after in zip(times, times[1:])))
    return longest


def check_history(cluster, writers):
    """Nothing acknowledged is missing, no version was given twice; returns the number of writes checked."""
    client = Client(cluster.nodes[0])
    stored = {key: (version, value) for key, version, value in client.scan("log/")}
    for writer in writers:
        for key, version in writer.kept.items():
            assert stored.get(key) == (version, key.encode()), f"{key}: acknowledged {version}, there is {stored.get(key)}"
    counted = [pair for writer in writers for pair in writer.counted]
    for what, numbers in (("value", [v for v, _ in counted]), ("version", [v for _, v in counted])):
        twice = [n for n, times in collections.Counter(numbers).items() if times > 1]
        assert not twice, f"counter: {what} {twice[:5]} acknowledged twice"
    ordered = sorted(counted)
    assert all(a[1] < b[1] for a, b in zip(ordered, ordered[1:])), "counter: versions do not rise with its values"
    versions = [version for version, _ in stored.values()] + [version for _, version in counted]
    assert len(set(versions)) == len(versions), "a version was given twice"
    version, value = client.get("counter")
    value = int(value)
    doubts = sum(writer.doubts for writer in writers)
    assert len(counted) <= value <= len(counted) + doubts, f"counter is {value}: {len(counted)} acknowledged, {doubts} in doubt"
    assert not counted or value >= ordered[-1][0]
    client.close()
    return sum(len(writer.kept) for writer in writers) + len(counted)


class Test:
    def __init__(self, cluster, rounds, rng):
        self.cluster = cluster
        self.rounds = rounds
        self.rng = rng
        self.writers = []
        self.failovers = []

    def start_writers(self):
        writers = [Writer(node, len(self.writers) + i) for i, node in enumerate(self.cluster.nodes)]
        self.writers += writers
        for writer in writers:
            writer.start()
        return writers

    # --- claims, in order ---

    def three_nodes_elect_a_leader_and_all_know_it(self):
        self.cluster.wait_leader()
        for node in self.cluster.nodes:
            client = Client(node)
            reply = client.apply(put(f"from/{node.name}", b"x", 0))
            assert reply["result"] == "applied", reply
            status = wait_for(f"{node.name} to name a leader", lambda c=client: self.names_leader(c))
            assert status["voter"] and status["private"], status
            assert len(status["voters"]) == 3
            client.close()
        wait_for("all to name the same", lambda: len({self.cluster.leader(node) for node in self.cluster.nodes} - {None}) == 1)

    @staticmethod
    def names_leader(client):
        status = client.ask("metad.status")
        return status["leader_name"] and status

    def the_daemon_has_given_up_root(self):
        for node in self.cluster.nodes:
            with open(f"/proc/{node.process.pid}/status") as status:
                uids = next(line for line in status if line.startswith("Uid:")).split()[1:]
            assert uids == ["65534"] * 4, uids

    def dqlite_has_no_socket_that_the_node_can_see(self):
        for node in self.cluster.nodes:
            listening = sh(*node.inside("ss", "-ltnH")).splitlines()
            ports = sorted(int(line.split()[3].rsplit(":", 1)[1]) for line in listening)
            assert ports == [STREAM_PORT, STREAM_PORT + 1], ports
            abstract = [line for line in sh(*node.inside("cat", "/proc/net/unix")).splitlines()
                        if line.rsplit(" ", 1)[-1].startswith("@")]
            assert not abstract, abstract

    def dqlite_in_the_clear_is_refused_on_the_tunnel_port(self):
        node = self.cluster.nodes[0]
        code = ("import socket,sys\n"
                f"s=socket.create_connection(('{self.cluster.nodes[1].address}',{STREAM_PORT}),60)\n"
                "s.sendall(bytes([1]+[0]*7+[1]+[0]*15))\n"
                "s.settimeout(60)\n"
                "try: d=s.recv(64)\n"
                "except ConnectionError: d=b''\n"
                "sys.exit(len(d)>7)\n")
        assert subprocess.run(node.inside(sys.executable, "-c", code)).returncode == 0

    def a_change_on_one_node_is_hinted_on_another_at_once(self):
        watcher, writer = Client(self.cluster.nodes[0]), Client(self.cluster.nodes[1])
        ident = watcher.send("metad.watch", {"prefix": "hint/"}, 0)
        first = watcher.receive(ident, time.monotonic() + PATIENCE_MS / 1000)
        assert first.get("key", "") == "", first
        times = []
        for n in range(10):
            begin = time.monotonic()
            writer.apply(put("elsewhere", b""))
            writer.apply(put(f"hint/{n}", b""))
            # No key, which is to look at all, is told when the leader's word of it was lost.
            while watcher.receive(ident, time.monotonic() + PATIENCE_MS / 1000).get("key", "") not in ("", f"hint/{n}"):
                pass
            times.append(time.monotonic() - begin)
        watcher.close()
        writer.close()
        print(f"# hint on another node: median {statistics.median(times) * 1000:.1f} ms after the request")

    def the_same_nonce_is_applied_once_on_whichever_node(self):
        nonce = os.urandom(16)
        versions = set()
        for node in self.cluster.nodes:
            client = Client(node)
            reply = client.apply(put("once", node.name.encode(), 0), nonce=nonce)
            assert reply["result"] == "applied", reply
            versions.add(reply["version"])
            client.close()
        assert len(versions) == 1, versions

    def every_node_can_write(self):
        for node in self.cluster.nodes:
            client = Client(node)
            times = []
            for n in range(200):
                begin = time.monotonic()
                client.apply(put("quick", b"x" * 100))
                times.append(time.monotonic() - begin)
            client.close()
            where = "leader" if node is self.cluster.wait_leader() else "follower"
            print(f"# write from {node.name} ({where}): median {statistics.median(times) * 1000:.2f} ms, "
                  f"99 % {sorted(times)[197] * 1000:.2f} ms; resident {node.rss_mb():.1f} MB")

    def wait_writes(self, writers, begin, count=30):
        """Until each of these writers has so many acknowledgements more."""
        wait_for("writers to go on", lambda: all(
            writer.error or (len(writer.acks) >= count and writer.acks[-count][0] > begin) for writer in writers))

    def nothing_is_lost_while_leaders_are_killed(self):
        writers = self.start_writers()
        for n in range(self.rounds):
            time.sleep(self.rng.uniform(0.3, 1.0))
            victim = self.cluster.wait_leader()
            if n % 4 == 3:
                victim = self.rng.choice([node for node in self.cluster.nodes if node is not victim])
            begin = time.monotonic()
            victim.kill()
            alive = [w for w, node in zip(writers, self.cluster.nodes) if node is not victim]
            self.wait_writes(alive, begin)
            if n % 4 != 3:
                self.failovers.append(longest_gap(alive, begin, time.monotonic()))
            victim.start()
        self.wait_writes(writers, time.monotonic())
        for writer in writers:
            writer.stop()
        checked = check_history(self.cluster, self.writers)
        print(f"# {checked} acknowledged writes checked, {sum(w.doubts for w in self.writers)} in doubt")
        gaps = sorted(self.failovers)
        print(f"# failover after kill -9 of the leader, longest gap of a writer: median {statistics.median(gaps):.2f} s, "
              f"worst {gaps[-1]:.2f} s of {len(gaps)}")

    def nothing_is_lost_when_the_leader_is_stopped_or_cut_off(self):
        writers = self.start_writers()
        gaps = {"stopped": [], "cut off": []}
        for how in ["stopped", "cut off"] * 2:
            time.sleep(0.5)
            victim = self.cluster.wait_leader()
            begin = time.monotonic()
            if how == "stopped":
                victim.kill(signal.SIGSTOP)
            else:
                self.cluster.cut(victim)
            alive = [w for w, node in zip(writers, self.cluster.nodes) if node is not victim]
            self.wait_writes(alive, begin + AWAY_S)
            end = time.monotonic()
            if how == "stopped":
                victim.kill(signal.SIGCONT)
            else:
                self.cluster.heal(victim)
            gaps[how].append(longest_gap(alive, begin, end))
            self.wait_writes(writers, end)
        for writer in writers:
            writer.stop()
        check_history(self.cluster, self.writers)
        for how, values in gaps.items():
            print(f"# failover, leader {how}: " + ", ".join(f"{gap:.2f} s" for gap in values))

    def a_node_without_quorum_says_so_and_applies_nothing(self):
        victims = self.cluster.nodes[1:]
        for node in victims:
            node.kill()
        client = Client(self.cluster.nodes[0])
        try:
            reply = client.txn(put("lonely", b"x", 0), timeout_ms=1500)
            assert reply["result"] == "unknown", reply
        except Failed as failed:
            assert failed.status == 6, failed
        wait_for("it to say that nobody leads", lambda: client.ask("metad.status")["leader"] == 0)
        wait_for("it to have said so", lambda: "no voter leads" in self.cluster.nodes[0].log())
        for node in victims:
            node.start()
        self.cluster.wait_leader()
        client.close()

    def all_is_there_after_all_were_killed_at_once(self):
        for node in self.cluster.nodes:
            node.kill()
        for node in self.cluster.nodes:
            node.start()
        begin = time.monotonic()
        self.cluster.wait_leader()
        print(f"# leader {time.monotonic() - begin:.2f} s after the start of all")
        check_history(self.cluster, self.writers)

    def the_configuration_names_the_first_voters_only(self):
        node = self.cluster.nodes[2]
        node.kill()
        with open(node.path("depsys.conf")) as conf:
            good = conf.read()
        with open(node.path("depsys.conf"), "w") as conf:
            conf.write(good.replace("voters = n1 n2 n3", "voters = n1 n3"))
        node.start()
        client = Client(node)
        assert client.apply(put("back", b"x"))["result"] == "applied"
        status = client.ask("metad.status")
        assert status["voter"] and len(status["voters"]) == 3, status
        client.close()

    def it_ends_when_asked(self):
        for node in self.cluster.nodes:
            node.kill(signal.SIGTERM)
        for node in self.cluster.nodes:
            assert node.process.wait(timeout=PATIENCE_MS / 1000) == 0, node.log()[-2000:]

    def no_log_names_a_bug(self):
        for node in self.cluster.nodes:
            log = node.log()
            assert "bug:" not in log and "Assertion" not in log, log[-3000:]

    def run(self):
        claims = [
            self.three_nodes_elect_a_leader_and_all_know_it,
            self.the_daemon_has_given_up_root,
            self.dqlite_has_no_socket_that_the_node_can_see,
            self.dqlite_in_the_clear_is_refused_on_the_tunnel_port,
            self.a_change_on_one_node_is_hinted_on_another_at_once,
            self.the_same_nonce_is_applied_once_on_whichever_node,
            self.every_node_can_write,
            self.nothing_is_lost_while_leaders_are_killed,
            self.nothing_is_lost_when_the_leader_is_stopped_or_cut_off,
            self.a_node_without_quorum_says_so_and_applies_nothing,
            self.all_is_there_after_all_were_killed_at_once,
            self.the_configuration_names_the_first_voters_only,
            self.it_ends_when_asked,
            self.no_log_names_a_bug,
        ]
        print(f"1..{len(claims)}")
        for number, claim in enumerate(claims, 1):
            claim()
            print(f"ok {number} - {claim.__name__}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metad")
    parser.add_argument("--rounds", type=int, default=8, help="kills under load")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the directory for a look")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root for network namespaces")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    cluster = Cluster(os.path.abspath(args.metad))
    try:
        cluster.up()
        Test(cluster, args.rounds, random.Random(args.seed)).run()
    except Exception as error:
        for node in cluster.nodes:
            print("\n".join(f"# {node.name}: {line[:400]}" for line in node.log().splitlines()[-15:]))
        print(f"Bail out! {type(error).__name__}: {error}")
        if args.keep:
            shutil.copytree(cluster.root, cluster.root + "-kept")
        raise
    finally:
        cluster.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
