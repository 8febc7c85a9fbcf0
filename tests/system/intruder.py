#!/usr/bin/env python3
"""Bad input for the sockets and ports of a node: what test_badinput.py sends, and the part of it that must run inside a node.

    intruder.py capture ADDRESS PORT COUNT            prints datagrams that arrive there (hex, one a line), off the wire
    intruder.py udp ADDRESS PORT SEED                 random ones; those of standard input again, cut and with a bit flipped
    intruder.py tcp ADDRESS PORT SEED                 random bytes, half greetings, impossible lengths, silence
    intruder.py http ADDRESS PORT SEED                requests that no web server should carry out; prints what came of them
    intruder.py join ADDRESS PORT SERVERKEY SEED      questions at the port for strangers, good ones and bad ones; prints answers
    intruder.py forge ADDRESS PORT SERVERKEY SECRET   records of nodes that nobody signed, from a node; prints answers
    intruder.py curve ADDRESS PORT SERVERKEY [SECRET] a ZeroMQ caller, with a key of its own or that of a node; prints answers

Everything comes from the seed, so a failure can be had again.
"""
import collections
import concurrent.futures
import json
import os
import random
import socket
import struct
import sys
import time

import msgpack
import zmq
from zmq.utils import z85

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
# The fields of a sealed datagram's header behind the first byte, by that byte: sender, boot, token, counter (common/seal.c).
FULL_HEADER = ((1, 8), (9, 8), (17, 8), (25, 8))
SEALED_HEADERS = {0x21: FULL_HEADER, 0x22: FULL_HEADER, 0x23: ((1, 2), (3, 4), (7, 2))}
DATAGRAM_MAX = 1200
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00"  # of ZMTP 3.0
INVALID, DENIED = 2, 5
# Their bodies are empty and not looked at: to send them is to have them done.
OBEYED = {"common.stop", "gossipd.leave"}


# ---- messages ----


def samples():
    """(name, body) of a good message of every kind that has fields, from the golden vectors."""
    for daemon in sorted(os.listdir(os.path.join(TREE, "proto", "golden"))):
        with open(os.path.join(TREE, "proto", "golden", daemon), encoding="ascii") as file:
            for name, vectors in json.load(file).items():
                if name not in OBEYED:
                    yield name, bytes.fromhex(vectors[-1])


def request(name, body, number=1):
    return [msgpack.packb({"n": name, "i": number, "t": 2000}), body]


def cut(body, dice, count=6):
    """Beginnings of a message that has fields; none of them is one."""
    return [body[:size] for size in {0, 1, len(body) - 1, *(dice.randrange(len(body)) for _ in range(count))}]


def mistyped(body):
    """Each field in turn with a value of another type: no field is a list and a number; a record skips keys that it does not know."""
    fields = msgpack.unpackb(body)
    for key, value in fields.items():
        for wrong in (7, -7.5e300, "x") if isinstance(value, (list, dict)) else ([[]], {"x": {"x": 1}}):
            yield msgpack.packb({**fields, key: wrong})


def invalid_requests(dice):
    """Requests with a good header that every daemon must answer with INVALID."""
    for name, body in samples():
        if not msgpack.unpackb(body):
            continue
        for bad in (*cut(body, dice), *mistyped(body), body + b"\x00", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 500):
            yield request(name, bad)
    for name in ("", "no.such", "n" * 63, "common.stats_reply", "%s%n", "\x1b[2J\n\n"):
        yield request(name, b"\x80")


def unreadable_messages(dice):
    """Messages whose frames or header are wrong: nobody can be answered."""
    name, body = "common.hello", b"\x80"
    header = msgpack.packb({"n": name, "i": 1, "t": 2000})
    for _ in range(300):
        yield [dice.randbytes(dice.choice((0, 1, 7, 40, 300, 3000))) for _ in range(dice.randrange(1, 12))]
    for count in (1, 3, 4, 8, 9, 500):
        yield [header] * count
    for size in range(len(header)):
        yield [header[:size], body]
    for wrong in ({}, {"n": 1, "i": 1, "t": 1}, {"n": name, "i": -1, "t": 1}, {"n": name, "i": "1", "t": 1},
                  {"n": name, "i": 1, "t": 2 ** 63}, {"n": "n" * 64, "i": 1, "t": 1}, {"n": name, "i": 1}, [name, 1, 1], None):
        yield [msgpack.packb(wrong), body]


def oversized_messages(most=64 << 20):
    for size in (size for size in ((1 << 20) + 1, 2 << 20, 16 << 20, 64 << 20) if size <= most):
        yield [b"\x00" * size]
        yield request("common.hello", b"\xc6" + struct.pack(">I", size) + b"\x00" * size)


def bad_events(dice):
    """For busd.in: topic, header, body."""
    good = {"node": "n1", "source": "intruder", "boot": 1, "number": 1, "wall_ns": 1}
    topic, header, body = b"test.event", msgpack.packb(good), b"\x80"
    for wrong in (b"", b"\x00", b"Upper Case", b"t" * 64, b"a\n", dice.randbytes(30)):
        yield [wrong, header, body]
    for part in cut(header, dice, 20):
        yield [topic, part, body]
    for part in mistyped(header):
        yield [topic, part, body]
    for key in ("source", "boot", "number"):
        yield [topic, msgpack.packb({**good, key: "" if key == "source" else 0}), body]
    for wrong in (b"", b"\x90", b"\x81\x01\x01", b"\x81\xa1x", b"\xdf\xff\xff\xff\xff", b"\x81\xa1x" + b"\x91" * 5000, bytes(33000)):
        yield [topic, header, wrong]


def bad_subscriptions(dice):
    """For busd.pub."""
    for _ in range(200):
        yield [dice.choice((b"", b"\x02", b"\xff")) + dice.randbytes(dice.randrange(1, 100))]
    yield [b"\x01"] * 3


# ---- streams and datagrams ----


def bad_streams(dice):
    """Bytes for a port or socket that expects ZMTP, TLS or the bulk protocol."""
    for size in (1, 7, 10, 64, 1000, 100000):
        yield dice.randbytes(size)
    for mechanism in (b"NULL", b"PLAIN", b"CURVE", b"NONSENSE"):
        greeting = GREETING[:11] + b"\x00" + mechanism.ljust(20, b"\x00") + bytes(32)
        yield greeting[:dice.randrange(1, 64)]
        yield greeting
        yield greeting + dice.randbytes(500)
        yield greeting + b"\x06" + b"\xff" * 8  # a command of 2^64-1 bytes
        yield greeting + b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00" + b"\x02\x7f" + b"\xff" * 7
    yield b"\x16\x03\x01\xff\xff\x01\x00\xff\xfb" + dice.randbytes(2000)  # a TLS hello that promises more
    yield b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"
    yield b"GDNBULK1" + dice.randbytes(8)
    yield b"GDNBULK1" + dice.randbytes(16) + b"\xff" * 5000


def header_size(datagram):
    return sum(SEALED_HEADERS[datagram[0]][-1])


def forged_header(dice, datagram):
    """That of a good one with one field changed."""
    at, size = dice.choice(SEALED_HEADERS[datagram[0]])
    return datagram[:at] + dice.randbytes(size) + datagram[at + size:header_size(datagram)]


def bad_datagrams(dice, captured):
    """Random ones, and captured ones damaged and once more as they were."""
    for _ in range(1500):
        yield dice.randbytes(dice.randrange(0, DATAGRAM_MAX + 300))
        yield forged_header(dice, dice.choice(captured)) + dice.randbytes(dice.randrange(0, DATAGRAM_MAX))
    for datagram in captured:
        yield from (datagram[:size] for size in range(0, len(datagram), 7))
        damaged = bytearray(datagram)
        damaged[dice.randrange(header_size(datagram), len(damaged))] ^= 1 << dice.randrange(8)
        yield bytes(damaged)
        yield from [datagram] * 3


def bad_http(dice):
    """Requests for webd: wrong in their form, their size, or their body."""
    def request(line="POST /v1/detection/registrations HTTP/1.1", headers="Host: localhost\r\nContent-Type: application/json\r\n", body=b""):
        return f"{line}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
    host = "Host: localhost\r\n"
    for line in ("GET", "GET /", "GET / HTTP/9.9", "GET  / HTTP/1.1", "\x00 / HTTP/1.1", "GET /" + "a" * 50000 + " HTTP/1.1",
                 "GET /v1/detection/levels?" + "node=" * 2000 + " HTTP/1.1", "GET /v1/../../etc/passwd HTTP/1.1",
                 "GET /v1/detection/registrations/%00%2f/events HTTP/1.1", "TRACE /v1/detection/levels HTTP/1.1", "BREW / HTTP/1.1"):
        yield request(line)
    for headers in ("", "Host:\r\n", "Host: evil.example\r\n", host * 2 + "Origin: http://evil.example\r\n", host + "X: " + "y" * 60000 + "\r\n",
                    host + "".join(f"X{number}: y\r\n" for number in range(5000)), host + "Transfer-Encoding: chunked\r\n",
                    host + "Content-Length: 99999999999999999999\r\n", host + "Content-Length: -1\r\n", host + " folded\r\n", ": x\r\n"):
        yield request(headers=headers, body=b"{}")
    for body in (b"", b"{", b"[" * 4000, b'{"raise":' * 400, b'{"period_ms":1e400}', b"\xff" * 100, b'{"node":"\x00"}', b"x" * 5000, bytes(1 << 20)):
        yield request(body=body)
    for _ in range(50):
        yield request(body=dice.randbytes(dice.randrange(1, 4000)))


def send_streams(connect, streams):
    """Sends each over a connection of its own, eight at once, and waits a moment for the other end to hang up."""
    def send(data):
        try:
            with connect() as connected:
                connected.settimeout(0.2)
                connected.sendall(data)
                while connected.recv(4096):
                    pass
        except OSError:
            pass  # refused, cut, or still waiting for more
    with concurrent.futures.ThreadPoolExecutor(8) as senders:
        list(senders.map(send, streams))


# ---- callers ----


def caller(endpoint, kind=zmq.DEALER):
    made = zmq.Context.instance().socket(kind)
    made.linger = 500
    made.sndhwm = made.rcvhwm = 0
    if endpoint:
        made.connect(endpoint)
    return made


def send_all(target, messages):
    for frames in messages:
        target.send_multipart(frames)


def ask_all(target, requests, wait_s=60):
    """Sends requests, each under a number of its own; returns (request, answer's status or None) pairs."""
    pending, answered = {}, []
    deadline = time.monotonic() + wait_s
    for number, (header, body) in enumerate(requests, start=1):
        pending[number] = msgpack.unpackb(header)["n"], body
        target.send_multipart([msgpack.packb({**msgpack.unpackb(header), "i": number}), body])
        take_answers(target, pending, answered, 60000 if len(pending) > 200 else 0, 100)
    while pending and time.monotonic() < deadline and take_answers(target, pending, answered, 20000, 0):
        pass
    return answered + [(asked, None) for asked in pending.values()]


def take_answers(target, pending, answered, wait_ms, down_to):
    """False when nothing came in time."""
    while pending and target.poll(wait_ms):
        header = msgpack.unpackb(target.recv_multipart()[0])
        if not header.get("m"):
            answered.append((pending.pop(header["i"]), header.get("s", 0)))
        if len(pending) <= down_to:
            wait_ms = 0
        if not wait_ms and not target.poll(0):
            return True
    return not pending


# ---- inside a node ----


def capture(address, port, count):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
        wire.settimeout(60)
        seen = set()
        while len(seen) < count:
            frame = wire.recv(2048)
            if len(frame) < 42 or struct.unpack("!H", frame[20:22])[0] & 0x1fff:
                continue  # the rest of a datagram that was too long for one packet has no ports
            if frame[23] == 17 and frame[30:34] == socket.inet_aton(address) and struct.unpack("!H", frame[36:38])[0] == port:
                datagram = frame[42:14 + struct.unpack("!H", frame[16:18])[0]]
                if datagram not in seen:
                    seen.add(datagram)
                    print(datagram.hex(), flush=True)


def flood_udp(address, port, seed):
    captured = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number, datagram in enumerate(bad_datagrams(random.Random(seed), captured)):
            sender.sendto(datagram, (address, port))
            if number % 50 == 0:
                time.sleep(0.005)


def flood_tcp(address, port, seed):
    dice = random.Random(seed)
    silent = [socket.create_connection((address, port), 5) for _ in range(20)]
    send_streams(lambda: socket.create_connection((address, port), 5), bad_streams(dice))
    for idle in silent:
        idle.close()


def flood_http(address, port, seed):
    """Half of a request, twenty times, while the others come; prints how many got an answer, and how many a good one."""
    silent = [socket.create_connection((address, port), 5) for _ in range(20)]
    for slow in silent:
        slow.sendall(b"GET /v1/detection/levels HTTP/1.1\r\nHost: loc")
    statuses = []
    for request_bytes in bad_http(random.Random(seed)):
        with socket.create_connection((address, port), 5) as connected:
            connected.settimeout(0.5)
            try:
                connected.sendall(request_bytes)
                statuses.append(connected.recv(4096).partition(b" ")[2][:3].decode())
            except OSError:
                pass  # cut, or waiting for more
    for slow in silent:
        slow.close()
    print(json.dumps({"answered": sum(map(bool, statuses)), "accepted": sum(status[:1] == "2" for status in statuses), "statuses": statuses}))


def curve_caller(address, port, server_key, secret=None):
    """With that node's key, or one of its own."""
    target = caller(None)
    public, own = zmq.curve_keypair()
    if secret:
        own = z85.encode(bytes.fromhex(secret))
        public = zmq.curve_public(own)
    target.curve_publickey, target.curve_secretkey = public, own
    target.curve_serverkey = z85.encode(bytes.fromhex(server_key))
    target.connect(f"tcp://{address}:{port}")
    return target


def flood_curve(address, port, server_key, secret=None):
    """Prints how many requests were answered, and with what."""
    target = curve_caller(address, port, server_key, secret)
    dice = random.Random(port)
    if not secret:
        send_all(target, [request("common.hello", b"\x80")] * 20)
        print(json.dumps({"answered": int(bool(target.poll(1500)))}))
        return
    send_all(target, unreadable_messages(dice))
    statuses = [status for _, status in ask_all(target, invalid_requests(dice))]
    print(json.dumps({"answered": len(statuses) - statuses.count(None), "accepted": statuses.count(0), "lost": statuses.count(None)}))


def question(**wrong):
    good = {"name": "n77", "site": "default", "address": "10.77.0.77", "port": 7400}
    return request("gossipd.ask_join", msgpack.packb({**good, **wrong}))


def bad_questions():
    for field, values in (("name", ("", "N7", "../n7", "n" * 64, "n\n7")), ("site", ("", "A B")),
                          ("address", ("", "localhost", "10.77.0", "%n")), ("port", (0, 65530, 65536, -1))):
        for value in values:
            yield question(**{field: value})


def flood_join(address, port, server_key, seed, keys=100):
    """One key asks everything that is wrong, then the same good question again and again, then under many names; then many keys come."""
    dice = random.Random(int(seed))
    target = curve_caller(address, port, server_key)
    send_all(target, unreadable_messages(dice))
    wrong = [status for _, status in ask_all(target, [*invalid_requests(dice), *bad_questions()])]
    again = [status for _, status in ask_all(target, [question()] * 300 + [question(name=f"n{number}") for number in range(300)])]
    for message in oversized_messages(2 << 20):
        send_all(curve_caller(address, port, server_key), [message])
    crowd = [curve_caller(address, port, server_key) for _ in range(keys)]
    for number, stranger in enumerate(crowd):
        stranger.send_multipart(question(name=f"crowd-{number}"))
    time.sleep(1)
    print(json.dumps({"wrong": len(wrong), "accepted": wrong.count(0), "lost": wrong.count(None), "again": again.count(0),
                      "asked": len(again), "crowd": sum(bool(stranger.poll(0)) for stranger in crowd)}))


def put_record(dice, record):
    return request("gossipd.put_record", msgpack.packb({"record": {"r": record, "s": dice.randbytes(64)}}))


def forge_records(address, port, server_key, secret):
    """Good records with a signature that is none, and such as are not to be read."""
    dice = random.Random(port)
    target = curve_caller(address, port, server_key, secret)
    good = [{"n": f"n{number}", "c": "default", "a": "10.77.0.9", "p": 7400, "k": dice.randbytes(32), "s": 2 ** 60 + number, "t": state}
            for number in range(20) for state in ("allowed", "revoked")]
    bad = [*cut(msgpack.packb(good[0]), dice, 20), *mistyped(msgpack.packb(good[0])), dice.randbytes(200), b""]
    answers = ask_all(target, [put_record(dice, msgpack.packb(record)) for record in good] + [put_record(dice, record) for record in bad])
    statuses = collections.Counter(str(status) for _, status in answers)
    print(json.dumps({"forged": len(good), "malformed": len(bad), "statuses": statuses}))


def main():
    verb, address, port, *rest = sys.argv[1:]
    if verb in ("curve", "join", "forge"):
        {"curve": flood_curve, "join": flood_join, "forge": forge_records}[verb](address, int(port), *rest)
    else:
        {"capture": capture, "udp": flood_udp, "tcp": flood_tcp, "http": flood_http}[verb](address, int(port), int(rest[0]))


if __name__ == "__main__":
    main()
