#!/usr/bin/env python3
"""Goals A2 to A4: a redis with 64 MB outlives its node, under ours, Pacemaker with corosync, and keepalived.

    bench/failover.py BUILD [--quick] [--only SYSTEM,...] [--rounds N] [--configuration FILE]

Three nodes, each in namespaces of its own on one bridge, and a client that increments a counter over TCP and writes down every
acknowledged value. The node that has the service is killed (kill -9 of its first process), from outside and at a random moment; the
outage is the time from there to the first answer of the new copy. Ours has three rounds of each kind: the node coordinates or not, and
leads the store, too. `elections` are kills of the coordinator's node, with and without the store's leader, until another node says that it
coordinates. --configuration: lines for our nodes, another lease, say. Needs root, and goes before
other work on the machine. About a quarter of an hour; --quick: a third.
"""
import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from beside.failover import INTERVAL_S, NODES, TREE, VE, Depsys, Keepalived, Pacemaker, wait_until  # noqa: E402
from beside.ground import on_ground  # noqa: E402
from scenario import Record, start_client  # noqa: E402

MEGABYTES = 64
RECOVER_S = 120.0
GAP_NS = 50000000  # no answer for longer is an outage
FRESH = 10  # a counter below it was not brought over; some increments may have had no answer
KINDS = ("ours, any node", "ours, coordinator", "ours, coordinator and leader")
SYSTEMS = ("keepalived", "keepalived fast", "Pacemaker", "Pacemaker tuned", "ours", "elections")
PACKAGES = {"keepalived": "keepalived", "corosync": "corosync", "pacemakerd": "pacemaker", "crm_mon": "pacemaker-cli-utils"}
STEPS = ("suspected", "verdict", "coordinator", "lease ended", "placed", "armed", "restored", "first answer")


def install():
    if not all(shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin") for program in PACKAGES) or \
            not os.path.exists("/usr/lib/ocf/resource.d/heartbeat/anything"):
        subprocess.run([os.path.join(TREE, "tools", "setup"), "bench"], check=True, stdout=sys.stderr)


# ---- one kill ----


def outage(record, killed_ns):
    """(last answer before, first answer after) around the longest silence that ends after the kill; None: it goes on."""
    lines = record.lines()
    pairs = [(a, b) for a, b in zip(lines, lines[1:]) if b[0] > killed_ns + GAP_NS]
    pair = max(pairs, key=lambda ab: ab[1][0] - ab[0][0], default=None)
    return pair if pair and pair[1][0] - pair[0][0] > GAP_NS else None


def kill_holder(system, holder, dice):
    """One round: (seconds without an answer, value before, value after, least that should be there, wall time of the kill)."""
    record = Record(os.path.join(system.directory, "record"))
    if os.path.exists(record.path):
        os.unlink(record.path)
    client = start_client(system.cluster, record.path)
    try:
        wait_until("increments", lambda: os.path.exists(record.path) and len(record.lines()) > 50, RECOVER_S)
        system.committed(record)
        time.sleep(dice.uniform(0, INTERVAL_S))
        wall_ns, killed_ns = time.time_ns(), time.monotonic_ns()
        system.cluster.kill(holder)
        before, after = wait_until(f"{system.name} to answer again", lambda: outage(record, killed_ns), RECOVER_S)
        time.sleep(1)  # the answer may have been one of a short silence only
        before, after = outage(record, killed_ns)
    finally:
        client.terminate()
        client.wait()
    return {"outage": (after[0] - killed_ns) / 1e9, "before": before[1], "after": after[1] - 1, "wall_ns": wall_ns,
            "answered_ns": wall_ns + after[0] - killed_ns, "record": record, "clock_ns": wall_ns - killed_ns}


def rounds_of_peer(system, count, dice):
    results = []
    for _ in range(count):
        holder = wait_until("somebody to have the address", system.holder, RECOVER_S)
        system.fill(MEGABYTES)
        results.append(kill_holder(system, holder, dice))
        say(f"{system.name}: {results[-1]['outage']:.2f} s")
        system.revive(holder)
    return results


# ---- ours ----


def ago(event, field):
    return event["time_ns"] - 1000 * event["body"][field] if event and field in event["body"] else None


def steps(system, holder, result):
    """Seconds from the kill to each step; None: there was none."""
    since = result["wall_ns"]
    dead, placed = system.first("member.dead", since, node=holder), system.first("ve.placed", since, ve=VE)
    restored, elected = system.first("ve.restored", since, ve=VE), system.first("coord.elected", since, held=True)
    suspect = system.first("member.suspect", since, node=holder)
    at = {"suspected": suspect and suspect["time_ns"], "verdict": dead and dead["time_ns"],
          "coordinator": elected and elected["time_ns"], "lease ended": ago(placed, "lease_ended_us"),
          "placed": placed and placed["time_ns"], "armed": ago(restored, "armed_us"), "restored": ago(restored, "announced_us"),
          "first answer": result["answered_ns"]}
    return {step: at[step] and (at[step] - since) / 1e9 for step in STEPS}


def kept(system, result):
    """Of the last checkpoint that was committed before the kill: what the client had seen acknowledged when its round began, how many
    seconds before the kill that was, and how long the round took."""
    begun, took_ms = max((event["time_ns"] - 1000000 * event["body"]["took_ms"], event["body"]["took_ms"])
                         for stream in system.events.values() for event in stream.all("ckpt.committed", ve=VE)
                         if event["time_ns"] <= result["wall_ns"])
    seen = [value for at, value in result["record"].lines() if at + result["clock_ns"] <= begun]
    return {"least": seen[-1] if seen else 0, "age": (result["wall_ns"] - begun) / 1e9, "round": took_ms / 1e3}


def round_of_ours(system, kind, dice):
    together = kind == KINDS[2]
    coordinator = system.steer(together)
    holder = coordinator if kind != KINDS[0] else next(node for node in NODES if node != coordinator)
    system.place(holder)
    system.fill(MEGABYTES)
    result = kill_holder(system, holder, dice)
    wait_until("the node to say that it runs", lambda: system.first("ve.restored", result["wall_ns"], ve=VE), RECOVER_S)
    time.sleep(0.5)  # events of the others
    result.update(steps=steps(system, holder, result), **kept(system, result))
    say(f"{kind}: {result['outage']:.2f} s, its state {result['age']:.2f} s old, its last round {result['round']:.2f} s long")
    system.revive(holder)
    return result


def election(system, together):
    """Seconds from the kill of the coordinator's node until another one says that it coordinates."""
    victim = system.steer(together)
    time.sleep(random.uniform(0, 0.5))
    wall_ns = time.time_ns()
    system.cluster.kill(victim)
    elected = wait_until("another coordinator", lambda: system.first("coord.elected", wall_ns, held=True), RECOVER_S)
    took = (elected["time_ns"] - wall_ns) / 1e9
    say(f"election{', store without its leader' if together else ''}: {took:.2f} s")
    system.revive(victim)
    return took


# ---- what came out ----


def say(text):
    print(f"failover: {text}", file=sys.stderr, flush=True)


def show(results, elections):
    print(f"{'kill -9 of the node, redis with ' + str(MEGABYTES) + ' MB':44}{'rounds':>8}{'outage s':>10}{'worst':>8}  counter afterwards")
    for name, rounds in results.items():
        times = [r["outage"] for r in rounds]
        lost = statistics.median(r["before"] - r["after"] for r in rounds)
        if all(r["after"] < FRESH for r in rounds):
            state = "begins anew"
        else:
            state = f"goes on: {lost:.0f} lost" + \
                (f", of {statistics.median(r['age'] for r in rounds):.1f} s (a round: {statistics.median(r['round'] for r in rounds):.1f} s)"
                 if "age" in rounds[0] else "")
        print(f"{name:44}{len(rounds):>8}{statistics.median(times):>10.2f}{max(times):>8.2f}  {state}")
    for name, times in elections.items():
        if times:
            print(f"{name:44}{len(times):>8}{statistics.median(times):>10.2f}{max(times):>8.2f}")
    kinds = [kind for kind in KINDS if kind in results]
    if kinds:
        print(f"\n{'ours, median s from the kill to':44}" + "".join(f"{kind[6:]:>24}" for kind in kinds))
    for step in STEPS if kinds else ():
        cells = [[r["steps"][step] for r in results[kind] if r["steps"][step] is not None] for kind in kinds]
        print(f"{step:44}" + "".join(f"{statistics.median(cell):>24.2f}" if cell else f"{'-':>24}" for cell in cells))
    print()


def goal(name, values, limits, met):
    print(f"goal {name}: {values} ({limits}) {'met' if met else 'missed'}")


def goals(results, elections):
    times = [time for some in elections.values() for time in some]
    if times:
        middle, worst = statistics.median(times), max(times)
        goal("A2", f"p50 {middle:.2f} s, max {worst:.2f} s of {len(times)}", "p50 <= 2.0 s, max <= 2.6 s", middle <= 2.0 and worst <= 2.6)
    ours = [r for kind in KINDS for r in results.get(kind, [])]
    if not ours:
        return
    kinds = {kind: statistics.median(r["outage"] for r in results[kind]) for kind in KINDS if kind in results}
    slowest = max(kinds.values())
    parts, limits, met = [f"slowest kind {slowest:.2f} s"], ["<= 3.4 s"], slowest <= 3.4
    for name, factor in (("Pacemaker", 0.4), ("Pacemaker tuned", 1.0)):
        if name in results:
            ratio = slowest / statistics.median(r["outage"] for r in results[name])
            parts.append(f"{ratio:.2f} x {name}")
            limits.append(f"<= {factor} x {name}")
            met = met and ratio <= factor
    goal("A3", ", ".join(parts), ", ".join(limits), met)
    older = sum(r["after"] < r["least"] for r in ours)
    goal("A4", f"{older} of {len(ours)} before the last committed checkpoint", "0", older == 0)


def measure(options, directory, build):
    results, elections, dice = {}, {"elections": [], "elections, store's leader killed, too": []}, random.Random(1)
    peers = {"keepalived": lambda d: Keepalived("keepalived", build, d, 1),
             "keepalived fast": lambda d: Keepalived("keepalived fast", build, d, 0.1),
             "Pacemaker": lambda d: Pacemaker("Pacemaker", build, d),
             "Pacemaker tuned": lambda d: Pacemaker("Pacemaker tuned", build, d, 1000)}
    for name, make in peers.items():
        if name in options.only:
            own = os.path.join(directory, name.replace(" ", "-"))
            os.makedirs(own)
            with make(own) as system:
                results[name] = rounds_of_peer(system, options.rounds, dice)
    if not {"ours", "elections"} & set(options.only):
        return results, elections
    own = os.path.join(directory, "ours")
    os.makedirs(own)
    with Depsys("ours", build, own, options.settings) as system:
        for kind in KINDS if "ours" in options.only else ():
            results[kind] = [round_of_ours(system, kind, dice) for _ in range(options.rounds)]
        for name, together in zip(elections, (False, True)):
            kind = KINDS[2 if together else 1]
            elections[name] = [r["steps"]["coordinator"] for r in results.get(kind, []) if r["steps"]["coordinator"]]
            for _ in range(options.elections if "elections" in options.only else 0):
                elections[name].append(election(system, together))
    return results, elections


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SYSTEMS))
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--configuration", metavar="FILE", help="lines for the configuration of our nodes")
    options = parser.parse_args()
    if not set(options.only) <= set(SYSTEMS):
        parser.error(f"--only: there is: {', '.join(SYSTEMS)}")
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.settings = ""
    if options.configuration:
        with open(options.configuration, encoding="utf-8") as file:
            options.settings = file.read()
    options.elections = 1 if options.quick else 4
    install()
    measured = on_ground("failover", lambda directory: measure(options, directory, os.path.abspath(options.build)))
    if not measured:
        return 1
    results, elections = measured
    show(results, elections)
    goals(results, elections)
    return 0


if __name__ == "__main__":
    sys.exit(main())
