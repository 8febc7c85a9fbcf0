"""What is done to the cluster: faults of every kind, from a plan that a seed gives, and the healing of each.

A plan is a list of faults; each has its own random numbers from seed and place, so fault 17 of seed 4 is the same in every run, as far
as the cluster is in the same state. Whom it hits is a role (the node where the VE is, the coordinator, another one), looked up at the
moment. A fault may be bound to a point, which is an event that daemons tell anyway: the nemesis waits for the next one and strikes
at whoever told it, with what led there if it would not come by itself. (Rejected: points compiled into the daemons. A product
would ship them, and events are at the same places.)
"""
import dataclasses
import os
import random
import signal
import subprocess
import time

import cluster as clusters
from testbed import HONEST, NODES

POINT_S = 12.0  # the longest wait for a point
HOGS = 3
WALL_STEPS_S = (0.5, 3600, 86400, 300000000)
WALL_RATES_PPM = (500, 20000, 900000)  # as an adjusted clock, a bad one, a mad one
SLOW_MS = (20, 100, 400)
DISKED = ("metad", "gosd", "migrated", "ckptd", "busd")
PAUSED = ("metad", "gossipd", "fdd", "migrated", "ved", "ckptd", "gosd", "busd")


@dataclasses.dataclass(frozen=True)
class Fault:
    action: str
    where: str  # a role
    point: str = ""  # of which topic the event is that it waits for
    lead: str = ""  # the action that leads there
    lead_where: str = "home"

    def __str__(self):
        text = f"{self.action} at {self.where}"
        if self.point:
            text += f" upon {self.point}"
        if self.lead:
            text += f" after {self.lead} at {self.lead_where}"
        return text


# Dealt in turn, a family after the other, so that also a short plan has of everything.
FAMILIES = (
    [Fault(action, where) for action in ("cable", "apart", "mute", "deaf", "bridge", "islands") for where in ("home", "coordinator", "other")],
    [Fault("freeze-node", where) for where in ("home", "coordinator", "other")] +
    [Fault(action, where) for action in ("stop-daemon", "stop-daemons") for where in ("home", "coordinator")],
    [Fault("kill-node", where) for where in ("home", "coordinator", "other")] + [Fault("kill-ve", "home")] +
    [Fault("kill-daemon", where) for where in ("home", "coordinator", "other")],
    [Fault(action, where) for action in ("disk-slow", "disk-full", "disk-broken") for where in ("home", "coordinator")] +
    [Fault("wall-clock", where) for where in ("home", "coordinator", "other")] + [Fault("wall-rate", "home"), Fault("hog", "home")],
    [Fault(action, "there", "ve.frozen") for action in ("stop-daemons", "freeze-node", "kill-daemon", "cable", "kill-node")] +
    [Fault(action, "there", "ckpt.started") for action in ("stop-daemons", "kill-daemon", "apart", "disk-full")] +
    [Fault(action, "there", "ve.placed", "kill-ve") for action in ("stop-daemons", "kill-daemon", "freeze-node")] +
    [Fault(action, "there", "ve.placed", lead) for action in ("kill-daemon", "mute", "freeze-node") for lead in ("cable", "freeze-node")] +
    [Fault(action, "there", "ve.restored", "apart") for action in ("kill-ve", "cable", "kill-daemon")] +
    [Fault(action, "there", "coord.elected", "freeze-node", "coordinator") for action in ("stop-daemons", "kill-daemon", "deaf")],
)


def plan(seed, count):
    """Faults in the order in which they are made."""
    chance = random.Random(seed)
    decks = [[] for _ in FAMILIES]
    faults = []
    while len(faults) < count:
        family = len(faults) % len(FAMILIES)
        if not decks[family]:
            decks[family] = chance.sample(FAMILIES[family], len(FAMILIES[family]))
        faults.append(decks[family].pop())
    return faults


class Nemesis:
    """Makes faults and heals them. Undoing is a list of calls, done in the order in which they were added."""

    def __init__(self, cluster, watch, seed, longest_s):
        self.cluster, self.watch, self.seed, self.longest_s = cluster, watch, seed, longest_s
        self.undo, self.chance, self.done = [], None, []
        self.there = None
        cluster.switch_nft("table bridge nemesis {\nchain cut { type filter hook forward priority 0; }\n}\n")

    # -- one fault --

    def strike(self, number, fault):
        """Makes it, lasts, and heals. Says what was done to whom."""
        self.chance = random.Random(f"{self.seed}/{number}")
        self.done, self.there = [], None
        counts = self.watch.counts()
        try:
            if fault.lead:
                self.act(fault.lead, self.node(fault.lead_where))
            if fault.point:
                self.await_point(fault.point, counts)
            self.act(fault.action, self.node(fault.where))
            lasts = self.chance.uniform(0.3, self.longest_s)
            self.done.append(f"{lasts:.1f} s")
            time.sleep(lasts)
        finally:
            self.heal()
        return ", ".join(self.done)

    def heal(self):
        for call in self.undo:
            call()
        self.undo = []

    def await_point(self, topic, counts):
        deadline = time.monotonic() + POINT_S
        while time.monotonic() < deadline:
            event = self.watch.since(counts, topic)
            if event:
                self.there = event["body"].get("node") or event["node"]
                self.done.append(topic)
                return
            time.sleep(0.002)
        self.done.append(f"no {topic}")

    def node(self, role):
        """Who has the role now; a node that is up."""
        home, coordinator = self.watch.home(), self.watch.coordinator()
        node = {"home": home, "coordinator": coordinator, "there": self.there or home}.get(role)
        if role == "other":
            node = self.chance.choice([n for n in NODES if n not in (home, coordinator)])
        return node if self.cluster.pid(node) else next(n for n in NODES if self.cluster.pid(n))

    def act(self, action, node):
        what = getattr(self, action.replace("-", "_"))(node)
        self.done.append(f"{action} {node}" + (f" ({what})" if what else ""))

    # -- the network; clients are on the node "client", and on each node --

    def cable(self, node):
        self.cluster.cut(node)
        self.undo.append(lambda: self.cluster.heal(node))

    def _drop(self, pairs):
        self.cluster.switch_nft("".join(f'add rule bridge nemesis cut iifname "{a}" oifname "{b}" drop\n' for a, b in pairs))
        self.undo.append(lambda: self.cluster.switch_nft("flush chain bridge nemesis cut\n"))

    @staticmethod
    def _others(node):
        return [n for n in NODES if n != node]

    def apart(self, node):
        """From the other nodes; the client reaches all."""
        self._drop([(node, n) for n in self._others(node)] + [(n, node) for n in self._others(node)])

    def mute(self, node):
        self._drop([(node, n) for n in self._others(node)])

    def deaf(self, node):
        self._drop([(n, node) for n in self._others(node)])

    def bridge(self, node):
        """It and one other do not reach each other, and the third reaches both: each sees a majority."""
        other = self.chance.choice(self._others(node))
        self._drop([(node, other), (other, node)])
        return f"not {other}"

    def islands(self, _):
        self._drop([(a, b) for a in NODES for b in NODES if a != b])

    # -- processes --

    def _stop(self, processes):
        """SIGSTOP; undone for those that are still the same."""
        for pid, _ in processes:
            signal_to(pid, signal.SIGSTOP)
        self.undo.append(lambda: [signal_to(pid, signal.SIGCONT) for pid, start in processes if clusters.start_time(pid) == start])

    def stop_daemon(self, node):
        daemon = self.chance.choice(PAUSED)
        self._stop(self.cluster.processes(node, (daemon,)))
        return daemon

    def stop_daemons(self, node):
        self._stop(self.cluster.processes(node))

    def freeze_node(self, node):
        """All that runs in it, its services, too; not its kernel, which is what the fence is for."""
        path = os.path.join(self.cluster.groups(node)[0], "cgroup.freeze")
        clusters.write(path, "1")
        self.undo.append(lambda: os.path.exists(path) and clusters.write(path, "0"))

    def kill_daemon(self, node):
        daemon = self.chance.choice(clusters.SERVICES)
        for pid, _ in self.cluster.processes(node, (daemon,)):
            signal_to(pid, signal.SIGKILL)
        return daemon

    def kill_ve(self, node):
        for pid in self.cluster.ve_processes(node):
            signal_to(pid, signal.SIGKILL)

    def kill_node(self, node):
        self.cluster.kill(node)
        self.watch.unfollow(node)

        def back():
            self.cluster.start(node)
            self.watch.follow(node)
        self.undo.append(back)

    # -- clocks, disks, processors --

    def _faulty(self, node, daemons, **faults):
        for daemon in daemons:
            self.cluster.give_faults(node, daemon, **faults)
        self.undo.append(lambda: [self.cluster.give_faults(node, daemon) for daemon in daemons])

    def wall_clock(self, node):
        """It jumps for all daemons of the node, and back at the end."""
        step_s = self.chance.choice(WALL_STEPS_S) * self.chance.choice((-1, 1))
        self._faulty(node, [service for service in clusters.SERVICES if service not in HONEST], wall_ns=int(step_s * 1e9))
        return f"{step_s:+g} s"

    def wall_rate(self, node):
        """It goes too fast or too slow for all of them. (The other clocks are the kernel's, which also counts the leases: tests/sim.)"""
        ppm = self.chance.choice(WALL_RATES_PPM) * self.chance.choice((-1, 1))
        self._faulty(node, [service for service in clusters.SERVICES if service not in HONEST], wall_ppm=ppm)
        return f"{ppm:+d} ppm"

    def disk(self, node, how, **faults):
        daemons = DISKED if self.chance.random() < 0.3 else (self.chance.choice(DISKED),)
        self._faulty(node, daemons, disk=how, **faults)
        return " ".join(daemons)

    def disk_slow(self, node):
        delay_ms = self.chance.choice(SLOW_MS)
        return f"{self.disk(node, 'slow', delay_ms=delay_ms)}, {delay_ms} ms a call"

    def disk_full(self, node):
        return self.disk(node, "full")

    def disk_broken(self, node):
        return self.disk(node, "broken")

    def hog(self, node):
        limit = f"{self.longest_s + POINT_S:g}"
        hogs = [self.cluster.popen(node, ["timeout", limit, "sh", "-c", "while :; do :; done"], stdin=subprocess.DEVNULL) for _ in range(HOGS)]

        def end():
            for hog in hogs:
                hog.terminate()
                hog.wait()
        self.undo.append(end)


def signal_to(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
