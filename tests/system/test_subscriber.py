#!/usr/bin/env python3
"""The example subscriber prints what a daemon tells: test_subscriber.py SOURCE BUILD"""
import ast
import pathlib
import secrets
import select
import subprocess
import sys
import tempfile
import time

import zmq
from zmq.utils import z85

CODE_LINES_MAX = 10
COUNT = 50
PATIENCE_S = 60  # the longest wait for what must come


def code_lines(path):
    """Lines that hold statements: no blank lines, no text for people, no comments."""
    tree = ast.parse(path.read_text())
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node is not tree.body[0]:
            lines.add(node.lineno)
    return len(lines)


def config(directory):
    """A node of its own; keys from libzmq."""
    public, secret = (z85.decode(key) for key in zmq.curve_keypair())
    port = 20000 + 20 * secrets.randbelow(600)  # below those that the kernel gives to clients
    (directory / "node.key").write_text(secret.hex() + "\n")
    (directory / "node.key").chmod(0o640)
    path = directory / "depsys.conf"
    path.write_text(f"""[node]
name = n1
cluster = test
address = 127.0.0.1
port = {port}
group =
key = {directory}/node.key
run = {directory}/run
state = {directory}/state
[peer n1]
address = 127.0.0.1
port = {port}
key = {public.hex()}
""")
    return path


def lines_until(process, wanted, seconds):
    """Lines that begin with wanted's topic, until there are COUNT or the time is over."""
    found, end = [], time.monotonic() + seconds
    while len(found) < COUNT and time.monotonic() < end:
        if select.select([process.stdout], [], [], 0.1)[0]:
            line = process.stdout.readline()
            if line.startswith(wanted):
                found.append(line)
    return found


def main():
    source, build = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    example = source / "docs/examples/subscriber.py"
    assert code_lines(example) <= CODE_LINES_MAX, f"{example}: {code_lines(example)} lines of code"
    processes = []
    with tempfile.TemporaryDirectory(prefix="dst-subscriber-") as name:
        directory = pathlib.Path(name)
        ledger = directory / "ledger"
        ledger.write_bytes(bytes(16384))
        try:
            processes.append(subprocess.Popen([build / "busd/busd", "--config", config(directory), "--user", "root"]))
            subscriber = subprocess.Popen([sys.executable, example, directory / "run"], stdout=subprocess.PIPE,
                                          text=True)
            processes.append(subscriber)
            assert subscriber.stdout.readline().startswith("bus.tick busd "), "a tick when it subscribes"
            subprocess.run([build / "tests/system/bus-publisher", directory / "run", "1", "0", ledger, str(COUNT)],
                           check=True, timeout=PATIENCE_S)
            lines = lines_until(subscriber, "test.count", PATIENCE_S)
            assert len(lines) == COUNT, f"{len(lines)} lines"
            assert lines[-1].startswith("test.count test {'run': 1, 'n': 50, "), lines[-1]
        finally:
            for process in processes:
                process.kill()
                process.wait()
    print(f"ok: {COUNT} events printed by {code_lines(example)} lines of code")


if __name__ == "__main__":
    main()
