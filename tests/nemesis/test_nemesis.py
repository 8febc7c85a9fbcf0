#!/usr/bin/env python3
"""The service counts while faults of every kind are made; then the checks judge what clients saw. See README.md.

usage: test_nemesis.py [--faults N] [--seed SEED] [--longest S] [--goals] BUILD_DIR

At the end the fence of a node is taken away from outside, and the node's daemons and cable with it: now the checks must find two copies.
"""
import argparse
import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import testbed  # noqa: E402
from testbed import ADDRESS, COUNTER_PORT, NODES, TREE, VE, Testbed, Watch  # noqa: E402
from checks import Heal, check, single_runner  # noqa: E402
from cluster import BUG, ClusterError, log_tail, sweep  # noqa: E402
from nemesis import Nemesis, plan  # noqa: E402
from scenario import Failed, depctl, keep_logs, wait_ready, wait_until  # noqa: E402

BASE = "dst-nemesis"
LOG_LINES = 40
LEASE_S = 3.0  # longer than any
FOUND_MAX = 10


class Run:
    def __init__(self, cluster, directory, options):
        self.cluster, self.directory, self.options = cluster, directory, options
        self.watch, self.nemesis = Watch(cluster), None
        self.kinds = collections.Counter()
        self.slowest_s = 0.0

    def up(self):
        self.cluster.up(self.options.build, nodes=len(NODES), config_extra=testbed.CONFIGURATION)
        wait_ready(self.cluster)
        bundle = os.path.join(self.directory, "bundle")
        program = os.path.join(self.options.build, "tests", "nemesis", "counter")
        subprocess.run([os.path.join(TREE, "tools", "bundle"), "--out", bundle, "--program", program, "--", str(COUNTER_PORT)], check=True)
        depctl(self.cluster, "n1", "ve", "run", VE, bundle, "--address", f"{ADDRESS}/24", "--node", "n1", "--interval", "1s", "--copies", "1")
        self.watch.begin()
        self.watch.wait_answer("of the service")
        wait_until("a committed checkpoint", lambda: self.watch.history.commits, testbed.PATIENCE_S)
        self.nemesis = Nemesis(self.cluster, self.watch, self.options.seed, self.options.longest)

    def fault(self, number, fault):
        began = time.monotonic()
        said = self.nemesis.strike(number, fault)
        self.kinds[fault.action] += 1
        healed = time.monotonic_ns()
        try:
            self.watch.wait_answer(f"after {said}")
        finally:
            now = time.monotonic_ns()
            self.watch.history.heals.append(Heal(healed, now, said))
            self.slowest_s = max(self.slowest_s, (now - healed) / 1e9)
            print(f"{number}: {said}; answers {(now - healed) / 1e9:.1f} s later, {time.monotonic() - began:.1f} s in all", flush=True)
        time.sleep(self.nemesis.chance.uniform(0.2, 1.2))

    def faults(self):
        """Stops at the first violation: what is there then tells more than what comes later."""
        for number, fault in enumerate(plan(self.options.seed, self.options.faults), start=1):
            self.fault(number, fault)
            if number % 10 == 0:
                self.judge()
        commits = len(self.watch.history.commits)
        wait_until("a checkpoint after all faults", lambda: len(self.watch.history.commits) > commits, testbed.PATIENCE_S)
        self.judge()

    def judge(self):
        found = check(self.watch.told())
        if found:
            raise Failed(f"{len(found)} violations\n" + "\n".join(found[:FOUND_MAX]))
        bugs = self.cluster.log_lines(BUG)
        if bugs:
            raise Failed(f"a daemon found a bug of its own: {bugs[:3]}")

    def tell(self):
        history = self.watch.told()
        copies = {answer.copy for answer in history.answers}
        epochs = {epoch for _, epoch in history.epochs.values()}
        failovers = len(epochs) - 1
        print("faults: " + ", ".join(f"{action} {count}" for action, count in sorted(self.kinds.items())))
        print(f"{len(history.invocations)} requests, {len(history.answers)} answers of {len(copies)} copies, {len(history.epochs)} of a known "
              f"epoch; {len(history.commits)} of {self.watch.marks.asked} checkpoints committed; slowest return {self.slowest_s:.1f} s")
        if self.options.goals:
            faults = sum(self.kinds.values())
            print(f"goal A1: 0 double runs in {faults} faults (0 in 500) {'met' if faults >= 500 else 'met so far'}")
            print(f"goal A4: 0 of {failovers} new epochs older than the last committed checkpoint (0) met")

    # -- the control --

    def weaken(self):
        """The daemons of the VE's node stand still, its fence is gone, its cable is out: its old copy goes on answering those on the
        node, and nothing is there to keep it from that."""
        node = wait_until("a copy that runs while its daemons stand still", self.stop_around_the_copy, testbed.PATIENCE_S)
        self.nemesis.cable(node)
        wait_until("the checks to find the copy without a fence", lambda: single_runner(self.watch.told()), testbed.PATIENCE_S)
        print(f"found, as it must be: {single_runner(self.watch.told())[0]}", flush=True)
        self.nemesis.heal()

    def stop_around_the_copy(self):
        """The node, when the copy answers there longer than its lease; None when it was in the middle of a checkpoint, or elsewhere."""
        node = self.watch.home()
        self.nemesis.stop_daemons(node)
        self.unfence(node)
        time.sleep(LEASE_S)
        asked = time.monotonic_ns()
        try:
            return wait_until("the copy to answer", lambda: self.watch.answered_since(asked, self.watch.clients[node].name), LEASE_S) and node
        except Failed:
            self.nemesis.heal()
            return None

    def unfence(self, node):
        """Takes away what is pinned and what hangs on the interfaces, as no daemon would."""
        script = ("for device in /sys/class/net/*; do tc qdisc del dev \"${device##*/}\" clsact; done 2>/dev/null\n"
                  f"rm -rf /run/depsys/bpf/{VE}/*\n")
        if self.cluster.run(node, ["sh", "-c", script]).returncode != 0:
            raise Failed(f"the fence on {node} could not be taken away")

    def keep(self):
        kept = keep_logs(self.directory, f"depsys-nemesis-failed-{self.options.seed}")
        os.makedirs(kept, exist_ok=True)
        for stream in [*self.watch.closed, *self.watch.streams.values()]:
            with open(os.path.join(kept, f"{stream.node}.events"), "a", encoding="utf-8") as file:
                file.writelines(json.dumps(event) + "\n" for event in list(stream.list))
        with open(os.path.join(kept, "history"), "w", encoding="utf-8") as file:
            history = self.watch.history
            file.writelines(f"{history.invocations.get((a.client, a.number))} {a.received} {a.client} {a.number} {a.count} {a.copy} "
                            f"{history.epochs.get(a.copy)}\n" for a in history.answers)
            file.writelines(f"{commit}\n" for commit in history.commits)
        return kept


def run(options):
    sweep(BASE)
    directory = tempfile.mkdtemp(prefix=f"{BASE}-{os.getpid()}-")
    Testbed.library = os.path.join(options.build, "tests", "nemesis", "faults.so")
    cluster = Testbed(f"{BASE}-{os.getpid()}", os.path.join(directory, "state"))
    nemesis = Run(cluster, directory, options)
    print(f"seed {options.seed}, {options.faults} faults", flush=True)
    try:
        nemesis.up()
        nemesis.faults()
        nemesis.tell()
        nemesis.weaken()
        return 0
    except (Failed, ClusterError, OSError, subprocess.CalledProcessError) as error:
        print(*log_tail(LOG_LINES), sep="\n")
        print(f"FAILED: {error}\nseed {options.seed}; logs, events and history are in {nemesis.keep()}", flush=True)
        return 1
    finally:
        nemesis.watch.close()
        cluster.down()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=4.0, help="seconds that a fault lasts at most")
    parser.add_argument("--goals", action="store_true", help="print the lines of goals A1 and A4")
    parser.add_argument("build", metavar="BUILD_DIR", type=os.path.abspath)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
