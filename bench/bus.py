#!/usr/bin/env python3
"""Goals B1 and B2: kills under load, and the bus beside bare ZeroMQ.  Usage: bench/bus.py BUILD"""
import pathlib
import re
import subprocess
import sys

KILLS = 100
GAP_LIMIT_MS = 300


def kills(build, busd, publisher):
    """The system test's own hundred kills; it ends with a line of figures."""
    test = subprocess.run([build / "tests/system/test-bus", busd, publisher, str(KILLS), "kills"],
                          stdout=subprocess.PIPE, text=True)
    figures = re.search(r"# B1: kills (\d+), events acknowledged (\d+), received (\d+), lost (\d+), repeated (\d+), "
                        r"longest gap (\d+) ms \(busd killed\), (\d+) ms", test.stdout)
    if test.returncode != 0 or not figures:
        print(test.stdout)
        return f"goal B1: failed (0 lost, longest gap <= {GAP_LIMIT_MS} ms) missed"
    count, acked, received, lost, repeated, busd_gap, publisher_gap = map(int, figures.groups())
    print(f"{count} kills under 2,000 events/s: {acked} acknowledged, {received} received, {lost} lost, {repeated} "
          f"repeated\nlongest gap: {busd_gap} ms when busd is killed, {publisher_gap} ms when the publisher is\n")
    gap = max(busd_gap, publisher_gap)
    met = lost == 0 and repeated == 0 and gap <= GAP_LIMIT_MS
    return (f"goal B1: {lost} lost, longest gap {gap} ms (0 lost, <= {GAP_LIMIT_MS} ms) "
            f"{'met' if met else 'missed'}")


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    busd, publisher = build / "busd/busd", build / "tests/system/bus-publisher"
    goal = kills(build, busd, publisher)
    result = subprocess.run([build / "bench/bus-latency", busd, publisher])
    print(goal)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
