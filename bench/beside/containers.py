"""Others that write down a redis and bring it back, on a node of tools/cluster: criu by hand, crun, runc and podman.

A container has a network namespace of its own with an address on the node's bridge, as our VEs have, and the same root file system.
All use the criu that tools/setup builds, the node's /run (a tmpfs) for their images, and the node's control groups, version 2, so that
none pays for the freezer of version 1, which criu polls each 100 ms.
"""
import json
import os
import shlex

from beside.failover import Failed

PODMAN = ("podman --root {d}/store --runroot {d}/runtime --cgroup-manager=cgroupfs --events-backend=none --storage-driver=vfs "
          "--runtime {d}/crun")
# The runtimes' default, soft, sets cpusets on a restore, of which the node has none; podman itself has no option for it.
CRUN_FOR_PODMAN = """#!/bin/sh
for word; do
	shift
	set -- "$@" "$word"
	case $word in checkpoint|restore) set -- "$@" --manage-cgroups-mode=ignore ;; esac
done
exec {crun} "$@"
"""
NETWORK = """
ip netns add {name}
ip link add p{name} type veth peer name eth0 netns {name}
ip link set p{name} master br0 up
ip -n {name} address add {address}/24 dev eth0
ip -n {name} link set eth0 up
ip -n {name} link set lo up
"""
TIMED = 'a=$(date +%s%N) && sh -ec "$1" >/dev/null </dev/null && b=$(date +%s%N) && echo $((b - a))'
QUIET = "</dev/null >/dev/null 2>&1"  # what it inherits open cannot be written down


class Node:
    """Where they run."""

    def __init__(self, cluster, name="n1"):
        self.cluster, self.name = cluster, name

    def script(self, text):
        done = self.cluster.run(self.name, ["sh", "-ec", text], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{text.strip().splitlines()[-1][:200]}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def timed(self, text):
        """Milliseconds that a script took, without the way into the node."""
        done = self.cluster.run(self.name, ["sh", "-c", TIMED, "timed", text], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{text.strip().splitlines()[-1][:200]}: {done.stderr.strip()[-300:]}")
        return int(done.stdout) / 1e6

    def write(self, path, text, mode="644"):
        self.script(f"cat >{path} <<'END'\n{text}\nEND\nchmod {mode} {path}")

    def size(self, path):
        return int(self.script(f"du -sb {path} | cut -f 1"))


class RawCriu:
    """`criu dump --leave-running` of a VE of ours, which it does not touch otherwise; nothing of ours takes part."""
    name = "raw criu"
    IMAGE = "/run/raw-criu"

    def __init__(self, node, ve):
        self.node, self.ve = node, ve

    def checkpoint(self):
        self.node.script(f"rm -rf {self.IMAGE}; mkdir {self.IMAGE}")
        pid = self.node.script(f"head -n 1 $(find /sys/fs/cgroup -name {self.ve})/cgroup.procs").strip()
        network = self.node.script(f"stat -L -c %i /proc/{pid}/ns/net").strip()
        return self.node.timed(f"criu dump -t {pid} -D {self.IMAGE} -o log --leave-running --tcp-established --skip-in-flight "
                               f"--external 'net[{network}]:ve-net' --manage-cgroups=ignore --file-locks --link-remap")

    def end(self):
        self.node.script(f"rm -rf {self.IMAGE}")


class Container:
    """A redis as a container of one of the runtimes. A context."""
    in_place_works = True
    groups = "--manage-cgroups-mode=ignore"

    def __init__(self, node, name, address, bundle):
        self.node, self.name, self.address, self.bundle = node, name, address, bundle
        self.directory = f"/run/peer-{name}"
        self.image = f"{self.directory}/image"

    def __enter__(self):
        self.node.script(f"mkdir -p {self.directory}/rootfs; tar -xf {self.bundle}/rootfs.tar -C {self.directory}/rootfs" +
                         NETWORK.format(name=self.name, address=self.address))
        with open(os.path.join(self.bundle, "config.json"), encoding="utf-8") as file:
            self.prepare(json.load(file))
        self.node.script(self.start())
        return self

    def __exit__(self, *_):
        self.node.script(f"{self.remove()} || true; ip netns del {self.name}; rm -rf {self.directory}")

    def prepare(self, config):
        config["root"] = {"path": "rootfs"}
        config["linux"] = {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")] +
                           [{"type": "network", "path": f"/run/netns/{self.name}"}]}
        self.node.write(f"{self.directory}/config.json", json.dumps(config))

    def start(self):
        return f"{self.name} run --detach --bundle {self.directory} bench {QUIET}"

    def remove(self):
        return f"{self.name} delete --force bench"

    def command(self, verb, *options):
        return f"{self.name} {verb} --tcp-established --image-path {self.image} --work-path {self.directory}/work " + \
            " ".join((self.groups, *options)) + " bench"

    def fresh(self):
        self.node.script(f"rm -rf {self.image} {self.directory}/work; mkdir -p {self.image} {self.directory}/work")

    def checkpoint(self):
        self.fresh()
        return self.node.timed(self.command("checkpoint", "--leave-running"))

    def in_place(self):
        self.fresh()
        return self.node.timed(f"{self.command('checkpoint')}\n{self.remove()} 2>/dev/null || true\n"
                               f"{self.command('restore', '--detach', '--bundle', self.directory)} {QUIET}")


class Runc(Container):
    """It does not come back in place: criu finds the lock of the dump still in the network namespace, which is not the container's."""
    in_place_works = False
    groups = ""


class Podman(Container):
    """With crun beneath, without an image of its own: --rootfs."""

    def podman(self):
        return PODMAN.format(d=self.directory)

    def prepare(self, config):
        crun = self.node.script("command -v crun").strip()  # podman looks elsewhere
        self.node.write(f"{self.directory}/crun", CRUN_FOR_PODMAN.format(crun=crun), "755")
        self.command_line = shlex.join(config["process"]["args"])

    def start(self):
        return (f"{self.podman()} run --detach --name bench --pids-limit 0 --network ns:/run/netns/{self.name} "
                f"--rootfs {self.directory}/rootfs {self.command_line} {QUIET}")

    def remove(self):
        return f"{self.podman()} rm --force bench"

    def checkpoint(self):
        return self.node.timed(f"{self.podman()} container checkpoint --leave-running --tcp-established bench 2>/dev/null")

    def in_place(self):
        return self.node.timed(f"{self.podman()} container checkpoint --tcp-established bench 2>/dev/null\n"
                               f"{self.podman()} container restore --tcp-established bench 2>/dev/null")


CONTAINERS = {"crun": Container, "runc": Runc, "podman": Podman}
