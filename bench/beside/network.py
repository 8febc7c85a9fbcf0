"""A cluster's network for measurements: one namespace for each node, joined by a bridge in a namespace of its own.

Names begin with dsb-PID; what such processes left behind that are gone is removed at start. Loss comes from nftables' numgen at
each receiver, for TCP and UDP alike (this works where there is no netem). Bytes are counted at the bridge's ports.
"""
import glob
import json
import os
import re
import signal
import subprocess

PREFIX = f"dsb-{os.getpid()}"
ETHERNET_HEADER = 14


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def inside(namespace, *command):
    """The command line that runs a command in a namespace. (`ip netns exec` would mount /sys anew each time.)"""
    return ["nsenter", f"--net=/run/netns/{namespace}", "--", *command]


def end_namespace(namespace):
    """Kills what runs in it, by number, and removes it."""
    for pid in subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False).stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def remove_leftovers():
    for path in glob.glob("/run/netns/dsb-*"):
        owner = re.match(r"dsb-(\d+)-", os.path.basename(path))
        if owner and not os.path.exists(f"/proc/{owner[1]}"):
            end_namespace(os.path.basename(path))


class Network:
    """count nodes n1 .. nN with the addresses 10.98.0.N; a context that removes all of it."""

    def __init__(self, count):
        self.names = [f"n{number}" for number in range(1, count + 1)]
        self.switch = f"{PREFIX}-sw"

    def __enter__(self):
        remove_leftovers()
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for namespace in [self.namespace(name) for name in self.names] + [self.switch]:
            end_namespace(namespace)

    def namespace(self, name):
        return f"{PREFIX}-{name}"

    @staticmethod
    def address(name):
        return f"10.98.0.{name[1:]}"

    def _make(self):
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "sw", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "sw", "up")
        for name in self.names:
            namespace = self.namespace(name)
            run("ip", "netns", "add", namespace)
            run("ip", "-n", self.switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            run("ip", "-n", self.switch, "link", "set", name, "master", "sw", "up")
            run("ip", "-n", namespace, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            run("ip", "-n", namespace, "link", "set", "eth0", "up")
            run("ip", "-n", namespace, "link", "set", "lo", "up")
            # Without segmentation offload a frame at the bridge is one that a wire would carry.
            run(*inside(namespace, "ip", "link", "set", "eth0", "gso_max_segs", "1"))

    def lose(self, percent):
        """Every node loses this share of what comes to it."""
        rules = "flush ruleset\n"
        if percent:
            rules += ("table ip loss {\n chain in {\n  type filter hook prerouting priority -300\n"
                      f"  iifname eth0 numgen random mod 100 < {percent} drop\n }}\n}}\n")
        for name in self.names:
            run(*inside(self.namespace(name), "nft", "-f", "-"), input=rules)

    def sent(self):
        """Bytes that all nodes have sent, with IP headers and without those of Ethernet."""
        links = json.loads(run("ip", "-n", self.switch, "-s", "-j", "link", "show"))
        counters = [link["stats64"]["rx"] for link in links if link["ifname"] in self.names]
        return sum(rx["bytes"] - ETHERNET_HEADER * rx["packets"] for rx in counters)
