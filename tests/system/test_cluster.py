#!/usr/bin/env python3
"""The local cluster itself (tools/cluster.py): every other system test and the demo stand on it.

usage: test_cluster.py BUILD_DIR
"""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402
import suite  # noqa: E402

BASE = "dst-cluster"
BUILD = TREE


def leftovers(prefix):
    """Whatever of a cluster can still be seen on the machine."""
    found = glob.glob(f"{clusters.REGISTRY}/{prefix}*")
    for root in clusters.hierarchies():
        found += glob.glob(f"{root}/{prefix}*")
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        found += [line.strip() for line in mounts if prefix in line]
    return found + processes_of(prefix)


def processes_of(prefix):
    """Living processes whose control group is the cluster's."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cgroup"):
        try:
            with open(path, encoding="utf-8") as cgroup:
                if prefix in cgroup.read() and clusters.start_time(path.split("/")[2]) is not None:
                    found.append(path)
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


class ClusterCase(unittest.TestCase):
    """A directory and a prefix for one test, and the promise that nothing stays."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix=f"{BASE}-{os.getpid()}-")
        self.prefix = f"{BASE}-{os.getpid()}"
        self.cluster = clusters.Cluster(self.prefix, os.path.join(self.directory, "cluster"))

    def tearDown(self):
        self.cluster.down()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.assert_nothing_left(self.prefix)

    def assert_nothing_left(self, prefix):
        try:  # the last of a process goes a moment after it
            clusters.wait_for("nothing to be left", lambda: not leftovers(prefix))
        except clusters.ClusterError:
            self.assertEqual(leftovers(prefix), [])

    def up(self, nodes=2, **options):
        self.cluster.up(BUILD, nodes=nodes, **options)
        return self.cluster

    def says(self, cluster, node, *command):
        """What a command in a node prints; it has to succeed."""
        done = cluster.run(node, list(command), capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, f"{node}: {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def reaches(self, cluster, source, target):
        return cluster.run(source, ["ping", "-c", "1", "-W", "1", target], stdout=subprocess.DEVNULL).returncode == 0

    def assert_reaches(self, cluster, source, target):
        clusters.wait_for(f"{source} to reach {target}", lambda: self.reaches(cluster, source, target), step_s=0.05)


class Nodes(ClusterCase):
    def test_nodes_and_client_reach_one_another(self):
        cluster = self.up(nodes=3)
        for source, target in (("n1", "n2"), ("n2", "n3"), ("n3", "n1"), ("client", "n1"), ("n1", "client")):
            self.assert_reaches(cluster, source, target)

    def test_a_node_is_a_machine_of_its_own(self):
        cluster = self.up()
        self.says(cluster, "n1", "touch", "/run/mine", "/etc/mine", "/var/mine", "/var/lib/depsys/mine")
        for path in ("/run/mine", "/etc/mine", "/var/mine", "/var/lib/depsys/mine"):
            self.assertFalse(os.path.exists(path), path)
            self.assertNotEqual(cluster.run("n2", ["test", "-e", path]).returncode, 0, path)
        self.assertEqual(self.says(cluster, "n1", "cat", "/proc/sys/kernel/hostname"), "n1")
        self.assertEqual(self.says(cluster, "n1", "cat", "/proc/1/comm"), "runsvdir")
        self.assertIn("0::/daemons", self.says(cluster, "n1", "cat", "/proc/1/cgroup").splitlines())

    def test_a_node_has_users_and_a_key_that_strangers_cannot_read(self):
        cluster = self.up()
        self.assertEqual(self.says(cluster, "n1", "stat", "-c", "%a %U:%G", "/etc/depsys/node.key"), "640 root:depsys")
        self.assertEqual(self.says(cluster, "n1", "id", "-gn", "depsys-fdd"), "depsys")
        self.assertIn("[peer n2]", self.says(cluster, "n1", "cat", "/etc/depsys/depsys.conf"))

    def test_the_machine_has_its_group_directories_in_the_node(self):
        cluster = self.up()
        self.says(cluster, "n1", "mkdir", "-p", "/sys/fs/cgroup/ve/one")
        root = clusters.hierarchies()[0]
        self.assertTrue(os.path.isdir(f"{root}/{self.prefix}/n1/ve/one"))

    def test_daemons_of_the_bundle_run_and_come_back(self):
        cluster = self.up()
        services = [s for s in clusters.SERVICES if clusters.find_program(BUILD, s)]
        if not services:
            self.skipTest("no daemon is built yet")
        for service in services:
            first = self.service_pid(cluster, service, 0)
            self.says(cluster, "n1", "kill", "-9", str(first))
            self.service_pid(cluster, service, first)

    def service_pid(self, cluster, service, other_than):
        """The pid of a running service, once it is another one than before."""
        path = f"/run/service/{service}/supervise/pid"

        def running():
            text = cluster.run("n1", ["cat", path], capture_output=True, text=True).stdout.strip()
            return text and int(text) != other_than and int(text)
        return clusters.wait_for(f"{service} to run", running, step_s=0.05)


class Faults(ClusterCase):
    def test_kill_of_the_first_process_takes_the_whole_node(self):
        cluster = self.up()
        # a process that left its session and its parent, and one in a control group of its own
        self.says(cluster, "n1", "sh", "-c", "setsid -f sleep 1000 >/dev/null 2>&1")
        self.says(cluster, "n1", "sh", "-c", "mkdir -p /sys/fs/cgroup/ve/x && echo 0 >/sys/fs/cgroup/ve/x/cgroup.procs && "
                  "setsid -f sleep 1000 >/dev/null 2>&1")
        os.kill(cluster.pid("n1"), 9)  # from outside, not by the tool
        clusters.wait_for("n1 to be gone", lambda: not processes_of(self.prefix + "/n1"))
        self.assertIsNone(cluster.pid("n1"))
        self.assert_reaches(cluster, "client", "n2")
        # The kernel takes an empty network namespace apart later, and answers for it until then.
        clusters.wait_for("n1 to be out of reach", lambda: not self.reaches(cluster, "client", "n1"), step_s=0.05)

    def test_a_killed_node_boots_again_with_its_disk(self):
        cluster = self.up()
        self.says(cluster, "n1", "touch", "/var/lib/depsys/kept", "/run/lost")
        self.assert_reaches(cluster, "n2", "n1")
        cluster.kill("n1")
        cluster.start("n1")
        self.says(cluster, "n1", "test", "-e", "/var/lib/depsys/kept")
        self.says(cluster, "n1", "test", "!", "-e", "/run/lost")
        self.assert_reaches(cluster, "n2", "n1")

    def test_a_cut_node_is_alone_until_healed(self):
        cluster = self.up()
        cluster.cut("n1")
        self.assertFalse(self.reaches(cluster, "n2", "n1"))
        cluster.heal("n1")
        self.assert_reaches(cluster, "n2", "n1")


class Ends(ClusterCase):
    def test_down_leaves_nothing(self):
        cluster = self.up()
        cluster.down()
        self.assertEqual(leftovers(self.prefix), [])
        self.assertFalse(os.path.exists(os.path.join(self.directory, "cluster")))

    def test_a_second_up_is_refused_and_harms_nothing(self):
        cluster = self.up()
        with self.assertRaisesRegex(clusters.ClusterError, "up already"):
            clusters.Cluster(self.prefix, self.directory).up(BUILD)
        self.assert_reaches(cluster, "client", "n1")

    def test_sweep_spares_a_cluster_whose_owner_lives(self):
        cluster = self.up()
        self.assertNotIn(self.prefix, clusters.sweep(BASE))
        self.assert_reaches(cluster, "client", "n1")

    def test_sweep_removes_what_a_killed_tool_left_at_any_moment(self):
        program = ("import os, sys; sys.path.insert(0, sys.argv[1]); import cluster\n"
                   "cluster.Cluster(f'{sys.argv[2]}-{os.getpid()}', sys.argv[3]).up(sys.argv[4]); print('up', flush=True)\n"
                   "sys.stdin.read()")
        for delay_ms in (50, 90, 120, 160, 200, 300, 1000):
            directory = os.path.join(self.directory, str(delay_ms))
            with subprocess.Popen([sys.executable, "-c", program, os.path.join(TREE, "tools"), BASE + "-killed", directory,
                                   BUILD], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as tool:
                time.sleep(delay_ms / 1000)
                tool.kill()
            clusters.sweep(BASE + "-killed")
            self.assert_nothing_left(f"{BASE}-killed-{tool.pid}")

    def test_sweep_removes_a_record_that_was_never_finished(self):
        with subprocess.Popen(["true"]) as dead:
            dead.wait()
        prefix = f"{BASE}-killed-{dead.pid}"
        os.makedirs(clusters.REGISTRY, exist_ok=True)
        clusters.write(os.path.join(clusters.REGISTRY, prefix + ".new"), "{")
        clusters.sweep(BASE + "-killed")
        self.assertEqual(leftovers(prefix), [])

    def test_sweep_removes_directories_of_dead_processes_with_what_is_mounted_there(self):
        with subprocess.Popen(["true"]) as dead:
            dead.wait()
        base = BASE + "-left"
        left, own = (tempfile.mkdtemp(prefix=f"{base}-{pid}-") for pid in (dead.pid, os.getpid()))
        self.addCleanup(os.rmdir, own)
        for path in (os.path.join(left, "mount"), os.path.join(left, "mount", "deeper")):
            os.mkdir(path)
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
        clusters.sweep(base)
        self.assertFalse(os.path.exists(left))
        self.assertTrue(os.path.exists(own))
        with open("/proc/mounts", encoding="utf-8") as mounts:
            self.assertNotIn(left, mounts.read())


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces and control groups")
        sys.exit(77)
    if len(sys.argv) > 1:
        BUILD = sys.argv.pop(1)
    for leftover in clusters.sweep(BASE):
        print(f"removed {leftover} of an earlier run")
    suite.main(sys.argv[1:])
