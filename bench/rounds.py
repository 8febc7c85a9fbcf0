#!/usr/bin/env python3
"""Goal C2: what coordination adds to the time for which five VEs stand still (row 23).

    bench/rounds.py BUILD [--rounds N]

Three nodes, five redis spread over them. Each turn takes a checkpoint of all five twice: as one round, in which nobody is written down
before all are frozen, and as five rounds of one VE each that begin at the same moment, which have the same work to do on the same
machine and wait for nobody. The difference of the medians of the time stood, as ved measures it from freeze to thaw, is what
coordination costs. Rejected: one VE after the other as what it is compared with, as then five criu at once, which share two processors here,
would be held against coordination. Needs root, and goes before other work on the machine. Two minutes.
"""
import argparse
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from beside.ground import on_ground  # noqa: E402
import cluster as clusters  # noqa: E402
from scenario import CONFIGURATION, NODES, Events, Failed, depctl, make_bundle, wait_ready, wait_until  # noqa: E402

VES = [f"ve{number}" for number in range(1, 6)]
LIMIT_MS = 20
TRIES = 10
PATIENCE_S = 120.0


def start_services(cluster, directory):
    bundle = make_bundle(directory)
    for number, ve in enumerate(VES):
        depctl(cluster, "n1", "ve", "run", ve, bundle, "--address", f"10.77.0.{100 + number}/24", "--node", NODES[number % len(NODES)],
               "--interval", "0s", "--copies", "1")


def create(cluster, *ves):
    return cluster.popen("n1", ["depctl", "-o", "json", "--timeout", "60s", "ckpt", "create", *ves], stdout=-1, stderr=-1, text=True)


def finish(processes):
    """Whether all of them committed."""
    answers = [process.communicate() for process in processes]
    return all(process.returncode == 0 for process in processes) or [error.strip() for _, error in answers if error]


def thawed(events, since_ns):
    """VE -> ms stood, of the thaws that the nodes told since."""
    found = {}
    for stream in events:
        for event in stream.all("ve.thawed"):
            if event["time_ns"] >= since_ns:
                found[event["body"]["ve"]] = event["body"]["frozen_ms"]
    return found


def turn(cluster, events, groups):
    """One checkpoint of all VEs in these rounds, which begin at the same moment: ms stood of each. One that came to nothing is repeated."""
    for _ in range(TRIES):
        began_ns = time.time_ns()
        done = finish([create(cluster, *group) for group in groups])
        if done is True:
            return wait_until("all VEs to be thawed", lambda since=began_ns: len(thawed(events, since)) == len(VES) and thawed(events, since),
                              PATIENCE_S)
        print(f"a round came to nothing: {done}", file=sys.stderr)
        time.sleep(0.5)
    raise Failed(f"no checkpoint of {groups} in {TRIES} tries")


def measure(cluster, events, rounds):
    """(ms stood of each VE and round, together, each for itself); the kinds take turns, so that both see the same machine."""
    together, apart = [], []
    for number in range(rounds + 1):
        stood = turn(cluster, events, [VES]), turn(cluster, events, [[ve] for ve in VES])
        if number:  # the first has everything to store
            together += stood[0].values()
            apart += stood[1].values()
    return together, apart


def cost_of_coordination(build, directory, rounds):
    cluster = clusters.Cluster(f"dsb-rounds-{os.getpid()}", os.path.join(directory, "state"))
    events = []
    try:
        cluster.up(build, nodes=len(NODES), config_extra=CONFIGURATION)
        wait_ready(cluster)
        start_services(cluster, directory)
        events = [Events(cluster, node) for node in NODES]
        return measure(cluster, events, rounds)
    finally:
        for stream in events:
            stream.close()
        cluster.down()


def show(together, apart):
    print(f"{'five VEs, ms stood':<28}{'p50':>8}{'p90':>8}{'longest':>9}{'count':>7}")
    for name, stood in (("one round of five", together), ("five rounds of one", apart)):
        print(f"{name:<28}{statistics.median(stood):>8.0f}{statistics.quantiles(stood, n=10)[8]:>8.0f}{max(stood):>9}{len(stood):>7}")
    added = statistics.median(together) - statistics.median(apart)
    print(f"goal C2: coordination adds {added:.0f} ms to the time five VEs stand, p50 (<= {LIMIT_MS} ms) {'met' if added <= LIMIT_MS else 'missed'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    measured = on_ground("rounds", lambda directory: cost_of_coordination(os.path.abspath(options.build), directory, options.rounds))
    if not measured:
        return 1
    show(*measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
