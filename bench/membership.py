#!/usr/bin/env python3
"""Goals F4 to F8: fdd and gossipd beside Debian's serf, 24 agents each, in the same namespaces and in turns.

    bench/membership.py BUILD [--quick] [--only PART,...] [--keep DIR]

parts: kills (time to first suspicion and until all agree, no loss), idle (bytes, processor time, memory), loss20, loss40 (a live
period and kills under that loss), stalls (members stopped and continued). serf runs with its profile lan and encrypted; ours
with each of its profiles for kills and idle, balanced for the rest; "with busd" is balanced with a busd beside fdd and gossipd,
whose own cost is not counted, for idle; and one node runs all daemons, for the memory that these two share with the others. Needs
root. It takes about a quarter of an hour; --quick: half of everything.

Times are those at which this program read the line in which an agent says it. Bytes are those that a node sends, with IP
headers, in the mean. Resident pages of a file count once for a node, however many of its daemons map them. A verdict is false
when it is about a member that lived and was not stopped; the same verdict of several agents within ten seconds counts once.
"""
import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from beside.agents import Depsys, Serf  # noqa: E402
from beside.network import Network  # noqa: E402
from beside.node import ClusterError, share_mb  # noqa: E402

TREE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
NODES = 24
PARTS = ("idle", "kills", "loss20", "loss40", "stalls")
PROFILES = ("balanced", "economy", "fast")
WITH_BUSD = "with busd"  # balanced, and a neighbour that fdd and gossipd talk to, as on a real node
AGREE_TIMEOUT_S = 45
SAME_VERDICT_S = 10
STALL_S, STALL_PAUSE_S = 8, 6


class Plan:
    """How long and how often."""

    def __init__(self, quick):
        part = 0.5 if quick else 1
        self.idle_s = 40 * part
        self.kills = int(6 * part)
        self.loss_kills = int(4 * part)
        self.loss20_s = {"serf": 60 * part, "balanced": 300 * part}  # 24 nodes: 2 node-hours
        self.loss40_s = {"serf": 80 * part, "balanced": 80 * part}
        self.stalls = int(4 * part)


def install_serf():
    if not shutil.which("serf"):
        subprocess.run([os.path.join(TREE, "tools", "setup"), "bench"], check=True, stdout=sys.stderr)


# ---- the parts ----


def kill_once(agents, dice):
    """Seconds to the first suspicion and until all survivors call it dead; None where that did not happen."""
    victim = dice.choice(agents.network.names[2:])
    start = time.monotonic()
    agents.kill(victim)
    survivors = set(agents.network.names) - agents.down
    while time.monotonic() < start + AGREE_TIMEOUT_S:
        if survivors <= {event[1] for event in agents.since(start, "dead", victim)}:
            break
        time.sleep(0.05)
    first = [event[0] - start for event in agents.since(start, member=victim) if event[2] != "alive"]
    verdicts = {}
    for at, observer, _, _ in agents.since(start, "dead", victim):
        verdicts.setdefault(observer, at - start)
    agree = max(verdicts.values()) if survivors <= set(verdicts) else None
    agents.start(victim)
    agents.settle([victim], 20)
    time.sleep(1)
    return min(first, default=None), agree


def kills(agents, count):
    dice = random.Random(1)  # the same victims for all
    rounds = [kill_once(agents, dice) for _ in range(count)]
    return {"first": [first for first, _ in rounds], "agree": [agree for _, agree in rounds]}


def idle(agents, seconds):
    start, sent, cpu = time.monotonic(), agents.network.sent(), agents.cpu_s()
    time.sleep(seconds)
    lasted = time.monotonic() - start
    whole, once, own = agents.memory_mb()
    return {"bytes": (agents.network.sent() - sent) / lasted / NODES, "cpu": (agents.cpu_s() - cpu) / lasted / NODES * 100,
            "memory_sum": whole, "memory": once, "own_memory": own}


def incidents(events):
    """How many different ones: the same member within SAME_VERDICT_S is one."""
    last, count = {}, 0
    for at, _, _, member in events:
        count += at - last.get(member, float("-inf")) > SAME_VERDICT_S
        last[member] = at
    return count


def false_verdicts(agents, start, kind="dead", excused=()):
    return incidents([event for event in agents.since(start, kind) if event[3] not in excused])


def lossy(agents, percent, seconds, count):
    agents.network.lose(percent)
    try:
        start, sent = time.monotonic(), agents.network.sent()
        time.sleep(seconds)
        lasted = time.monotonic() - start
        result = {"bytes": (agents.network.sent() - sent) / lasted / NODES, "false": false_verdicts(agents, start),
                  "suspicions": false_verdicts(agents, start, "suspect"), "node_hours": lasted * NODES / 3600}
        result.update(kills(agents, count))
    finally:
        agents.network.lose(0)
    agents.settle(agents.network.names, 30)
    return result


def stalls(agents, count):
    """Three members at once stand still again and again. Flaps: changes of the others' mind about them; accusations: what
    is said against anybody else, first of all by those that wake up."""
    stopped = agents.network.names[3:6]
    start = time.monotonic()
    for _ in range(count):
        for name in stopped:
            agents.signal(name, signal.SIGSTOP)
        time.sleep(STALL_S)
        for name in stopped:
            agents.signal(name, signal.SIGCONT)
        time.sleep(STALL_PAUSE_S)
    time.sleep(STALL_PAUSE_S)
    flaps = 0
    for member in stopped:
        seen = {}
        for _, observer, kind, _ in agents.since(start, member=member):
            if observer not in stopped and kind in ("dead", "alive"):
                seen[observer] = seen.get(observer, 0) + (kind == "dead")
        flaps += max(seen.values(), default=0)
    accused = {kind: false_verdicts(agents, start, kind, stopped) for kind in ("suspect", "dead")}
    agents.settle(agents.network.names, 30)
    return {"flaps": flaps, "stalls": count * len(stopped), "accused": accused["suspect"], "called_dead": accused["dead"]}


def measure(agents, parts, plan):
    name, results = agents.name, {}
    full = name in ("serf", "balanced")
    if "idle" in parts:
        time.sleep(10)
        results["idle"] = idle(agents, plan.idle_s)
    if "kills" in parts:
        results["kills"] = kills(agents, plan.kills)
    for part, percent, seconds in (("loss20", 20, plan.loss20_s), ("loss40", 40, plan.loss40_s)):
        if part in parts and full:
            results[part] = lossy(agents, percent, seconds[name], plan.loss_kills)
    if "stalls" in parts and full:
        results["stalls"] = stalls(agents, plan.stalls)
    return results


# ---- what came out ----


def middle(values):
    """Median; infinite where one never came."""
    return statistics.median(float("inf") if value is None else value for value in values) if values else float("nan")


def show(results):
    width = 44
    print(f"{'':{width}}" + "".join(f"{name:>10}" for name in results))

    def row(label, part, value, form="{:.2f}"):
        cells = [form.format(value(r[part])) if part in r else "-" for r in results.values()]
        if any(cell != "-" for cell in cells):
            print(f"{label:{width}}" + "".join(f"{cell:>10}" for cell in cells))

    row("idle: bytes sent per node and second", "idle", lambda r: r["bytes"], "{:.0f}")
    row("idle: processor, % of a core per node", "idle", lambda r: r["cpu"])
    row("idle: resident memory per node, MB", "idle", lambda r: r["memory"], "{:.1f}")
    row("idle: of it not of files, MB", "idle", lambda r: r["own_memory"], "{:.1f}")
    row("idle: resident, summed over processes, MB", "idle", lambda r: r["memory_sum"], "{:.1f}")
    row("share of a node with all daemons, MB", "node", lambda r: r, "{:.1f}")
    for part, title in (("kills", "kill -9"), ("loss20", "20 % loss, kill -9"), ("loss40", "40 % loss, kill -9")):
        row(f"{title}: first suspicion, median s", part, lambda r: middle(r["first"]))
        row(f"{title}: all agree, median s", part, lambda r: middle(r["agree"]))
        row(f"{title}: all agree, longest s", part, lambda r: max(middle([a]) for a in r["agree"]))
    for part, title in (("loss20", "20 % loss"), ("loss40", "40 % loss")):
        row(f"{title}: bytes sent per node and second", part, lambda r: r["bytes"], "{:.0f}")
        row(f"{title}: node-hours watched", part, lambda r: r["node_hours"])
        row(f"{title}: suspicions of live members", part, lambda r: r["suspicions"], "{}")
        row(f"{title}: live members called dead", part, lambda r: r["false"], "{}")
    row("stalls of 8 s", "stalls", lambda r: r["stalls"], "{}")
    row("stalls: stopped members called dead", "stalls", lambda r: r["flaps"], "{}")
    row("stalls: others suspected", "stalls", lambda r: r["accused"], "{}")
    row("stalls: others called dead", "stalls", lambda r: r["called_dead"], "{}")
    print()


def judge(name, conditions):
    """conditions: (what, value, limit); a goal line."""
    values = ", ".join(f"{what} {value:.2f}" for what, value, _ in conditions)
    limits = ", ".join(f"{what} <= {limit:g}" for what, _, limit in conditions)
    met = all(value <= limit for _, value, limit in conditions)
    print(f"goal {name}: {values} ({limits}) {'met' if met else 'missed'}")


def per_hour(result):
    return result["false"] / result["node_hours"]


def goals(results):
    serf, ours = results["serf"], results["balanced"]
    conditions = []
    for profile, time_limit, byte_limit in (("balanced", 0.35, 2.0), ("economy", 0.5, 0.7), ("fast", 0.15, None)):
        if "kills" in serf:
            conditions.append((f"{profile} time", middle(results[profile]["kills"]["agree"]) / middle(serf["kills"]["agree"]),
                               time_limit))
        if "idle" in serf and byte_limit:
            conditions.append((f"{profile} bytes", results[profile]["idle"]["bytes"] / serf["idle"]["bytes"], byte_limit))
    if conditions:
        judge("F4", conditions)
    if "loss20" in serf:
        s, o = serf["loss20"], ours["loss20"]
        judge("F5", [("time", middle(o["agree"]) / middle(s["agree"]), 0.4), ("bytes", o["bytes"] / s["bytes"], 0.8),
                     (f"false in {o['node_hours']:.1f} node-hours", o["false"], 0)])
    if "loss40" in serf:
        s, o = serf["loss40"], ours["loss40"]
        judge("F6", [("false per node-hour", per_hour(o), 0.1 * per_hour(s))])
    if "stalls" in serf:
        s, o = serf["stalls"], ours["stalls"]
        judge("F7", [("accusations", o["accused"] + o["called_dead"], 0), ("flaps", o["flaps"], 0.25 * s["flaps"])])
    if "idle" in serf:
        s, o = serf["idle"], ours["idle"]
        judge("F8", [("memory", o["memory"] / s["memory"], 0.3), ("CPU", o["cpu"] / s["cpu"], 1.0)])


def systems(network, scratch, build, parts):
    """(name, maker) one after the other: in turns, never at once."""
    yield "serf", lambda: Serf(network, os.path.join(scratch, "serf"))
    for profile in PROFILES:
        if profile == "balanced" or {"idle", "kills"} & set(parts):
            yield profile, lambda: Depsys(network, os.path.join(scratch, profile), build, profile)
    if "idle" in parts:
        yield WITH_BUSD, lambda: Depsys(network, os.path.join(scratch, WITH_BUSD), build, "balanced", ["busd"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--keep", metavar="DIR", help="where the agents' logs stay")
    options = parser.parse_args()
    parts = options.only.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--only: there is: {' '.join(PARTS)}")
    if os.geteuid() != 0:
        print("bench: membership needs root: it makes network namespaces", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    install_serf()
    scratch = options.keep or tempfile.mkdtemp(prefix=f"dsb-{os.getpid()}-")
    results = {}
    try:
        with Network(NODES) as network:
            for name, make in systems(network, scratch, os.path.abspath(options.build), parts):
                os.makedirs(os.path.join(scratch, name), exist_ok=True)
                os.chmod(scratch, 0o755)
                print(f"membership: {name} ...", file=sys.stderr, flush=True)
                with make() as agents:
                    results[name] = measure(agents, ["idle"] if name == WITH_BUSD else parts, Plan(options.quick))
        if WITH_BUSD in results:
            print("membership: a node with all daemons ...", file=sys.stderr, flush=True)
            try:
                results["balanced"]["node"] = share_mb(os.path.abspath(options.build), ("fdd", "gossipd"))
            except ClusterError as error:  # without CRIU, say
                print(f"membership: no such node: {error}", file=sys.stderr)
    finally:
        if not options.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    show(results)
    goals(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
