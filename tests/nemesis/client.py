#!/usr/bin/python3
"""client.py NAME ADDRESS PORT PAUSE_MS: asks the counter again and again, and prints what it did, with the monotonic clock.

    i NUMBER NS                               request NUMBER was about to be sent
    r NUMBER NS COUNT COPY                    an answer to it had been received
    g NS TEXT                                 something else was received

An answer is awaited for PATIENCE_S, then the next request is sent; one that comes later is printed all the same. A request without
an answer may have been carried out or not. It ends at the end of its input.
"""
import select
import socket
import sys
import time

PATIENCE_S = 0.25


def receive(sock, name, asked):
    """Prints what has come; the number that it answers, or None."""
    data, _ = sock.recvfrom(512)
    now = time.monotonic_ns()
    words = data.decode("ascii", "replace").split()
    if len(words) == 4 and words[0] == name and all(word.isdigit() for word in words[1:]) and int(words[1]) <= asked:
        print("r", words[1], now, *words[2:], flush=True)
        return int(words[1])
    print("g", now, *words, flush=True)
    return None


def ask(sock, address, name, number):
    print("i", number, time.monotonic_ns(), flush=True)
    try:
        sock.sendto(f"{name} {number}".encode(), address)
    except OSError:  # no way there at present: it stays without an answer
        pass
    deadline = time.monotonic() + PATIENCE_S
    while (left := deadline - time.monotonic()) > 0:
        ready = select.select([sock, sys.stdin], [], [], left)[0]
        if sys.stdin in ready:
            sys.exit(0)
        if ready and receive(sock, name, number) == number:
            return


def main():
    name, address, port, pause_ms = sys.argv[1:]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    number = 0
    while True:
        number += 1
        ask(sock, (address, int(port)), name, number)
        time.sleep(int(pause_ms) / 1000)


if __name__ == "__main__":
    main()
