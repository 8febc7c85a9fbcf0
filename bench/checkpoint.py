#!/usr/bin/env python3
"""Goals C1 and C6: how long a redis stands still while it is written down, and brought back in place, beside others.

    bench/checkpoint.py BUILD [--quick] [--only PART,...]        parts: sizes, ten, place

A client with one open connection counts; its longest gap is the time stopped. `sizes`: 10, 256 and 1,024 MB, three nodes with all
daemons, so that ours is the whole of it: round, image, chunks, encryption, a copy on another node. Beside it, in turns and on the same
node: `criu dump --leave-running` of the same redis by hand, to a tmpfs, whose wall time is what C1 measures us by (what is stopped for
as long), and crun, runc and podman, each with a redis of its own. `ten`: ten checkpoints of 256 MB, of which 5 % is written between.
`place`: a small redis is checkpointed, ended, and restored in place (C6).

Needs root. About ten minutes; --quick: a third.
"""
import argparse
import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from beside.containers import CONTAINERS, Node, RawCriu  # noqa: E402
from beside.criustats import dump_statistics  # noqa: E402
from beside.failover import FILL, TREE, ClusterError, Depsys, Failed, System, wait_until  # noqa: E402
from beside.ground import on_ground  # noqa: E402
from scenario import ADDRESS, VE, Record, depctl, make_bundle  # noqa: E402

SIZES_MB = (10, 256, 1024)
TEN_MB, TEN_CHANGED = 256, 0.05
C1_TIMES, C6_CRUN, C6_PODMAN = 1.1, 0.65, 0.45
PARTS = ("sizes", "ten", "place")
READY_S, LONG_S, SETTLE_S, TRIES = 120.0, 900.0, 5.0, 5
PEER_ADDRESS = {"crun": "10.77.0.61", "runc": "10.77.0.62", "podman": "10.77.0.63"}
STAGES = ("freeze", "criu", "files", "chunks", "copies")
CRIU_OWN = {"freezing": "criu's own: to stop", "frozen": "criu's own: stopped", "memdump": "criu's own: pages to pipes",
            "memwrite": "criu's own: pages to files"}


def say(text):
    print(f"checkpoint: {text}", file=sys.stderr, flush=True)


def install():
    if not all(shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin") for program in ("runc", "podman")):
        subprocess.run([os.path.join(TREE, "tools", "setup"), "bench"], check=True, stdout=sys.stderr)


# ---- the client ----


class Client:
    """Counts on one connection for as long as a context lasts; then knows its longest gap, in milliseconds."""
    LINES = 50

    def __init__(self, system, address):
        self.system, self.address = system, address
        self.record = Record(os.path.join(system.directory, "record"))

    def __enter__(self):
        if os.path.exists(self.record.path):
            os.unlink(self.record.path)
        with open(f"{self.record.path}.errors", "ab") as errors:
            self.process = self.system.cluster.popen(
                "client", [os.path.join(TREE, "tools", "demo-client"), "--patience", "60", self.address, "6379", self.record.path],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        self._counts_on()
        self.begin_ns = time.monotonic_ns()
        return self

    def _counts_on(self):
        seen = len(self.record.lines()) if os.path.exists(self.record.path) else 0
        wait_until("the client to count", lambda: os.path.exists(self.record.path) and
                   len(self.record.lines()) >= seen + self.LINES, READY_S)

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self._counts_on()
        finally:
            self.process.terminate()
            self.process.wait()

    def gap_ms(self):
        if self.record.losses():
            raise Failed(f"the client lost its connection: {self.record.losses()[0][1]}")
        times = [at for at, _ in self.record.lines() if at >= self.begin_ns]
        return max(b - a for a, b in zip(times, times[1:])) / 1e6


def fill(system, address, numbers):
    """Writes 1 MB of noise under each of these numbers."""
    program = FILL.replace(ADDRESS, address).replace("range(int(sys.argv[1]))", "map(int, sys.argv[1:])")
    done = system.cluster.run("client", ["/usr/bin/python3", "-c", program, *map(str, numbers)], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"fill the redis at {address}: {done.stderr.strip()[-200:]}")


def answers(system, address):
    return system.run("client", "redis-cli", "-h", address, "ping").strip() == "PONG"


@contextlib.contextmanager
def beside_all_else(name, turns):
    """A peer that does not run here costs its row, not the measurement; ours may not fail."""
    try:
        yield
    except (Failed, ClusterError) as error:
        if name in ("ours", "raw criu"):
            raise
        turns.pop(name, None)
        say(f"{name} does not run here: {error}")


def start_peers(stack, node, bundle, act, kinds):
    """Name -> what is measured of it, of those that run here."""
    turns = {}
    for name, kind in kinds.items():
        with beside_all_else(name, turns):
            turns[name] = getattr(stack.enter_context(kind(node, name, PEER_ADDRESS[name], bundle)), act)
    return turns


def measure_one(system, address, act):
    """Milliseconds stopped, and what the act says. Once more when it fails, as a round does whose coordinator lost its lease to a
    machine that is too busy: only what was done is measured."""
    for left in reversed(range(TRIES)):
        try:
            with Client(system, address) as client:
                said = act()
            return client.gap_ms(), said
        except Failed as error:
            if not left:
                raise
            say(f"again: {error}")
            time.sleep(SETTLE_S)
    return None


def in_turns(system, turns, count, what):
    """Name -> list of what measure_one() says; the first of each, which warms up caches, is under (name, "first")."""
    results = {}
    for round_number in range(count + 1):
        for name, act in list(turns.items()):
            with beside_all_else(name, turns):
                result = measure_one(system, PEER_ADDRESS.get(name, ADDRESS), act)
                results.setdefault(name if round_number else (name, "first"), []).append(result)
                say(f"{what}, {name}: {result[0]:.0f} ms")
    return results


def ready(system, turns, megabytes=0):
    for address in {PEER_ADDRESS.get(name, ADDRESS) for name in turns}:
        wait_until(f"redis at {address}", lambda a=address: answers(system, a), READY_S)
        fill(system, address, range(megabytes))


# ---- ours, all of it ----


class Ours(Depsys):
    base = "dsb-checkpoint"
    name = "ours"

    def serve(self):
        """A new redis as a VE on n1; no checkpoint is made but those that are asked for."""
        if depctl(self.cluster, "n1", "ve", "show", VE, check=False):
            depctl(self.cluster, "n1", "ve", "rm", VE)
        depctl(self.cluster, "n1", "ve", "run", VE, self.bundle, "--address", f"{ADDRESS}/24", "--node", "n1", "--interval", "24h",
               "--copies", "1")
        wait_until("redis to answer", self.answering, READY_S)

    def checkpoint(self):
        """A round; (milliseconds of each stage, bytes)."""
        since_ns = time.time_ns()
        depctl(self.cluster, "n1", "--timeout", f"{LONG_S:g}s", "ckpt", "create", VE)
        names = {"dumped": "ve.dumped", "thawed": "ve.thawed", "stored": "obj.stored", "sent": "obj.replicated", "committed": "ckpt.committed"}
        found = wait_until("the events of the round", lambda: self._round(since_ns, names), READY_S)
        times = found["dumped"]["body"]["times"]
        at = {name: event["time_ns"] / 1e6 for name, event in found.items()}
        return {"freeze": times["freeze_us"] / 1e3, "criu": times["criu_us"] / 1e3, "files": times["files_us"] / 1e3,
                "chunks": at["stored"] - at["dumped"], "copies": max(0.0, at["sent"] - at["stored"]),
                "total": found["committed"]["body"]["took_ms"], "image": found["dumped"]["body"]["bytes"],
                "stored": found["stored"]["body"]["stored"], "bytes sent": found["sent"]["body"]["bytes"]}

    def _round(self, since_ns, names):
        found = {name: self.first(topic, since_ns) for name, topic in names.items()}
        return found if all(found.values()) else None

    def statistics(self):
        """What criu itself says of its last dump."""
        path = f"/proc/{self.cluster.pid('n1')}/root/run/depsys/ve/{VE}/criu/stats-dump"
        return dump_statistics(path) if os.path.exists(path) else {}


def rounds_of_size(ours, node, megabytes, count):
    """What in_turns() says, and criu's own account of our last dump."""
    ours.serve()
    raw = RawCriu(node, VE)
    with contextlib.ExitStack() as stack:
        turns = {"ours": ours.checkpoint, "raw criu": raw.checkpoint,
                 **start_peers(stack, node, ours.bundle, "checkpoint", CONTAINERS)}
        ready(ours, turns, megabytes)
        results = in_turns(ours, turns, count, f"{megabytes} MB")
        raw.end()
        return results, ours.statistics()


def ten(ours, dice):
    """Ten checkpoints, 5 % written between."""
    ours.serve()
    fill(ours, ADDRESS, range(TEN_MB))
    rows = []
    for at in range(1, 11):
        if at > 1:
            fill(ours, ADDRESS, dice.sample(range(TEN_MB), int(TEN_MB * TEN_CHANGED)))
        rows.append(measure_one(ours, ADDRESS, ours.checkpoint))
        say(f"ten, {at}: {rows[-1][0]:.0f} ms")
    return rows


# ---- in place ----


class OnlyVed(System):
    """One node with ved, asked as ckptd and migrated ask it."""
    base = "dsb-checkpoint"
    services = ("busd", "ved")

    def __enter__(self):
        arguments, sys.argv[1:] = sys.argv[1:], []  # the test takes a build directory from there
        sys.path.insert(0, os.path.join(TREE, "tests", "system"))
        import test_ved as veds  # pylint: disable=import-outside-toplevel
        sys.argv[1:] = arguments
        try:
            self.cluster.up(self.build, nodes=1, services=self.services)
            self.favour()
            self.bundle, self.epoch = make_bundle(self.directory), 1
            self.ved = veds.Ved(self.cluster, "n1")
            self.ved.ask("common.hello", timeout_s=60)
            shutil.copytree(self.bundle, self.ved.images("redis"))
            self.ved.start(VE, epoch=self.epoch, address=ADDRESS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def in_place(self):
        """Milliseconds that a dump, which ends the VE, and a restore took."""
        began = time.monotonic()
        self.ved.dump("bench", VE, epoch=self.epoch, kill=True)
        self.epoch += 1
        self.ved.restore("bench", VE, epoch=self.epoch, address=ADDRESS)
        took = (time.monotonic() - began) * 1e3
        shutil.rmtree(self.ved.images("bench"))
        return took


def in_place(system, count):
    with contextlib.ExitStack() as stack:
        kinds = {name: kind for name, kind in CONTAINERS.items() if kind.in_place_works}
        turns = {"ours": system.in_place, **start_peers(stack, Node(system.cluster), system.bundle, "in_place", kinds)}
        ready(system, turns)
        results = in_turns(system, turns, count, "in place")
    return {name: rounds for name, rounds in results.items() if name in turns}


# ---- what came out ----


def middle(values):
    return statistics.median(values) if values else None


def number(value, digits=0):
    return "-" if value is None else f"{value:.{digits}f}"


def mb(count):
    return number(count / 1e6, 1)


def show_sizes(results):
    print(f"{'one checkpoint, ms (median)':30}" + "".join(f"{f'{size} MB':>12}{'in all':>10}" for size in results))
    for name in ("ours", "raw criu", *CONTAINERS):
        cells = ""
        for rounds, _ in results.values():
            wall = [said["total"] if name == "ours" else said for _, said in rounds.get(name, [])]
            cells += f"{number(middle([gap for gap, _ in rounds.get(name, [])])):>12}{number(middle(wall)):>10}"
        print(f"{name:30}{cells}")
    print(f"\n{'ours, ms (median)':30}" + "".join(f"{f'{size} MB':>22}" for size in results))
    for stage in STAGES:
        print(f"{stage:30}" + "".join(f"{number(middle([said[stage] for _, said in rounds['ours']]), 1):>22}"
                                      for rounds, _ in results.values()))
    for what, label in CRIU_OWN.items():
        print(f"{label:30}" + "".join(f"{number(own.get(what), 1):>22}" for _, own in results.values()))
    for what in ("image", "stored", "bytes sent"):
        print(f"{what + ', MB: first, then':30}" + "".join(
            f"{mb(rounds['ours', 'first'][0][1][what]) + ', ' + mb(middle([said[what] for _, said in rounds['ours']])):>22}"
            for rounds, _ in results.values()))
    print()


def show_ten(rows):
    print(f"ten of {TEN_MB} MB, {TEN_CHANGED:.0%} written between")
    columns = (*STAGES, "total")
    print(f"{'':4}{'stopped':>10}" + "".join(f"{name:>10}" for name in columns) + f"{'image MB':>12}{'stored MB':>12}{'sent MB':>12}")
    for at, (gap, stages) in enumerate(rows, start=1):
        print(f"{at:<4}{gap:>10.0f}" + "".join(f"{stages[name]:>10.1f}" for name in columns) +
              "".join(f"{mb(stages[name]):>12}" for name in ("image", "stored", "bytes sent")))
    print()


def show_place(results):
    print(f"{'small redis, in place, ms':30}{'rounds':>8}{'gap':>8}{'least':>8}{'worst':>8}{'in all':>10}")
    for name, rounds in results.items():
        gaps = [gap for gap, _ in rounds]
        print(f"{name:30}{len(rounds):>8}{middle(gaps):>8.0f}{min(gaps):>8.0f}{max(gaps):>8.0f}{middle([t for _, t in rounds]):>10.0f}")
    print()


def goal(name, values, limits, met):
    print(f"goal {name}: {values} ({limits}) {'met' if met else 'missed'}")


def goals(sizes, place):
    if sizes:
        ratios = {size: middle([gap for gap, _ in rounds["ours"]]) / middle([took for _, took in rounds["raw criu"]])
                  for size, (rounds, _) in sizes.items()}
        goal("C1", "stopped for " + ", ".join(f"{ratio:.2f} x at {size} MB" for size, ratio in ratios.items()),
             f"<= {C1_TIMES} x raw criu dump to tmpfs", all(ratio <= C1_TIMES for ratio in ratios.values()))
    if place:
        limits = {name: times for name, times in (("crun", C6_CRUN), ("podman", C6_PODMAN)) if name in place}
        gap = {name: middle([gap for gap, _ in rounds]) for name, rounds in place.items()}
        goal("C6", ", ".join(f"{gap['ours'] / gap[name]:.2f} x {name}" for name in limits) or "no peer ran",
             ", ".join(f"<= {times} x {name}" for name, times in limits.items()),
             len(limits) == 2 and all(gap["ours"] <= times * gap[name] for name, times in limits.items()))


def measure(options, directory):
    build, sizes, rows, place = os.path.abspath(options.build), {}, [], {}
    if {"sizes", "ten"} & set(options.only):
        own = os.path.join(directory, "all")
        os.makedirs(own)
        with Ours("ours", build, own) as ours:
            for size in SIZES_MB if "sizes" in options.only else ():
                sizes[size] = rounds_of_size(ours, Node(ours.cluster), size, options.rounds)
            if "ten" in options.only:
                rows = ten(ours, random.Random(1))
    if "place" in options.only:
        own = os.path.join(directory, "place")
        os.makedirs(own)
        with OnlyVed("ours", build, own) as system:
            place = in_place(system, 2 * options.rounds + 1)
    return sizes, rows, place


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    if not set(options.only) <= set(PARTS):
        parser.error(f"--only: there is: {', '.join(PARTS)}")
    options.rounds = options.rounds or (3 if options.quick else 7)
    install()
    measured = on_ground("checkpoint", lambda directory: measure(options, directory))
    if not measured:
        return 1
    sizes, rows, place = measured
    if sizes:
        show_sizes(sizes)
    if rows:
        show_ten(rows)
    if place:
        show_place(place)
    goals(sizes, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
