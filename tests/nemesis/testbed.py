"""A cluster whose daemons can be given faults, and what is seen of it: clients, copies, checkpoints, events, all in one history."""
import collections
import ctypes
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import cluster as clusters  # noqa: E402
from checks import Answer, Commit, History  # noqa: E402
from scenario import Events, wait_until  # noqa: E402

NODES = ("n1", "n2", "n3")
VE, ADDRESS, COUNTER_PORT = "counter", "10.77.0.100", 7000
HONEST = ("ved",)  # has no faults inside: what it starts would inherit them
PATIENCE_S = 120.0
LOOK_BACK = 2000  # answers
CONFIGURATION = "[metad]\nvoters = n1 n2 n3\n[fdd]\ninterval_ms = 250\n[migrated]\nrestarts = 100\nbackoff_max_ms = 5000\n"


class Testbed(clusters.Cluster):
    """Its daemons run under faults.so; see faults.c for the layout of the files that tell it what to do."""

    library = None
    DISKS = ("good", "slow", "full", "broken")

    def _furnish(self, name, bundle, config_extra, programs):
        super()._furnish(name, bundle, config_extra, programs)
        directory = self.node_directory(name)
        for service in clusters.SERVICES:
            run = os.path.join(directory, "service", service, "run")
            if service in HONEST or not os.path.exists(run):
                continue
            with open(run, encoding="utf-8") as file:
                first, _, rest = file.read().partition("\n")
            settings = f"export LD_PRELOAD={self.library} NEMESIS_FAULTS=/run/node/dir/files/faults-{service}"
            clusters.write(run, f"{first}\n{settings}\n{rest}", 0o755)
            self.give_faults(name, service)

    def give_faults(self, node, service, disk="good", delay_ms=0, wall_ns=0, wall_ppm=0):
        path = os.path.join(self.node_directory(node), "files", f"faults-{service}")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:  # not truncated: it is mapped
            file.write(struct.pack("=IIqqq", self.DISKS.index(disk), delay_ms, wall_ns, wall_ppm, time.monotonic_ns()))

    def switch_nft(self, rules):
        done = subprocess.run(["nsenter", "--target", str(self.state["switch"]), "--net", "nft", "-f", "-"], input=rules, text=True,
                              capture_output=True, check=False)
        if done.returncode != 0:
            raise clusters.ClusterError(f"nft: {done.stderr.strip()}")

    def processes(self, node, services=clusters.SERVICES):
        """(pid, start) of its daemons, as the machine knows them."""
        found = []
        with open(os.path.join(self.groups(node)[0], "daemons", "cgroup.procs"), encoding="ascii") as procs:
            for pid in map(int, procs.read().split()):
                if self._comm(pid) in services:
                    found.append((pid, clusters.start_time(pid)))
        return found

    def ve_processes(self, node):
        """Those of its VEs: whatever is in its control groups and is not among the daemons."""
        found = []
        for directory, _, _ in os.walk(self.groups(node)[0]):
            if os.path.basename(directory) != "daemons":
                try:
                    with open(os.path.join(directory, "cgroup.procs"), encoding="ascii") as procs:
                        found += map(int, procs.read().split())
                except OSError:  # ended meanwhile
                    pass
        return found


class Client:
    """client.py on a node; what it prints goes into the history."""

    numbers = itertools.count(1)

    def __init__(self, cluster, node, history, pause_ms):
        self.name, self.history = f"{node}.{next(self.numbers)}", history
        self.process = cluster.popen(node, [os.path.join(TREE, "tests", "nemesis", "client.py"), self.name, ADDRESS, str(COUNTER_PORT),
                                            str(pause_ms)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            if not line.endswith("\n"):
                return  # its node was killed while it wrote this
            kind, *words = line.split()
            if kind == "g":
                self.history.ghosts.append((self.name, int(words[0]), " ".join(words[1:])))
                continue
            numbers = list(map(int, words))
            if kind == "i":
                self.history.invocations[self.name, numbers[0]] = numbers[1]
            else:
                self.history.answers.append(Answer(self.name, *numbers))

    def close(self):
        self.process.stdin.close()
        self.thread.join(clusters.SETTLE_S)
        self.process.wait()


class Copies(threading.Thread):
    """Looks all the time which process each node's ved has noted as the VE's first one, and under which epoch; and asks the kernel for
    the cookie of that process's network namespace, which is in every answer of the copy."""

    LOOK_S = 0.02
    SO_NETNS_COOKIE = 71

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.over = cluster, threading.Event()
        self.looked, self.seen = set(), collections.defaultdict(set)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.start()

    def run(self):
        with open("/proc/thread-self/ns/net", "rb") as own:
            while not self.over.wait(self.LOOK_S):
                for node in NODES:
                    try:
                        self._look(node, own)
                    except (OSError, ValueError):  # no such VE or node now
                        pass

    def _look(self, node, own):
        root = f"/proc/{self.cluster.pid(node)}/root"
        with open(f"{root}/run/depsys/ve/{VE}/record.json", encoding="utf-8") as file:
            record = json.load(file)
        what = node, record["epoch"], record["pid"], record["start_ticks"]
        if what in self.looked or not record["pid"]:
            return
        with open(f"{root}/proc/{record['pid']}/ns/net", "rb") as namespace, \
                open(f"{root}/proc/{record['pid']}/stat", encoding="ascii", errors="replace") as stat:
            if int(stat.read().rpartition(")")[2].split()[19]) != record["start_ticks"]:
                return  # another one has its number by now
            self.seen[self._cookie(namespace, own)].add(what[:2])
            self.looked.add(what)

    def _cookie(self, namespace, own):
        """Of a network namespace. This thread alone goes there, and back."""
        self._enter(namespace)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                return struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, self.SO_NETNS_COOKIE, 8))[0]
        finally:
            self._enter(own)

    def _enter(self, namespace):
        if self.libc.setns(namespace.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def epochs(self, copies):
        """copy -> (node, epoch) of those that were seen and cannot be mistaken."""
        return {copy: next(iter(self.seen[copy])) for copy in copies if len(self.seen.get(copy, ())) == 1}

    def close(self):
        self.over.set()
        self.join()


class Marks(threading.Thread):
    """Asks for a checkpoint again and again, of any node, and keeps what was committed under which epoch."""

    PAUSE_S = 0.7

    def __init__(self, cluster, history):
        super().__init__(daemon=True)
        self.cluster, self.history, self.over = cluster, history, threading.Event()
        self.asked = 0
        self.start()

    def _depctl(self, node, *words):
        try:
            done = self.cluster.run(node, ["depctl", "-o", "json", "--timeout", "5s", *words], capture_output=True, text=True)
            return json.loads(done.stdout) if done.returncode == 0 else None
        except (clusters.ClusterError, OSError, ValueError):  # the node is down, or went down meanwhile
            return None

    def run(self):
        for node in itertools.cycle(NODES):
            if self.over.wait(self.PAUSE_S):
                return
            self.asked += 1
            asked = time.monotonic_ns()
            made = self._depctl(node, "ckpt", "create", VE)
            told = time.monotonic_ns()
            kept = self._depctl(node, "ckpt", "ls", VE) if made else None
            for checkpoint in kept or []:
                if checkpoint["ve"] == VE and checkpoint["id"] == made["id"]:
                    self.history.commits.append(Commit(made["id"], checkpoint["ve_epoch"], asked, told))

    def close(self):
        self.over.set()


class Watch:
    """All that is seen of a cluster with the service running."""

    def __init__(self, cluster):
        self.cluster, self.history = cluster, History()
        self.clients, self.streams, self.closed = {}, {}, []
        self.copies, self.marks = None, None

    def begin(self):
        for node in (*NODES, "client"):
            self.follow(node)
        self.copies = Copies(self.cluster)
        self.marks = Marks(self.cluster, self.history)

    def follow(self, node):
        """Also after it was started again."""
        self.unfollow(node)
        self.clients[node] = Client(self.cluster, node, self.history, 20 if node == "client" else 60)
        if node != "client":
            self.streams[node] = Events(self.cluster, node)

    def unfollow(self, node):
        if node in self.clients:
            self.clients.pop(node).close()
        if node in self.streams:
            self.streams[node].close()
            self.closed.append(self.streams.pop(node))

    def close(self):
        for part in (self.marks, self.copies):
            if part:
                part.close()
        for node in (*NODES, "client"):
            self.unfollow(node)

    # -- events --

    def events(self, topic):
        return [event for stream in [*self.closed, *self.streams.values()] for event in stream.all(topic)]

    def latest(self, topic):
        """Of the highest epoch."""
        return max(self.events(topic), key=lambda event: event["body"]["epoch"], default=None)

    def counts(self):
        """How far each stream has come: a place in time that needs no clock."""
        return {stream: len(stream.list) for stream in self.streams.values()}

    def since(self, counts, topic):
        """The first such event that came after."""
        for stream in list(self.streams.values()):
            for event in stream.list[counts.get(stream, len(stream.list)):]:
                if event["topic"] == topic:
                    return event
        return None

    def home(self):
        """The node that the VE was last placed on."""
        placed = [e for e in self.events("ve.placed") if e["body"]["node"]]
        return max(placed, key=lambda e: e["body"]["epoch"])["body"]["node"] if placed else NODES[0]

    def coordinator(self):
        elected = self.latest("coord.elected")
        return elected["body"]["node"] if elected else NODES[0]

    # -- answers --

    def answered_since(self, at, client=None):
        """An answer that somebody, or that client, has to a request that was sent after."""
        for answer in reversed(self.history.answers[-LOOK_BACK:]):
            if client in (None, answer.client) and self.history.invocations.get((answer.client, answer.number), 0) >= at:
                return answer
        return None

    def wait_answer(self, what, patience_s=PATIENCE_S):
        now = time.monotonic_ns()
        return wait_until(f"an answer {what}", lambda: self.answered_since(now), patience_s)

    def told(self):
        """The history with what the events and the copies' records tell."""
        history = self.history
        history.epochs = self.copies.epochs({answer.copy for answer in history.answers})
        history.coordinators = sorted({(e["body"]["epoch"], e["body"]["node"]) for e in self.events("coord.elected")})
        history.placements = sorted({(e["body"]["epoch"], e["body"]["from_ckpt"]) for e in self.events("ve.placed") if e["body"]["ve"] == VE})
        history.failed_starts = {e["body"]["epoch"] for e in self.events("ve.trouble") if e["body"]["trouble"] not in ("died",)}
        return history
