"""Heartbeats of an application, for `depctl ve run --probe heartbeat`.

    from depsys_heartbeat import Heartbeat

    heart = Heartbeat(interval_s=1)
    while True:
        do_some_work()
        heart.beat()

Call beat() wherever the program makes progress, as often as you like: it sends once an interval. See depsys_heartbeat.c
for what is sent and why.
"""
import fcntl
import socket
import struct
import time

PORT = 7419
SIOCGIFADDR, SIOCGIFNETMASK = 0x8915, 0x891B


def _address(sock, request, name):
    answer = fcntl.ioctl(sock, request, struct.pack("16s24x", name.encode()))
    return struct.unpack_from("!I", answer, 20)[0]


def _broadcasts(sock):
    for _, name in socket.if_nameindex():
        try:
            address, mask = _address(sock, SIOCGIFADDR, name), _address(sock, SIOCGIFNETMASK, name)
        except OSError:
            continue  # no IPv4 address
        if address >> 24 != 127:
            yield socket.inet_ntoa(struct.pack("!I", address | ~mask & 0xFFFFFFFF))


class Heartbeat:
    def __init__(self, interval_s=1.0, port=PORT):
        self.interval_s, self.port = interval_s, port
        self.incarnation, self.sequence, self._next = time.time_ns(), 0, 0.0

    def beat(self):
        """True when a heartbeat was due and sent."""
        now = time.monotonic()
        if 0 < self._next - now <= self.interval_s:
            return False
        self._next = now + self.interval_s
        self.sequence += 1
        text = b"\x83\xa1i\xcf%b\xa1s\xcf%b\xa1d\xce%b" % (
            struct.pack("!Q", self.incarnation), struct.pack("!Q", self.sequence), struct.pack("!I", int(self.interval_s * 1000)))
        sent = False
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            for address in _broadcasts(sock):
                try:
                    sent = sock.sendto(text, socket.MSG_DONTWAIT, (address, self.port)) > 0 or sent
                except OSError:
                    pass  # this network is away; the silence tells
        return sent
