#!/usr/bin/env python3
"""A local cluster of nodes for the demo and the system tests.

    export DEPSYS_CLUSTER=dsd-$$                      or --prefix dsd-$$ after each verb
    cluster up --dir /tmp/demo --bundle build         three nodes n1 n2 n3 and a client
    cluster ls | exec NODE CMD... | kill NODE | start NODE | cut NODE | heal NODE | down
    cluster sweep --prefix dsd                        removes what is left of clusters dsd-PID whose process PID is gone

A node is a set of namespaces (network, mount, pid, uts, ipc, cgroup) around one supervisor, runit's runsvdir, which is its
process 1: killing that is the power cut, the kernel takes everything in the node with it. See tools/node-init for what a
node sees. Nodes are plugged into a switch, which is a bridge in a network namespace of its own; `client` is a node without
daemons. Nothing of the machine is changed: namespaces vanish with their processes, and the rest is

    control groups PREFIX/NODE     whatever runs is in one, so one write to cgroup.kill ends it, whoever started it
    /run/depsys-cluster/PREFIX     what `sweep` and later calls need to know (JSON)
    DIR/nodes/NODE/                configuration, state and logs of a node

The prefix says who owns a cluster: `dsd-123` belongs to process 123, `up --keep` makes it nobody's. As a module:

    with Cluster("dst-%d" % os.getpid(), directory) as cluster:
        cluster.up(bundle, nodes=3)
        cluster.run("n1", ["depctl", "status"], check=True)
        cluster.kill("n1")
"""
import argparse
import ctypes
import ctypes.util
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TREE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
REGISTRY = "/run/depsys-cluster"
SERVICES = ("busd", "metad", "fdd", "gossipd", "gosd", "ved", "ckptd", "migrated", "webd")
PROGRAMS = SERVICES + ("depctl",)
ROOT_SERVICES = ("ved",)
V1_CONTROLLERS = ("memory", "cpu", "pids")
NETWORK = "10.77.0"
CLIENT_HOST = 200
PORT = 7400
FIRST_ID = 61000  # user and group numbers inside the nodes
SETTLE_S = 60.0  # longest wait for the kernel to start or end something: long, for a machine with much else to do

# sh: joins the control groups named before "--", then becomes the command after it.
JOIN = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
BUG = r": BUG: |Sanitizer|runtime error:"  # what no daemon may say: log_bug() of common/log.h, and the sanitizers
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup")


class ClusterError(Exception):
    """What was attempted, with what, and why it failed: one line for the user."""


# ---- the machine: processes, control groups ----


def start_time(pid):
    """When a process started, in ticks since boot: with its number this names it for good. None: no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def wait_for(what, condition, timeout_s=SETTLE_S, step_s=0.002, error=ClusterError):
    """The first true value of a condition; error (a class) when none came in time. The last look is after the time is over, so
    that a machine which let us wait too long does not make a failure of what holds."""
    deadline = time.monotonic() + timeout_s
    while True:
        over = time.monotonic() > deadline
        value = condition()
        if value:
            return value
        if over:
            raise error(f"waited {timeout_s:g} s for {what}")
        time.sleep(step_s)


def hierarchies():
    """Mount points of the control group hierarchies that a node gets its own part of; version 2 comes first."""
    unified, v1 = [], []
    with open("/proc/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _, point, kind, options, *_ = line.split()
            if kind == "cgroup2":
                unified.append(point)
            elif kind == "cgroup" and set(options.split(",")) & set(V1_CONTROLLERS):
                v1.append(point)
    if not unified:
        raise ClusterError("no cgroup2 hierarchy is mounted on this machine")
    return unified[:1] + v1


def write(path, text, mode=None):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    if mode is not None:
        os.chmod(path, mode)


def remove_cgroup(path):
    """Removes a tree of empty control groups; a process that just died may hold one for an instant."""
    def gone():
        for directory, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass
            except OSError:
                return False
        return True
    wait_for(f"the control group {path} to be empty", gone)


def end_cgroup(name):
    """Kills everything in the control groups of this name (PREFIX or PREFIX/NODE) and removes them."""
    roots = [os.path.join(root, name) for root in hierarchies()]
    if os.path.isdir(roots[0]):
        write(os.path.join(roots[0], "cgroup.kill"), "1")
    for path in roots:
        remove_cgroup(path)


# ---- what a node is made of ----


def new_key():
    """A pair of X25519 keys (secret, public), as common/keys.h has them: 64 hex digits each."""
    sodium = ctypes.CDLL(ctypes.util.find_library("sodium") or "libsodium.so.23")
    secret, public = os.urandom(32), ctypes.create_string_buffer(32)
    if sodium.crypto_scalarmult_base(public, secret) != 0:
        raise ClusterError("libsodium refused to make a key")
    return secret.hex(), public.raw.hex()


def find_program(bundle, name):
    """A program in a build directory (FOLDER/NAME), or in an installed tree; None when it is not there."""
    patterns = (f"{name}/{name}", f"gdn/{name}/{name}", f"gdn/{name}", f"bin/{name}", f"sbin/{name}",
                f"usr/bin/{name}", f"usr/sbin/{name}")
    for pattern in patterns:
        path = os.path.join(bundle, pattern)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def node_conf(name, nodes, cluster, peers=True):
    """The text of a node's depsys.conf; peers: with a section for each node, this one too."""
    lines = ["[node]", f"name = {name}", f"cluster = {cluster}", f"address = {nodes[name]['address']}", f"port = {PORT}"]
    for peer, node in nodes.items():
        if peers and node["public_key"]:
            lines += [f"[peer {peer}]", f"address = {node['address']}", f"port = {PORT}", f"key = {node['public_key']}"]
    return "\n".join(lines) + "\n"


def account_files(directory):
    """The machine's passwd and group with the users of the daemons added."""
    with open("/etc/passwd", encoding="utf-8") as passwd, open("/etc/group", encoding="utf-8") as group:
        users = [line for line in passwd if not line.startswith("depsys")]
        groups = [line for line in group if not line.startswith("depsys:")]
    groups.append(f"depsys:x:{FIRST_ID}:\n")
    for number, service in enumerate(SERVICES, start=1):
        if service not in ROOT_SERVICES:
            users.append(f"depsys-{service}:x:{FIRST_ID + number}:{FIRST_ID}::/var/lib/depsys:/usr/sbin/nologin\n")
    write(os.path.join(directory, "passwd"), "".join(users))
    write(os.path.join(directory, "group"), "".join(groups))


def hosts_file(directory, name, nodes):
    lines = ["127.0.0.1 localhost"] + [f"{node['address']} {peer}" for peer, node in nodes.items()]
    write(os.path.join(directory, "hosts"), "\n".join(lines) + "\n")
    write(os.path.join(directory, "hostname"), name + "\n")


def service_directory(directory, service):
    """runit's directory of one daemon, from the templates that real runit hosts use too."""
    for template, path in (("run", "run"), ("log-run", "log/run")):
        with open(os.path.join(TREE, "packaging", "runit", template), encoding="utf-8") as file:
            text = file.read().replace("@daemon@", service).replace("@program@", f"/run/bin/{service}")
        path = os.path.join(directory, service, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, text, 0o755)


# ---- the cluster ----


class Cluster:
    """One cluster. Its state is in the registry, so any process can go on where another was."""

    directories = []  # of the clusters that this process brought up

    def __init__(self, prefix, directory=None):
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", prefix):
            raise ClusterError(f"prefix {prefix}: expected something like dsd-{os.getpid()}")
        if os.geteuid() != 0:
            raise ClusterError("a cluster needs root: it makes namespaces and control groups")
        self.prefix = prefix
        self.record = os.path.join(REGISTRY, prefix)
        self.children = {}
        self.state = {"directory": directory and os.path.abspath(directory), "owner": None, "made": [], "switch": None,
                      "nodes": {}}
        if os.path.exists(self.record):
            with open(self.record, encoding="utf-8") as file:
                self.state = json.load(file)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()

    @property
    def nodes(self):
        return self.state["nodes"]

    def node_directory(self, name):
        return os.path.join(self.state["directory"], "nodes", name)

    def address(self, name):
        return self._node(name)["address"]

    def pid(self, name):
        """The machine's number of a node's first process, or None when the node is down."""
        process = self._node(name)["process"]
        return process["pid"] if process and start_time(process["pid"]) == process["start"] else None

    def _node(self, name):
        if name not in self.nodes:
            raise ClusterError(f"no node {name} in {self.prefix}; there are: {' '.join(self.nodes) or 'none'}")
        return self.nodes[name]

    def _save(self):
        os.makedirs(REGISTRY, exist_ok=True)
        write(self.record + ".new", json.dumps(self.state, indent=1))
        os.replace(self.record + ".new", self.record)

    # -- up --

    def up(self, bundle, nodes=3, config_extra=None, services=None, keep=False, remove=()):
        """Makes and starts the nodes n1 to nN, and the client. config_extra: text appended to the configuration of each, or
        {node: text}; remove: paths of the caller's that go when the cluster goes."""
        if os.path.exists(self.record):
            raise ClusterError(f"{self.prefix} is up already (cluster down --prefix {self.prefix})")
        bundle = os.path.abspath(bundle)
        directory = self.state["directory"]
        if not os.path.isdir(bundle):
            raise ClusterError(f"bundle {bundle}: no such directory (build first)")
        for path in (directory, bundle):
            if path is None or os.path.realpath(path).split("/")[1] in ("run", "proc", "sys", "dev"):
                raise ClusterError(f"directory {path}: nodes have a /run of their own and could not see it")
        owner = int(re.search(r"\d+$", self.prefix)[0]) if re.search(r"-\d+$", self.prefix) else os.getpid()
        self.state["owner"] = None if keep else {"pid": owner, "start": start_time(owner)}
        self.state["made"] = [*remove] + [path for path in (directory, os.path.join(directory, "nodes")) if not os.path.exists(path)]
        Cluster.directories.append(directory)
        try:
            self._make(bundle, nodes, config_extra, PROGRAMS if services is None else tuple(services) + ("depctl",))
        except BaseException:
            self.down(keep_directory=True)  # what the nodes said on their consoles tells why
            raise

    def _make(self, bundle, nodes, config_extra, programs):
        names = [f"n{i}" for i in range(1, nodes + 1)]
        self._save()  # from here on a sweep finds it
        for number, name in enumerate(names, start=1):
            secret, public = new_key()
            self._add(name, number, public)
            self._write_key(name, secret)
        self._add("client", CLIENT_HOST, None)
        self._save()
        self._start_switch()
        for name in self.nodes:
            self._furnish(name, bundle, config_extra, programs)
        self._boot(list(self.nodes))

    def add_node(self, bundle, name, number, config_extra=None, services=None):
        """Makes and boots one more node, which no other has in its configuration and which has no other in its own. Returns its public key."""
        secret, public = new_key()
        self._add(name, number, public)
        self._write_key(name, secret)
        self._save()
        self._furnish(name, os.path.abspath(bundle), config_extra, PROGRAMS if services is None else tuple(services) + ("depctl",))
        write(os.path.join(self.node_directory(name), "etc", "depsys.conf"), node_conf(name, {name: self.nodes[name]}, self.prefix, False))
        self._boot([name])
        return public

    def _add(self, name, number, public_key):
        """The hardware address is fixed as a machine's is: after a reboot the others find the node at once."""
        self.nodes[name] = {"address": f"{NETWORK}.{number}", "mac": f"02:dd:00:00:00:{number:02x}", "public_key": public_key,
                            "process": None}
        os.makedirs(os.path.join(self.node_directory(name), "etc"))

    def _write_key(self, name, secret):
        path = os.path.join(self.node_directory(name), "etc", "node.key")
        write(path, secret + "\n", 0o640)
        os.chown(path, 0, FIRST_ID)

    def _furnish(self, name, bundle, config_extra, programs):
        """Writes everything of a node that is files."""
        directory = self.node_directory(name)
        for part in ("etc/depsys.conf.d", "var", "log", "files", "bin", "service"):
            os.makedirs(os.path.join(directory, part), exist_ok=True)
        os.chown(os.path.join(directory, "var"), 0, FIRST_ID)
        os.chmod(os.path.join(directory, "var"), 0o750)
        account_files(os.path.join(directory, "files"))
        hosts_file(os.path.join(directory, "files"), name, self.nodes)
        if name != "client":
            write(os.path.join(directory, "etc", "depsys.conf"), node_conf(name, self.nodes, self.prefix))
            extra = config_extra.get(name) if isinstance(config_extra, dict) else config_extra
            if extra:
                write(os.path.join(directory, "etc", "depsys.conf.d", "50-extra.conf"), extra)
        for program in programs:
            path = find_program(bundle, program)
            if not path:
                continue
            os.symlink(path, os.path.join(directory, "bin", program))
            if name != "client" and program in SERVICES:
                service_directory(os.path.join(directory, "service"), program)

    def groups(self, name):
        """The control groups of a node: whatever runs in it is in these, or below them."""
        return [os.path.join(root, self.prefix, name) for root in hierarchies()]

    def _spawn(self, name, command, **popen):
        """Starts a command in the control groups PREFIX/NAME, in a session of its own."""
        groups = self.groups(name)
        for group in groups:
            os.makedirs(group, exist_ok=True)
        return subprocess.Popen(["sh", "-c", JOIN, "join", *groups, "--", *command], start_new_session=True,
                                env=self._environment(), **popen)

    @staticmethod
    def _environment():
        prefix = os.environ.get("DEPSYS_PREFIX", os.path.join(TREE, "prefix"))
        return {"PATH": f"/run/bin:{prefix}/bin:{prefix}/sbin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": "/root", "LANG": "C.UTF-8", "TERM": os.environ.get("TERM", "dumb"), "DEPSYS_PREFIX": prefix}

    def _start_switch(self):
        switch = self._spawn("switch", ["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.children["switch"] = switch
        own = os.readlink("/proc/self/ns/net")
        wait_for("the switch to start", lambda: self._comm(switch.pid) == "sleep" and
                 os.readlink(f"/proc/{switch.pid}/ns/net") != own)
        self.state["switch"] = switch.pid
        self._save()
        self._switch_ip("link add name br0 type bridge forward_delay 0 mcast_snooping 0", "link set br0 up")

    @staticmethod
    def _comm(pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
                return comm.read().strip()
        except (FileNotFoundError, ProcessLookupError):
            return None

    def _switch_ip(self, *commands):
        done = subprocess.run(["nsenter", "--target", str(self.state["switch"]), "--net", "ip", "-batch", "-"],
                              input="\n".join(commands) + "\n", text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"switch: ip {'; '.join(commands)}: {done.stderr.strip()}")

    def _unplug(self, name):
        """Removes a dead node's cable; the kernel does it too, but in its own time."""
        subprocess.run(["nsenter", "--target", str(self.state["switch"]), "--net", "ip", "link", "del", name],
                       stderr=subprocess.DEVNULL, check=False)

    def _boot(self, names):
        """Starts nodes side by side: namespaces first, then the cables, then until the supervisors run."""
        outer = {name: self._spawn_node(name) for name in names}
        for name, process in outer.items():
            pid = wait_for(f"{name} to start", lambda p=process: self._first_child(name, p))
            self.nodes[name]["process"] = {"pid": pid, "start": start_time(pid)}
            self._save()
            write(os.path.join(self._hold(), "cgroup.procs"), str(process.pid))
            wait_for(f"{name} to have its namespace", lambda p=process: self._alive(name, p))
            self._switch_ip(f"link add name {name} type veth peer name eth0 address {self.nodes[name]['mac']} netns {pid}",
                            f"link set {name} master br0 up")
            process.stdin.write(b"\n")
            process.stdin.close()
        for name, process in outer.items():
            wait_for(f"the supervisor of {name}", lambda p=process: self._alive(name, p) and
                     self._comm(self.nodes[name]["process"]["pid"]) == "runsvdir")

    def _hold(self):
        """Where the parents of the first processes wait, so that the nodes' own groups hold none (the rule of cgroup2)."""
        path = os.path.join(hierarchies()[0], self.prefix, "hold")
        os.makedirs(path, exist_ok=True)
        return path

    def _spawn_node(self, name):
        directory = self.node_directory(name)
        command = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--propagation", "private",
                   os.path.join(TREE, "tools", "node-init"), directory, name, f"{self.nodes[name]['address']}/24"]
        with open(os.path.join(directory, "log", "console"), "ab") as console:
            self.children[name] = self._spawn(name, command, stdin=subprocess.PIPE, stdout=console, stderr=console)
        return self.children[name]

    def _alive(self, name, process):
        if process.poll() is None:
            return True
        with open(os.path.join(self.node_directory(name), "log", "console"), encoding="utf-8", errors="replace") as console:
            said = console.read().strip().splitlines()
        raise ClusterError(f"{name} did not start: {said[-1] if said else 'exit %d' % process.returncode}")

    def _first_child(self, name, process):
        self._alive(name, process)
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as children:
            pids = children.read().split()
        return int(pids[0]) if pids else None

    # -- while it is up --

    def start(self, name):
        """Boots a node that was killed; its disk is as it was."""
        if self.pid(name):
            raise ClusterError(f"{name} is up already")
        end_cgroup(os.path.join(self.prefix, name))
        self._unplug(name)
        self._boot([name])

    def kill(self, name):
        """The power cut: kill -9 of the node's first process. Returns when nothing of the node runs any more."""
        pid = self.pid(name)
        if not pid:
            raise ClusterError(f"{name} is down already")
        os.kill(pid, signal.SIGKILL)
        self._reap(name)
        end_cgroup(os.path.join(self.prefix, name))

    def _reap(self, name):
        if name in self.children:
            self.children.pop(name).wait(SETTLE_S)

    def cut(self, name):
        """Pulls the node's cable."""
        self._node(name)
        self._switch_ip(f"link set {name} down")

    def heal(self, name):
        self._node(name)
        self._switch_ip(f"link set {name} up")

    def command(self, name, command):
        """The command line that runs a command inside a node, as root. It ends with the process that this starts: nsenter makes a
        child to be in another pid namespace, and would leave it behind."""
        pid = self.pid(name)
        if not pid:
            raise ClusterError(f"{name} is down")
        groups = [self.groups(name)[0] + "/daemons"] + self.groups(name)[1:]
        inside = ["nsenter", "--target", str(pid), "--net", "--mount", "--pid", "--uts", "--ipc", "--cgroup",
                  "setpriv", "--pdeathsig", "KILL"]
        settings = [f"{key}={value}" for key, value in self._environment().items()]
        return ["sh", "-c", JOIN, "join", *groups, "--", *inside, "env", "-i", *settings, *command]

    def run(self, name, command, **options):
        """subprocess.run inside a node."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.command(name, command), check=options.pop("check", False), **options)

    def popen(self, name, command, **options):
        return subprocess.Popen(self.command(name, command), **options)

    def log_lines(self, pattern):
        """Lines of what the daemons of all nodes said in which a regular expression is found."""
        found = []
        for name in self.nodes:
            for path in glob.glob(os.path.join(self.node_directory(name), "log", "**"), recursive=True):
                if os.path.isfile(path):
                    with open(path, encoding="utf-8", errors="replace") as file:
                        found += [line for line in file if re.search(pattern, line)]
        return found

    def all_up(self, name):
        """Whether all daemons of a node answer."""
        done = self.run(name, ["depctl", "-o", "json", "status"], capture_output=True, text=True)
        return bool(done.stdout) and json.loads(done.stdout)["all_up"]

    # -- down --

    def down(self, keep_directory=False):
        """Ends everything and removes what `up` made; does nothing when there is nothing."""
        end_cgroup(self.prefix)
        for name in list(self.children):
            self._reap(name)
        for path in reversed([] if keep_directory else self.state["made"]):
            shutil.rmtree(path, ignore_errors=True)
        if not keep_directory and self.state["directory"]:
            for name in self.nodes:
                shutil.rmtree(self.node_directory(name), ignore_errors=True)
        for path in (self.record, self.record + ".new"):
            if os.path.exists(path):
                os.unlink(path)
        self.state = {**self.state, "nodes": {}, "switch": None, "made": []}

    def is_orphan(self):
        """Whether its owner is gone. A cluster of which there are only control groups has the owner in its name."""
        if not os.path.exists(self.record):
            number = re.search(r"-(\d+)$", self.prefix)
            return bool(number) and start_time(int(number[1])) is None
        owner = self.state["owner"]
        return bool(owner) and (owner["start"] is None or start_time(owner["pid"]) != owner["start"])


def discard(path):
    """Removes a directory, but first what is mounted below it."""
    with open("/proc/mounts", encoding="utf-8") as mounts:
        points = [line.split()[1] for line in mounts]
    for point in reversed(points):
        if point.startswith(path + "/"):
            subprocess.run(["umount", "--lazy", point], stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(path, ignore_errors=True)


def sweep_directories(base):
    """Removes temporary directories BASE-PID-* whose process is gone, but those of a cluster that was kept."""
    for path in glob.glob(os.path.join(tempfile.gettempdir(), base + "-*")):
        owner = re.fullmatch(re.escape(base) + r"-(\d+)-\w+", os.path.basename(path))
        if owner and start_time(int(owner[1])) is None and not os.path.exists(os.path.join(REGISTRY, f"{base}-{owner[1]}")):
            discard(path)


def sweep(base):
    """Removes what was left by processes that were killed: the clusters BASE-* whose owner is gone, and directories. Returns the
    prefixes of the clusters."""
    found = {os.path.basename(path) for root in [REGISTRY] + hierarchies() for path in glob.glob(f"{root}/{base}-*")}
    swept = []
    for prefix in sorted({name.removesuffix(".new") for name in found}):
        cluster = Cluster(prefix)
        if cluster.is_orphan():
            cluster.down()
            swept.append(prefix)
    sweep_directories(base)
    return swept


# ---- logs ----


def log_tail(lines, directories=None):
    """The last lines of what daemons and first processes said, of all nodes by time, but of what a process says again and again
    only the last; directories: others than those of this process's clusters."""
    found = []
    for directory in Cluster.directories if directories is None else directories:
        for path in glob.glob(os.path.join(directory, "**", "*"), recursive=True):
            if os.path.basename(path) in ("current", "console") and os.path.isfile(path):
                found += [(line, where(path)) for line in last_lines(path, 10 * lines)]
    last = {(place, line.partition(" ")[2]): (line, place) for line, place in sorted(found)}  # svlogd begins each with its time
    return [f"{place}: {line}" for line, place in sorted(last.values())[-lines:]]


def last_lines(path, lines):
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 300 * lines))
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]


def where(path):
    """Node and daemon of a log, as far as its path tells: n1/fdd."""
    parts = [part for part in os.path.dirname(path).split("/") if part != "log"]
    return "/".join(parts[-2:])


# ---- command line ----


def show(cluster):
    print(f"{'NODE':8} {'ADDRESS':12} {'PROCESS':>8}  STATE")
    for name, node in cluster.nodes.items():
        pid = cluster.pid(name)
        print(f"{name:8} {node['address']:12} {pid or '-':>8}  {'up' if pid else 'down'}")


def parse():
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="make and start a cluster")
    up.add_argument("--dir", required=True, help="where state and logs of the nodes go")
    up.add_argument("--bundle", required=True, help="build directory with the daemons")
    up.add_argument("--nodes", type=int, default=3)
    up.add_argument("--config-extra", help="file appended to the configuration of each node")
    up.add_argument("--keep", action="store_true", help="belongs to nobody: no sweep removes it")
    for verb in ("down", "ls", "sweep"):
        verbs.add_parser(verb)
    for verb in ("kill", "start", "cut", "heal"):
        verbs.add_parser(verb).add_argument("node")
    run = verbs.add_parser("exec", help="run a command in a node, as root")
    run.add_argument("node")
    run.add_argument("command", nargs=argparse.REMAINDER)
    for verb in verbs.choices.values():
        verb.add_argument("--prefix", default=os.environ.get("DEPSYS_CLUSTER"), help="name of the cluster ($DEPSYS_CLUSTER)")
    options = parser.parse_args()
    if not options.prefix:
        parser.error("--prefix is missing, and DEPSYS_CLUSTER is not set")
    return options


def perform(options):
    if options.verb == "sweep":
        for prefix in sweep(options.prefix):
            print(f"removed {prefix}")
        return 0
    cluster = Cluster(options.prefix, getattr(options, "dir", None))
    if options.verb not in ("up", "down") and not cluster.nodes:
        raise ClusterError(f"there is no cluster {options.prefix}")
    if options.verb == "up":
        extra = None
        if options.config_extra:
            with open(options.config_extra, encoding="utf-8") as file:
                extra = file.read()
        cluster.up(options.bundle, options.nodes, extra, keep=options.keep)
        show(cluster)
    elif options.verb == "ls":
        show(cluster)
    elif options.verb == "exec":
        command = cluster.command(options.node, options.command or ["sh"])
        os.execvp(command[0], command)
    elif options.verb == "down":
        cluster.down()
    else:
        getattr(cluster, options.verb)(options.node)
    return 0


def main():
    try:
        return perform(parse())
    except (ClusterError, OSError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
