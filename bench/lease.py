#!/usr/bin/env python3
"""Goals A5 and A6: what is shorter than a lease moves nothing, and a lease ends when it ends.

    bench/lease.py BUILD [--quick] [--only cuts,gate] [--rounds N] [--seconds S]

Cuts: three nodes with a redis, whose client increments a counter. Again and again, for 1.5 s, the cable of a node is out, or all that
runs in it stands still (its control group is frozen). Afterwards the same processes must go on under the same epoch and never count
back; the pause is the longest time between two answers. `its node` has the service, `coordinator` decides where it runs.

Gate: all daemons of the service's node get SIGSTOP, and somebody asks the service's address some thousand times a second, beyond the
deadline that ved was given. What counts is when the kernel received the last packet from there, as it says itself. Once with the fence
by BPF, once with nf_tables. Needs root, and goes before other work on the machine. A quarter of an hour; --quick: a fifth.
"""
import argparse
import collections
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from beside.failover import NODES, READY_S, VE, Depsys, Failed, clusters, wait_until  # noqa: E402
from beside.ground import on_ground  # noqa: E402
from beside.node import descendants, name_of  # noqa: E402
from scenario import ADDRESS, Record, depctl, start_client  # noqa: E402

CUT_S = 1.5
AFTER_S = 6.0  # what was decided meanwhile has been carried out by then
CALM_S = 1.0
KINDS = {  # what is done -> to which node, and how often of fifty; the service is on it, or on another one
    "cut, its node": ("cut", True, False, 20), "cut, coordinator": ("cut", False, True, 15), "cut, its node, coordinator": ("cut", True, True, 15),
    "pause, its node": ("pause", True, False, 10), "pause, coordinator": ("pause", False, True, 10),
    "pause, its node, coordinator": ("pause", True, True, 10)}
GATE_ROUNDS = 50
GATE_LIMIT_MS = 5.0
DEADLINE_NS = 500000000
BEFORE_NS = 100000000  # so long before it the daemons stand still, or the round does not count
BEYOND_S = 0.2
SILENT_MS = 50.0  # who was silent for so long before the deadline shows nothing: its gate was shut for a checkpoint when ved was stopped

# Sends echo requests as fast as it can; for each line that it reads it prints the times (CLOCK_BOOTTIME) of the last packets from there,
# and of the last requests.
PROBE = """
import collections, json, select, socket, struct, sys, threading, time
source = socket.inet_aton(sys.argv[1])
replies, asked = collections.deque(maxlen=50), collections.deque(maxlen=20000)
tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
tap.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.time_ns()
def listen():
    while True:
        packet, ancillary, _, _ = tap.recvmsg(64, 64)
        if packet[12:16] == source:
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            replies.append(seconds * 10**9 + nanoseconds + boot)
threading.Thread(target=listen, daemon=True).start()
out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
echo = struct.pack("!BBHHH", 8, 0, 0xffff - 0x0800 - 1, 1, 0)
while True:
    for _ in range(50):
        out.sendto(echo, (sys.argv[1], 0))
        asked.append(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        time.sleep(0.0001)
    if select.select([sys.stdin], [], [], 0)[0]:
        if not sys.stdin.readline():
            break
        print(json.dumps([list(replies), list(asked)]), flush=True)
"""


def named(pid, name):
    """Whether a process, which may have ended, is called so."""
    try:
        return name(name_of(pid))
    except OSError:
        return False


def say(text):
    print(f"lease: {text}", file=sys.stderr, flush=True)


class Leases(Depsys):
    base = "dsb-lease"

    def fact(self):
        return next((ve for ve in depctl(self.cluster, self.alive()[0], "ve", "ls") if ve["name"] == VE), None)

    def processes(self, node):
        """Those of the service, each with its start."""
        return {(pid, clusters.start_time(pid)) for pid in descendants(self.cluster.pid(node)) if named(pid, lambda name: name.startswith("redis"))}

    def daemons(self, node):
        return [pid for pid in descendants(self.cluster.pid(node)) if named(pid, clusters.SERVICES.__contains__)]

    def settle(self, on_coordinator):
        """Until all is well, and the service on the coordinator's node, or on another; that of the coordinator, and of the service."""
        self.wait_ready()
        coordinator = wait_until("a coordinator", self.coordinator, READY_S)
        holder = self.holder()
        if not holder or (holder == coordinator) != on_coordinator:
            self.place(coordinator if on_coordinator else next(node for node in NODES if node != coordinator))
            holder = self.holder()
        return coordinator, holder

    def freeze(self, node, frozen):
        clusters.write(os.path.join(self.cluster.groups(node)[0], "cgroup.freeze"), "1" if frozen else "0")

    def disturb(self, action, node, seconds):
        if action == "cut":
            self.cluster.cut(node)
        else:
            self.freeze(node, True)
        time.sleep(seconds)
        if action == "cut":
            self.cluster.heal(node)
        else:
            self.freeze(node, False)

    def lapses(self, since_ns):
        return sum(event["time_ns"] >= since_ns for stream in self.events.values() for event in stream.all("ve.lapsed", ve=VE))


# ---- cuts and pauses ----


def longest_gap_s(lines, since_ns):
    times = [at for at, _ in lines if at >= since_ns - 10**9]
    return max(b - a for a, b in zip(times, times[1:])) / 1e9


def disturbance(system, kind, dice, seconds):
    """One of a kind: how long the pause was, and what was not the same afterwards."""
    action, home, to_coordinator, _ = KINDS[kind]
    coordinator, holder = system.settle(home and to_coordinator)
    victim = coordinator if to_coordinator else holder
    before, processes, nodes = system.fact(), system.processes(holder), {node: system.cluster.pid(node) for node in NODES}
    record = Record(os.path.join(system.directory, "record"))
    if os.path.exists(record.path):
        os.unlink(record.path)
    client = start_client(system.cluster, record.path)
    try:
        wait_until("increments", lambda: os.path.exists(record.path) and len(record.lines()) > 50, READY_S)
        time.sleep(dice.uniform(CALM_S, CALM_S + 0.5))
        began_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        system.disturb(action, victim, seconds)
        time.sleep(AFTER_S)
        wait_until("answers", lambda: record.lines()[-1][0] > began_ns + seconds * 1e9, READY_S)
    finally:
        client.terminate()
        client.wait()
    after = system.fact()
    values = [value for _, value in record.lines()]
    result = {"restarted": after["epoch"] != before["epoch"] or not processes or system.processes(holder) != processes,
              "back": values != sorted(set(values)), "rebooted": {node: system.cluster.pid(node) for node in NODES} != nodes,
              "pause": longest_gap_s(record.lines(), began_ns), "lapses": system.lapses(wall_ns),
              "dead": bool(system.first("member.dead", wall_ns, node=victim)), "elected": bool(system.first("coord.elected", wall_ns, held=True))}
    say(f"{kind} {victim}: {result['pause']:.2f} s" +
        "".join(f", {what}" for what in ("restarted", "back", "rebooted", "lapses", "dead", "elected") if result[what]) +
        (f" ({after['reason']})" if result["restarted"] else ""))
    return result


def cuts(system, options):
    dice, results = random.Random(1), {}
    for kind, (_, _, _, share) in KINDS.items():
        count = max(1, round(share * options.rounds / 50))
        results[kind] = [disturbance(system, kind, dice, options.seconds) for _ in range(count)]
    return results


# ---- the gate ----


def ask_ved(system, node, request, **body):
    """One request to ved, over its socket as the machine sees it; the decoded answer."""
    import msgpack
    import zmq
    with zmq.Context.instance().socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(f"ipc:///proc/{system.cluster.pid(node)}/root/run/depsys/ved.rpc")
        socket.send_multipart([msgpack.packb({"n": request, "i": 1, "t": 10000}), msgpack.packb(body)])
        if not socket.poll(10000):
            raise Failed(f"{request}: no answer from {node}")
        header, reply = (msgpack.unpackb(frame) for frame in socket.recv_multipart()[-2:])
    if header.get("s", 0):
        raise Failed(f"{request}: {header.get('e', '')}")
    return reply


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def send_all(pids, number):
    for pid in pids:
        os.kill(pid, number)


class Prober:
    def __init__(self, system):
        self.process = system.cluster.popen("client", ["/usr/bin/python3", "-c", PROBE, ADDRESS], text=True,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def told(self):
        """(times of the last packets from the service, times of the last requests)"""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()


def closing(system, prober, fence):
    """Milliseconds from the deadline to the last packet; None: the round shows nothing."""
    holder = system.holder()
    wait_until("answers before the deadline", lambda: (prober.told()[0] or [0])[-1] > now_ns() - 10**8, READY_S)
    epoch, pids = system.fact()["epoch"], system.daemons(holder)
    migrated = [pid for pid in pids if name_of(pid) == "migrated"]
    send_all(migrated, signal.SIGSTOP)  # it would renew
    try:
        until = now_ns() + DEADLINE_NS
        ask_ved(system, holder, "ved.arm", name=VE, epoch=epoch, until_ns=until)
        send_all(pids, signal.SIGSTOP)
        in_time = now_ns() < until - BEFORE_NS
        time.sleep(max(0.0, (until - now_ns()) / 1e9) + BEYOND_S)
        replies, asked = prober.told()
    finally:
        send_all(pids, signal.SIGCONT)
    near = [at for at in asked if abs(at - until) < 20000000]
    if not in_time or len(near) < 2:
        return None
    late_ms, step_ms = (replies[-1] - until) / 1e6, max(b - a for a, b in zip(near, near[1:])) / 1e6
    if late_ms < -SILENT_MS:
        return None
    say(f"gate, {fence}: last packet {late_ms:+.2f} ms, requests at most {step_ms:.2f} ms apart")
    return late_ms


def gate(system, fence, rounds):
    system.settle(False)
    kind = next(ve["fence"] for ve in ask_ved(system, system.holder(), "ved.list")["ves"] if ve["name"] == VE)
    prober, found = Prober(system), []
    try:
        while len(found) < rounds:
            late_ms = closing(system, prober, fence)
            found += [late_ms] if late_ms is not None else []
    finally:
        prober.close()
    return kind, found


# ---- what came out ----


def show(results, gates):
    if results:
        print(f"{'':36}{'rounds':>8}{'restarts':>10}{'pause p50 s':>13}{'max':>7}{'frozen':>8}{'verdicts':>10}{'elections':>11}")
    for kind, rounds in results.items():
        pauses = [r["pause"] for r in rounds]
        print(f"{kind:36}{len(rounds):>8}{sum(r['restarted'] for r in rounds):>10}{statistics.median(pauses):>13.2f}{max(pauses):>7.2f}"
              f"{sum(r['lapses'] > 0 for r in rounds):>8}{sum(r['dead'] for r in rounds):>10}{sum(r['elected'] for r in rounds):>11}")
    for fence, late in gates.items():
        print(f"{'last packet after the deadline, ' + fence:36}{len(late):>8}  ms: earliest {min(late):+.2f}, p50 {statistics.median(late):+.2f}, "
              f"latest {max(late):+.2f}")
    print()


def goals(results, gates, options):
    if results:
        rounds = [r for some in results.values() for r in some]
        count = collections.Counter(what for r in rounds for what in ("restarted", "back", "rebooted") if r[what])
        pauses = [r["pause"] for r in rounds]
        print(f"goal A5: {count['restarted']} restarts, {count['rebooted']} reboots, {count['back']} counts back in {len(rounds)} cuts and pauses "
              f"of {options.seconds:g} s; pause p50 {statistics.median(pauses):.2f} s, max {max(pauses):.2f} s (0 restarts, 0 reboots, only a pause) "
              f"{'missed' if count else 'met'}")
    if gates:
        latest = {fence: max(late) for fence, late in gates.items()}
        print("goal A6: " + ", ".join(f"{fence} {ms:.2f} ms after" for fence, ms in latest.items()) +
              f" the deadline, latest of {min(map(len, gates.values()))} each (<= {GATE_LIMIT_MS:g} ms) "
              f"{'met' if max(latest.values()) <= GATE_LIMIT_MS else 'missed'}")


def measure(options, directory, build):
    results, gates = {}, {}
    for fence in ("bpf", "nft"):
        own = os.path.join(directory, fence)
        os.makedirs(own)
        if fence == "nft" and "gate" not in options.only:
            break
        with Leases("ours", build, own, f"[ved]\nfence = {fence}\n") as system:
            if fence == "bpf" and "cuts" in options.only:
                results = cuts(system, options)
            if "gate" in options.only:
                kind, late = gate(system, fence, options.gate_rounds)
                gates[kind] = late
    return results, gates


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=lambda text: text.split(","), default=["cuts", "gate"])
    parser.add_argument("--rounds", type=int, help="cuts; there are six pauses for each ten")
    parser.add_argument("--seconds", type=float, default=CUT_S, help="that one lasts")
    options = parser.parse_args()
    if not set(options.only) <= {"cuts", "gate"}:
        parser.error("--only: there is: cuts, gate")
    options.gate_rounds = GATE_ROUNDS // 5 if options.quick else GATE_ROUNDS
    options.rounds = options.rounds or (10 if options.quick else 50)
    measured = on_ground("lease", lambda directory: measure(options, directory, os.path.abspath(options.build)))
    if not measured:
        return 1
    results, gates = measured
    show(results, gates)
    goals(results, gates, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
