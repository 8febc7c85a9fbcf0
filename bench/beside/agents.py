"""Agents of both systems in the namespaces of one network, and what they say.

Every line that an agent writes gets the time at which it was read from its pipe; serf's own times are whole seconds.
"""
import base64
import ctypes
import ctypes.util
import os
import re
import selectors
import signal
import subprocess
import threading
import time

from beside.network import inside

TICKS = os.sysconf("SC_CLK_TCK")


class Agents:
    """What the two have in common: processes, their output, who thinks what of whom."""
    patterns = ()  # (kind, regular expression with the member's name)

    def __init__(self, network, directory):
        self.network = network
        self.directory = directory
        self.processes = {name: [] for name in network.names}
        self.events = []  # (time, observer, kind, member)
        self.alive = {name: set() for name in network.names}
        self.down = set()  # members that are not to be blamed for being called dead
        self.lock = threading.Lock()
        self.selector = selectors.DefaultSelector()
        self.ended = False
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def __enter__(self):
        try:
            for name in self.network.names:
                self.start(name)
            self.settle(self.network.names, 61)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.network.names:
            self.kill(name)
        self.ended = True
        self.reader.join()
        self.selector.close()

    # -- processes --

    def commands(self, name):
        raise NotImplementedError

    def start(self, name):
        for command in self.commands(name):
            log = open(os.path.join(self.directory, f"{name}.log"), "ab")
            process = subprocess.Popen(inside(self.network.namespace(name), *command), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            os.set_blocking(process.stdout.fileno(), False)
            self.processes[name].append(process)
            self.selector.register(process.stdout, selectors.EVENT_READ, (name, [b""], log))
        self.down.discard(name)

    def signal(self, name, number):
        for process in self.processes[name]:
            if process.poll() is None:
                process.send_signal(number)

    def kill(self, name):
        """The power cut: SIGKILL to all of it at once."""
        self.down.add(name)
        self.signal(name, signal.SIGKILL)
        for process in self.processes[name]:
            process.wait()
        self.processes[name] = []
        with self.lock:
            self.alive[name] = set()

    # -- what they say --

    def _read(self):
        while not self.ended:
            for key, _ in self.selector.select(0.2):
                name, rest, log = key.data
                text = key.fileobj.read(65536)
                if text is None:
                    continue
                if not text:
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()
                    log.close()
                    continue
                log.write(text)
                log.flush()
                *lines, rest[0] = (rest[0] + text).split(b"\n")
                for line in lines:
                    self._line(time.monotonic(), name, line.decode(errors="replace"))

    def _line(self, now, observer, line):
        for kind, pattern in self.patterns:
            match = pattern.search(line)
            if match:
                with self.lock:
                    self.events.append((now, observer, kind, match[1]))
                    if kind == "alive":
                        self.alive[observer].add(match[1])
                    elif kind == "dead":
                        self.alive[observer].discard(match[1])
                return

    def since(self, start, kind=None, member=None, end=float("inf")):
        with self.lock:
            return [event for event in self.events if start <= event[0] < end and kind in (None, event[2])
                    and member in (None, event[3])]

    def settle(self, members, timeout_s):
        """Until every running agent holds all these for alive, itself aside."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self.lock:
                missing = [(o, sorted(set(members) - self.alive[o] - {o})) for o in self.network.names
                           if o not in self.down and set(members) - self.alive[o] - {o}]
            if not missing:
                return True
            if time.monotonic() > deadline:
                if timeout_s > 60:
                    raise RuntimeError(f"{self.name}: after {timeout_s} s {missing[0][0]} does not know "
                                       f"{' '.join(missing[0][1])} (and {len(missing) - 1} more such)")
                return False
            time.sleep(0.05)

    # -- what they cost --

    def counted(self):
        """The processes of each agent whose cost is its cost."""
        return self.processes.values()

    def cpu_s(self):
        total = 0
        for processes in self.counted():
            for process in processes:
                with open(f"/proc/{process.pid}/stat", encoding="ascii", errors="replace") as stat:
                    fields = stat.read().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def memory_mb(self):
        """Resident memory of an agent in the mean: the sum over its processes; the same with pages of files that several of
        its processes map counted once, as they are there once; and what is not of a file at all (anonymous)."""
        whole = once = own = 0
        for processes in self.counted():
            files = {}
            for process in processes:
                for mapping, resident, anonymous in mappings(process.pid):
                    whole += resident
                    own += anonymous
                    files[mapping] = max(files.get(mapping, 0), resident - anonymous)
            once += sum(files.values())
        count = 1024 * len(self.network.names)
        return whole / count, (once + own) / count, own / count


def mappings(pid):
    """((file, offset), resident kB, anonymous kB) of each mapping of a process."""
    found = []
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as smaps:
        for line in smaps:
            fields = line.split(maxsplit=5)
            if not fields[0].endswith(":"):
                found.append([(fields[5].strip() if len(fields) > 5 else "", fields[2]), 0, 0])
            elif fields[0] == "Rss:":
                found[-1][1] = int(fields[1])
            elif fields[0] == "Anonymous:":
                found[-1][2] = int(fields[1])
    return [tuple(one) for one in found]


class Serf(Agents):
    name = "serf"
    patterns = (("suspect", re.compile(r"memberlist: Suspect (\S+) has failed")),
                ("dead", re.compile(r"serf: EventMemberFailed: (\S+) ")),
                ("alive", re.compile(r"serf: EventMemberJoin: (\S+) ")))

    def __init__(self, network, directory):
        self.key = base64.b64encode(os.urandom(32)).decode()
        super().__init__(network, directory)

    def commands(self, name):
        seed = self.network.names[0] if name != self.network.names[0] else self.network.names[1]
        return [["serf", "agent", f"-node={name}", f"-bind={self.network.address(name)}", "-rpc-addr=127.0.0.1:7373",
                 f"-encrypt={self.key}", "-profile=lan", f"-retry-join={self.network.address(seed)}", "-retry-interval=1s",
                 "-log-level=info"]]


class Depsys(Agents):
    patterns = (("suspect", re.compile(r"gossipd: notice: (\S+) is suspect was=")),
                ("dead", re.compile(r"gossipd: notice: (\S+) is dead was=")),
                ("alive", re.compile(r"gossipd: notice: (\S+) is alive was=")))

    def __init__(self, network, directory, build, profile, neighbours=()):
        """neighbours: daemons that run beside fdd and gossipd, as on a real node, and whose cost is not counted."""
        self.name = profile
        self.build = build
        self.daemons = (*neighbours, "fdd", "gossipd")
        self.configure(network, directory, profile)
        super().__init__(network, directory)

    @staticmethod
    def configure(network, directory, profile):
        sodium = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")
        peers = ""
        for name in network.names:
            secret, public = os.urandom(32), ctypes.create_string_buffer(32)
            if sodium.crypto_scalarmult_base(public, secret) != 0:
                raise RuntimeError("libsodium refused to make a key")
            os.makedirs(os.path.join(directory, name))
            with open(os.open(os.path.join(directory, name, "key"), os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
                file.write(secret.hex() + "\n")
            peers += f"[peer {name}]\naddress = {network.address(name)}\nport = 7400\nkey = {public.raw.hex()}\n"
        for name in network.names:
            own = os.path.join(directory, name)
            with open(os.path.join(own, "conf"), "w", encoding="ascii") as file:
                file.write(f"[node]\nname = {name}\ncluster = bench\naddress = {network.address(name)}\nport = 7400\n"
                           f"key = {own}/key\nrun = {own}/run\nstate = {own}/state\ngroup =\nprofile = {profile}\n{peers}")

    def commands(self, name):
        conf = os.path.join(self.directory, name, "conf")
        return [[os.path.join(self.build, daemon, daemon), "--config", conf, "--user", "nobody"]
                for daemon in self.daemons]

    def counted(self):
        return [processes[-2:] for processes in self.processes.values()]
