#!/usr/bin/env python3
"""Every daemon is killed, one after the other, under load: the service does not notice, and the daemon is back as it was.

usage: test_kills.py [--rounds N] [--seed SEED] [--only DAEMON] BUILD_DIR

Three nodes; redis as VE counter on n1 with a checkpoint each second; a client increments over one connection all the time.
kill -9 hits, in an order and at moments that the seed tells, each daemon of n1 and of the coordinator's node, the metad that
leads, and ckptd, ved and gosd while a checkpoint is being made. After each one the whole cluster is looked at; see Kills.look.
"""
import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True

from cluster import BUG, SERVICES, Cluster, ClusterError, log_tail, sweep  # noqa: E402
from scenario import (CONFIGURATION, NODES, READY_S, VE, Events, Failed, Pace, Record, depctl, first, keep_logs,  # noqa: E402
                      make_bundle, start_client, start_service, wait_ready, wait_until)

BASE = "dst-kills"
HOME = "n1"  # where the VE runs
IN_A_ROUND = ("ckptd", "ved", "gosd")
INTERVAL_S = 1.0
ROUND_S = 0.35  # kills "in a round" come up to so long after its start
CLIENT_PATIENCE_S = 30.0  # of the client: longer than whatever may hold the VE, so that its one connection must last
STILL_S = 20.0  # the longest that the service may be silent: a freeze whose owner was killed ends after 4 s, the rest is the machine's
QUIET_NS = 1500 * 1000000  # an answer within that time is not frozen
LOG_LINES = 40  # of the daemons, when a run fails
FORBIDDEN = ("member.dead", "ve.died", "ve.stopped", "ve.started", "ve.restored", "ve.placed", "ve.trouble", "bus.lost")


def host_pid(cluster, node, pid):
    """The machine's number of a process that a node knows by another."""
    with open(os.path.join(cluster.groups(node)[0], "daemons", "cgroup.procs"), encoding="ascii") as procs:
        for outer in map(int, procs.read().split()):
            try:
                with open(f"/proc/{outer}/status", encoding="utf-8") as status:
                    numbers = next(line for line in status if line.startswith("NSpid:")).split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(numbers[-1]) == pid:
                return outer
    raise Failed(f"no process {pid} on {node}")


def gaps(events):
    """Places in a node's stream where events are missing or out of order."""
    seen = [(int(e["epoch"]), e["seq"]) for e in list(events.list)]
    return [f"{events.node}: {a} then {b}" for a, b in zip(seen, seen[1:])
            if not (b == (a[0], a[1] + 1) or (b[0] > a[0] and b[1] == 1))]


class Kills:
    def __init__(self, cluster, directory, chance):
        self.cluster, self.directory, self.chance = cluster, directory, chance
        self.events, self.client, self.before = [], None, None
        self.record = Record(os.path.join(directory, "record"))
        self.frozen_s, self.checked = 0.0, 0
        self.boots = set()  # of the processes that came after a kill
        self.pace = Pace()

    # -- the steady state --

    def up(self, build):
        self.cluster.up(build, nodes=len(NODES), config_extra=CONFIGURATION)
        wait_ready(self.cluster)
        self.events = [Events(self.cluster, node) for node in NODES]
        start_service(self.cluster, make_bundle(self.directory), INTERVAL_S)
        self.client = start_client(self.cluster, self.record.path, "--patience", f"{CLIENT_PATIENCE_S:g}")
        wait_until("first increment", lambda: os.path.exists(self.record.path) and self.record.lines(), READY_S)
        wait_until("first checkpoint", lambda: first(self.events, "ckpt.committed", 0, ve=VE), READY_S)
        self.began_ns = time.time_ns()
        self.began_mono_ns = time.monotonic_ns()
        self.before = {node: self.facts(node) for node in NODES}
        if None in self.before.values() or len({str(facts) for facts in self.before.values()}) != 1:
            raise Failed(f"the nodes do not agree at the start: {self.before}")

    def close(self):
        if self.client:
            self.client.terminate()
            self.client.wait()
        for stream in self.events:
            stream.close()

    def coordinator(self):
        return next(m["node"] for m in depctl(self.cluster, HOME, "node", "ls") if m["coordinator"])

    def leader(self):
        """The node whose metad leads, as the one that told it last sees it."""
        told = [event for stream in self.events for event in stream.all("meta.leader")]
        return max(told, key=lambda event: event["time_ns"])["body"]["name"]

    # -- what must be as before --

    def facts(self, node):
        """What a node says of members, coordinator and facts; None: not now. Only versions that change by themselves are out."""
        members = depctl(self.cluster, node, "node", "ls", check=False)
        entries = depctl(self.cluster, node, "meta", "ls", check=False)
        ves = depctl(self.cluster, node, "ve", "ls", check=False)
        if None in (members, entries, ves):
            return None
        return {"coordinator": next((m["node"] for m in members if m["coordinator"]), None),
                "members": sorted((m["node"], m["state"]) for m in members),
                "facts": sorted((e["key"], e["version"] if e["key"].startswith(("ve/", "key/")) else "any") for e in entries
                                if not e["key"].startswith("ckpt/")),
                "ves": [(ve["name"], ve["node"], ve["epoch"], ve["want"]) for ve in ves]}

    def agree(self, node):
        """It says what it said before; only the coordinator may be one that was elected since, see look_at_events."""
        now, before = self.facts(node), self.before[node]
        elected = {event["body"]["node"] for event in self.elections()}
        return now and now["coordinator"] in {before["coordinator"]} | elected and {**now, "coordinator": before["coordinator"]} == before

    def elections(self):
        """Of other reigns than that of the beginning: a gossipd that comes back tells of that one, too."""
        told = [event for stream in self.events for event in stream.all("coord.elected")]
        first_epoch = max(event["body"]["epoch"] for event in told if event["time_ns"] < self.began_ns)
        return [event for event in told if event["body"]["epoch"] > first_epoch]

    def objects_missing(self):
        """Kept images that a node does not list though the catalogue says that it holds them; None: not now."""
        shown = depctl(self.cluster, HOME, "ve", "show", VE, check=False)
        listed = {node: depctl(self.cluster, node, "obj", "ls", check=False) for node in NODES}
        if not shown or "checkpoints" not in shown or None in listed.values():
            return None
        held = {node: {entry["oid"] for entry in entries} for node, entries in listed.items()}
        return [f"{ckpt['id']} on {node}" for ckpt in shown["checkpoints"] for node in [ckpt["node"], *ckpt["replicas"]]
                if ckpt["oid"] not in held[node]]

    def committed(self, since_ns):
        """A checkpoint was begun and committed since."""
        started = first(self.events, "ckpt.started", since_ns)
        return started and any(e["body"]["id"] >= started["body"]["id"]
                               for stream in self.events for e in stream.all("ckpt.committed", ve=VE)
                               if e["time_ns"] >= since_ns)

    # -- one kill --

    def hello(self, node, daemon):
        status = depctl(self.cluster, node, "status", check=False) or {"daemons": []}
        return next((row for row in status["daemons"] if row["daemon"] == daemon and row["state"] == "up"), None)

    def wait_moment(self, in_a_round):
        if in_a_round:
            now_ns = time.time_ns()
            wait_until("a checkpoint to be begun", lambda: first(self.events, "ckpt.started", now_ns), READY_S)
            time.sleep(self.chance.uniform(0, ROUND_S))
        else:
            time.sleep(self.chance.uniform(0, INTERVAL_S))

    def kill(self, node, daemon, in_a_round):
        old = wait_until(f"{daemon} on {node} to be up", lambda: self.hello(node, daemon), READY_S)
        pid = host_pid(self.cluster, node, old["pid"])
        self.wait_moment(in_a_round)
        killed_ns, killed_mono = time.time_ns(), time.monotonic()
        os.kill(pid, signal.SIGKILL)

        def back():
            new = self.hello(node, daemon)
            return new and new["boot"] != old["boot"] and new
        new = wait_until(f"{daemon} on {node} to be back", back, READY_S)
        back_s = time.monotonic() - killed_mono
        self.boots.add(new["boot"])
        self.look(node, daemon, new["boot"], killed_ns)
        return back_s, time.monotonic() - killed_mono

    def look(self, node, daemon, boot, killed_ns):
        """Everything that must hold after a kill."""
        stream = self.events[NODES.index(node)]
        if daemon == "busd":  # it tells nothing of itself; what the others told goes on in the same log
            wait_until(f"{node}'s bus to bring events", lambda: stream.list[-1]["time_ns"] > killed_ns, READY_S)
        else:
            wait_until(f"{node}'s bus to tell that {daemon} started",
                       lambda: stream.find("daemon.started", killed_ns, daemon=daemon, boot=boot), READY_S)
        wait_until("a checkpoint begun after the kill to be committed", lambda: self.committed(killed_ns), READY_S)
        for name in NODES:
            try:
                wait_until(f"{name} to say what it said before", lambda n=name: self.agree(n), READY_S)
            except Failed as error:
                raise Failed(f"{error}\n  before: {self.before[name]}\n  now:    {self.facts(name)}") from None
        try:
            wait_until("the kept images to be listed", lambda: self.objects_missing() == [], READY_S)
        except Failed as error:
            raise Failed(f"{error}: {self.objects_missing()}") from None
        self.look_at_service()
        self.look_at_events()

    def look_at_service(self):
        wait_until("the VE to answer", lambda: time.monotonic_ns() - self.record.lines()[-1][0] < QUIET_NS, READY_S)
        lines = self.record.lines()
        if self.record.losses():
            raise Failed(f"the client's connection broke: {self.record.losses()}")
        fresh, self.checked = lines[max(0, self.checked - 1):], len(lines)
        for (at, a), (then, b) in zip(fresh, fresh[1:]):
            if b != a + 1:
                raise Failed(f"value {b} came after {a}")
            if at > self.began_mono_ns:
                self.frozen_s = max(self.frozen_s, self.pace.ran(at / 1e9, then / 1e9))
        if self.frozen_s > STILL_S:
            raise Failed(f"the service was silent for {self.frozen_s:.2f} s")

    def look_at_events(self):
        for topic in FORBIDDEN:
            event = first(self.events, topic, self.began_ns)
            if event:
                raise Failed(f"{event['node']} told {topic}: {event['body']}")
        for event in (e for stream in self.events for e in stream.all("daemon.started")):
            if event["time_ns"] >= self.began_ns and event["body"]["boot"] not in self.boots:
                raise Failed(f"{event['body']['daemon']} on {event['node']} was started again, and nobody had killed it")
        self.look_at_coordinators()
        missing = [gap for stream in self.events for gap in gaps(stream)]
        if missing:
            raise Failed(f"events are missing: {missing}")

    def look_at_coordinators(self):
        """One to an epoch, whoever tells of it. That a lease lapsed is no fault: the store answers when disks and processors let it, and
        that nothing came of it is what the rest of look() says."""
        reigns = {}
        for event in (e for stream in self.events for e in stream.all("coord.elected")):
            node = reigns.setdefault(event["body"]["epoch"], event["body"]["node"])
            if event["body"]["node"] != node:
                raise Failed(f"{event['node']} told that {event['body']['node']} is coordinator of epoch {event['body']['epoch']}, as {node} is")

    # -- all kills --

    def plan(self, only):
        """(node, daemon, in a round) of one turn; a node of None: the leader's, found out when it is due."""
        nodes = dict.fromkeys([HOME, self.coordinator()])
        if len(nodes) == 1:
            nodes["n2"] = None
        kills = [(node, daemon, False) for node in nodes for daemon in SERVICES]
        kills += [(HOME, daemon, True) for daemon in IN_A_ROUND] + [(self.coordinator(), "ckptd", True), (None, "metad", False)]
        kills = [kill for kill in kills if not only or kill[1] == only]
        self.chance.shuffle(kills)
        return kills

    def turn(self, only):
        for node, daemon, in_a_round in self.plan(only):
            where = node or self.leader()
            what = f"{daemon} on {where}" + (" in a round" if in_a_round else "") + ("" if node else ", the leader")
            try:
                back_s, good_s = self.kill(where, daemon, in_a_round)
            except Failed as error:
                raise Failed(f"{what} killed: {error}") from None
            print(f"ok: {what}: back after {back_s:.2f} s, all good after {good_s:.2f} s", flush=True)

    def finish(self):
        for node in NODES:
            depctl(self.cluster, node, "--timeout", "30s", "obj", "verify")
        bugs = self.cluster.log_lines(BUG)
        if bugs:
            raise Failed(f"a daemon found a bug of its own: {bugs[:3]}")
        aborted = {e["body"]["id"] for stream in self.events for e in stream.all("ckpt.aborted")}
        lapses = sum(len(stream.all("coord.lost")) for stream in self.events)
        print(f"values to {self.record.lines()[-1][1]} over one connection, longest silence {self.frozen_s:.2f} s, "
              f"{len(aborted)} checkpoints aborted, {lapses} leases lapsed, {len(self.elections())} told elections")

    def keep(self):
        """Where the traces of a failed run are."""
        kept = keep_logs(self.directory, "depsys-kills-failed")
        for stream in self.events:
            with open(os.path.join(kept, f"{stream.node}.events"), "w", encoding="utf-8") as file:
                file.writelines(json.dumps(event) + "\n" for event in list(stream.list))
        return kept


def run(options):
    sweep(BASE)
    prefix = f"{BASE}-{os.getpid()}"
    directory = tempfile.mkdtemp(prefix=prefix + "-")
    cluster = Cluster(prefix, os.path.join(directory, "state"))
    kills = Kills(cluster, directory, random.Random(options.seed))
    print(f"seed {options.seed}", flush=True)
    try:
        kills.up(options.build)
        for _ in range(options.rounds):
            kills.turn(options.only)
        kills.finish()
        return 0
    except (Failed, ClusterError, OSError) as error:
        print(*log_tail(LOG_LINES), sep="\n")
        print(f"FAILED: {error}\nseed {options.seed}; the nodes' logs and events are in {kills.keep()}")
        return 1
    finally:
        kills.close()
        cluster.down()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="how many times each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=SERVICES, help="kill only this daemon")
    parser.add_argument("build", metavar="BUILD_DIR")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
