"""One node with all its daemons, as tools/demo makes it: what some of them hold of its memory."""
import glob
import os
import sys
import tempfile
import time

from beside.agents import mappings

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "tools"))
import cluster as clusters  # noqa: E402
from cluster import ClusterError  # noqa: E402,F401

SETTLE_S = 10


def descendants(root):
    """Numbers of all processes below one."""
    children, found, todo = {}, [], [root]
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="ascii", errors="replace") as stat:
                parent = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
        children.setdefault(parent, []).append(int(path.split("/")[2]))
    while todo:
        found += (below := children.get(todo.pop(), []))
        todo += below
    return found


def name_of(pid):
    with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
        return comm.read().strip()


def share_mb(build, daemons):
    """Memory of these daemons of a node where all run: what is theirs alone, and of each file that daemons map (the libraries) an
    equal share. Other processes of this machine do not count: on a real node they would be there for themselves."""
    clusters.sweep("dsb-node")
    with tempfile.TemporaryDirectory(prefix="dsb-node-") as directory:
        os.chmod(directory, 0o755)
        cluster = clusters.Cluster(f"dsb-node-{os.getpid()}", os.path.join(directory, "cluster"))
        try:
            cluster.up(build, nodes=1)
            clusters.wait_for("the daemons", lambda: cluster.all_up("n1"), 120)
            time.sleep(SETTLE_S)
            held = {name_of(pid): mappings(pid) for pid in descendants(cluster.pid("n1")) if name_of(pid) in clusters.SERVICES}
        finally:
            cluster.down()
    users = {}
    for found in held.values():
        for mapping in {mapping for mapping, resident, anonymous in found if resident > anonymous}:
            users[mapping] = users.get(mapping, 0) + 1
    return sum(anonymous + (resident - anonymous) / users.get(mapping, 1)
               for daemon in daemons for mapping, resident, anonymous in held[daemon]) / 1024
