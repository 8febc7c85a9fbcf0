#!/usr/bin/env python3
"""Records an arrival log (docs/detection.md) of real datagrams: record.py INTERVAL_MS COUNT LOSS_PERCENT > FILE

A sender and a receiver in two namespaces on this machine, as busy as it is; receive times are the kernel's. Needs root.
"""
import os
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
from beside.network import Network, inside  # noqa: E402

PORT = 7400
SO_TIMESTAMPNS = 35


def send(address, interval_ns, count):
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    due = time.monotonic_ns()
    for sequence in range(1, count + 1):
        time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        channel.sendto(struct.pack("!QQ", sequence, time.time_ns()), (address, PORT))
        due += interval_ns


def receive(address, interval_ns, count):
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    channel.bind((address, PORT))
    channel.settimeout(5)
    print("# depsys-arrivals 1")
    start = sequence = 0
    while sequence < count:
        try:
            datagram, ancillary, _, _ = channel.recvmsg(64, 128)
        except TimeoutError:
            break
        sequence, sent = struct.unpack("!QQ", datagram)
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        start = start or sent
        print(sent - start, seconds * 10**9 + nanoseconds - start, sequence, interval_ns, 1)


def main():
    if sys.argv[1] in ("send", "receive"):
        role = send if sys.argv[1] == "send" else receive
        role(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    interval_ns, count, loss = int(sys.argv[1]) * 10**6, int(sys.argv[2]), int(sys.argv[3])
    with Network(2) as network:
        network.lose(loss)
        arguments = [network.address("n2"), str(interval_ns), str(count)]
        command = {role: inside(network.namespace(name), sys.executable, __file__, role, *arguments)
                   for role, name in (("receive", "n2"), ("send", "n1"))}
        with subprocess.Popen(command["receive"]) as receiver:
            time.sleep(1)
            subprocess.run(command["send"], check=True)
            receiver.wait(10)


if __name__ == "__main__":
    main()
