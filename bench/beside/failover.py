"""Three ways to keep a redis with an address alive, on nodes of the same kind: ours, Debian's Pacemaker with corosync, keepalived.

A node is that of tools/cluster: namespaces around a first process, whose death is the power cut. The peers get what Debian's
packages say by default, except where a name says otherwise. Pacemaker's nodes have a fence device that answers at once: a real
power switch takes seconds. keepalived moves the address only, so that each node has a redis of its own.
"""
import os
import subprocess
import sys
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402
from cluster import Cluster, ClusterError  # noqa: E402,F401
from scenario import ADDRESS, VE, Events, Failed, depctl, first, make_bundle, wait_until  # noqa: E402

NODES = ("n1", "n2", "n3")
READY_S = 120.0
SETTLE_S = 3.0  # after a node came back, before it is measured again
INTERVAL_S = 2.0
FILL_TRIES = 10

FILL = f"""
import os, socket, sys
connection = socket.create_connection(("{ADDRESS}", 6379), 10)
replies = connection.makefile("rb")
for number in range(int(sys.argv[1])):
    data = os.urandom(1 << 20)
    connection.sendall(b"*3\\r\\n$3\\r\\nSET\\r\\n$4\\r\\n%04d\\r\\n$%d\\r\\n%s\\r\\n" % (number, len(data), data))
    assert replies.readline() == b"+OK\\r\\n"
"""


class System:
    """A cluster under one of them. A context; `extra` is what it does to a node that has booted."""
    services = ()
    configuration = None
    base = "dsb-failover"  # of its cluster's name

    def __init__(self, name, build, directory):
        self.name, self.build, self.directory = name, build, directory
        self.cluster = Cluster(f"{self.base}-{os.getpid()}", os.path.join(directory, "cluster"))

    def __enter__(self):
        try:
            self.cluster.up(self.build, nodes=len(NODES), services=self.services, config_extra=self.configuration)
            self.favour()
            for node in NODES:
                self.boot(node)
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.cluster.down()

    def favour(self):
        """Before all else on this machine: what is measured is the systems, and not who else is there."""
        for group in (os.path.join(root, self.cluster.prefix) for root in clusters.hierarchies()):
            for knob, most in (("cpu.shares", "262144"), ("cpu.weight", "10000")):
                if os.path.exists(os.path.join(group, knob)):
                    clusters.write(os.path.join(group, knob), most)

    def boot(self, node):
        """What is to run on a node that has just booted."""

    def wait_ready(self):
        """Until all nodes are there."""

    def run(self, node, *command):
        return self.cluster.run(node, list(command), capture_output=True, text=True, check=False).stdout

    def popen(self, node, *command):
        log = os.path.join(self.cluster.node_directory(node), "log", "console")
        with open(log, "ab") as console:
            self.cluster.popen(node, list(command), stdin=subprocess.DEVNULL, stdout=console, stderr=console)

    def write(self, node, name, text, mode=None):
        """A file that the node sees as /etc/depsys/NAME."""
        clusters.write(os.path.join(self.cluster.node_directory(node), "etc", name), text, mode)

    def holder(self):
        """The node that has the address."""
        for node in NODES:
            if self.cluster.pid(node) and f" {ADDRESS}/" in self.run(node, "ip", "-o", "address", "show"):
                return node
        return None

    def fill(self, megabytes):
        """Anew when the connection breaks, as it was seen to under keepalived with fast adverts on a busy machine."""
        for _ in range(FILL_TRIES):
            done = self.cluster.run("client", ["/usr/bin/python3", "-c", FILL, str(megabytes)], capture_output=True, text=True)
            if done.returncode == 0:
                return
            time.sleep(1)
        raise Failed(f"{self.name}: fill redis: {done.stderr.strip()[-200:]}")

    def committed(self, _record):
        """Called when the client counts: what it has seen by then is kept, if the system keeps anything."""

    def answering(self):
        return self.run("client", "redis-cli", "-h", ADDRESS, "ping").strip() == "PONG"

    def revive(self, node):
        self.cluster.start(node)
        self.boot(node)
        self.wait_ready()
        time.sleep(SETTLE_S)


# ---- keepalived ----

KEEPALIVED = """global_defs {{
	router_id {node}
}}
vrrp_instance service {{
	state BACKUP
	nopreempt
	interface br0
	virtual_router_id 77
	priority {priority}
	version 3
	advert_int {advert}
	virtual_ipaddress {{
		{address}/24 dev br0
	}}
}}
"""


class Keepalived(System):
    def __init__(self, name, build, directory, advert_s):
        super().__init__(name, build, directory)
        self.advert_s = advert_s

    def boot(self, node):
        self.write(node, "keepalived.conf", KEEPALIVED.format(
            node=node, priority=200 - 50 * NODES.index(node), advert=self.advert_s, address=ADDRESS))
        self.popen(node, "redis-server", "--save", "", "--protected-mode", "no", "--dir", "/run")
        self.popen(node, "keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file", "/etc/depsys/keepalived.conf")

    def wait_ready(self):
        wait_until(f"{self.name} to have the address", lambda: self.holder() and self.answering(), READY_S)


# ---- Pacemaker and corosync ----

COROSYNC = """totem {{
	version: 2
	cluster_name: bench
{token}}}
logging {{
	to_stderr: yes
	to_syslog: no
}}
quorum {{
	provider: corosync_votequorum
}}
nodelist {{
{nodes}}}
"""
MEMBER = "\tnode {{\n\t\tname: {name}\n\t\tnodeid: {number}\n\t\tring0_addr: {address}\n\t}}\n"
FENCE = """#!/bin/sh
# A power switch that answers at once; the node is dead already.
while read -r line; do
	case $line in action=*) action=${line#action=} ;; esac
done
case ${action:-reboot} in
metadata) cat <<'END'
<?xml version="1.0"?>
<resource-agent name="fence_bench" shortdesc="answers at once"><longdesc>answers at once</longdesc><vendor-url/>
<parameters><parameter name="port"><content type="string"/></parameter></parameters>
<actions><action name="on"/><action name="off"/><action name="reboot"/><action name="status"/><action name="monitor"/>
<action name="metadata"/><action name="list"/></actions></resource-agent>
END
;;
list) printf 'n1\\nn2\\nn3\\n' ;;
esac
"""
CIB = f"""<configuration>
 <crm_config/><nodes/>
 <resources>
  <primitive id="fence" class="stonith" type="fence_bench"/>
  <group id="service">
   <primitive id="address" class="ocf" provider="heartbeat" type="IPaddr2">
    <instance_attributes id="address-with"><nvpair id="address-ip" name="ip" value="{ADDRESS}"/>
     <nvpair id="address-mask" name="cidr_netmask" value="24"/><nvpair id="address-nic" name="nic" value="br0"/></instance_attributes>
    <operations><op id="address-monitor" name="monitor" interval="10s"/></operations>
   </primitive>
   <primitive id="redis" class="ocf" provider="heartbeat" type="anything">
    <instance_attributes id="redis-with"><nvpair id="redis-program" name="binfile" value="/usr/bin/redis-server"/>
     <nvpair id="redis-options" name="cmdline_options" value="--save '' --protected-mode no --dir /run"/></instance_attributes>
    <operations><op id="redis-monitor" name="monitor" interval="10s"/></operations>
   </primitive>
  </group>
 </resources>
 <constraints/>
 <rsc_defaults><meta_attributes id="stay"><nvpair id="stay-here" name="resource-stickiness" value="100"/></meta_attributes></rsc_defaults>
</configuration>"""
# What a machine of its own has and a node of tools/cluster shares: shared memory, and the directory of fence agents.
OWN = ("mount -t tmpfs -o mode=1777 tmpfs /dev/shm; mkdir -p /run/sbin /run/sbin.work; mount -t overlay overlay "
       "-o lowerdir=/usr/sbin,upperdir=/run/sbin,workdir=/run/sbin.work /usr/sbin; cp /etc/depsys/fence_bench /usr/sbin/")


class Pacemaker(System):
    def __init__(self, name, build, directory, token_ms=None):
        super().__init__(name, build, directory)
        self.token = f"\ttoken: {token_ms}\n\ttoken_coefficient: 0\n" if token_ms else ""

    def __enter__(self):
        super().__enter__()
        self.run("n1", "cibadmin", "--replace", "--scope", "configuration", "--xml-text", CIB)
        self.wait_serving()
        return self

    def boot(self, node):
        nodes = "".join(MEMBER.format(name=name, number=number, address=self.cluster.address(name))
                        for number, name in enumerate(NODES, start=1))
        self.write(node, "corosync.conf", COROSYNC.format(token=self.token, nodes=nodes))
        self.write(node, "fence_bench", FENCE, 0o755)
        self.run(node, "sh", "-ec", OWN)
        self.popen(node, "corosync", "-f", "-c", "/etc/depsys/corosync.conf")
        wait_until(f"corosync on {node}", lambda: "1" in self.run(node, "corosync-cfgtool", "-s"), READY_S)
        self.popen(node, "pacemakerd", "-f")

    def wait_ready(self):
        wait_until(f"{self.name}: all online", lambda: "Online: [ n1 n2 n3 ]" in self.run("n1", "crm_mon", "-1"), READY_S)

    def wait_serving(self):
        wait_until(f"{self.name} to serve", lambda: self.holder() and self.answering(), READY_S)


# ---- ours ----


class Depsys(System):
    services = None

    def __init__(self, name, build, directory, configuration=""):
        super().__init__(name, build, directory)
        self.configuration = "[metad]\nvoters = n1 n2 n3\n" + configuration
        self.events = {}
        self.services = clusters.SERVICES

    def __enter__(self):
        super().__enter__()
        self.bundle = make_bundle(self.directory)
        return self

    def __exit__(self, *_):
        for stream in self.events.values():
            stream.close()
        super().__exit__()

    def boot(self, node):
        if node in self.events:
            self.events[node].close()
        self.events[node] = Events(self.cluster, node)

    def alive(self):
        return [node for node in NODES if self.cluster.pid(node)]

    def wait_ready(self):
        def ready(node):
            status = depctl(self.cluster, node, "status", check=False)
            members = depctl(self.cluster, node, "node", "ls", check=False)
            return status and status["all_up"] and members and len(members) == len(NODES) and \
                all(m["state"] == "alive" for m in members) and any(m["coordinator"] for m in members)
        for node in NODES:
            wait_until(f"{node} ready", lambda n=node: ready(n), READY_S)

    def coordinator(self):
        return next((m["node"] for m in depctl(self.cluster, self.alive()[0], "node", "ls") if m["coordinator"]), None)

    def leader(self):
        told = [event for stream in self.events.values() for event in stream.all("meta.leader")]
        return max(told, key=lambda event: event["time_ns"])["body"]["name"] if told else None

    def steer(self, together):
        """Has the store led by the coordinator's node, or by another; returns the coordinator's node."""
        for _ in range(20):
            coordinator, leader = self.coordinator(), self.leader()
            if coordinator and leader and (coordinator == leader) == together:
                return coordinator
            self.run(leader or "n1", "sh", "-c", "kill -9 $(cat /run/service/metad/supervise/pid)")
            time.sleep(SETTLE_S)
        raise Failed("the store's leader does not go where it is wanted")

    def place(self, node):
        """A new service, on that node."""
        if depctl(self.cluster, node, "ve", "show", VE, check=False):
            depctl(self.cluster, node, "ve", "rm", VE)
        depctl(self.cluster, node, "ve", "run", VE, self.bundle, "--address", f"{ADDRESS}/24", "--node", node, "--interval",
               f"{INTERVAL_S:g}s", "--copies", "1")
        wait_until("redis to answer", self.answering, READY_S)

    def holder(self):
        return next((ve["node"] for ve in depctl(self.cluster, self.alive()[0], "ve", "ls") if ve["name"] == VE), None)

    def committed(self, record):
        """Until a round begun after the client counted is committed."""
        since_ns = time.time_ns()
        wait_until("a checkpoint with the client's data", lambda: any(
            event["time_ns"] - 1000000 * event["body"]["took_ms"] > since_ns for stream in self.events.values()
            for event in stream.all("ckpt.committed", ve=VE)), READY_S)
        return record

    def first(self, topic, since_ns, **body):
        return first(self.events.values(), topic, since_ns, **body)
