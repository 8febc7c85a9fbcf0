#!/usr/bin/env python3
"""test_faults.py BUILD_DIR: what can be wrong when a daemon starts: exit code 1 and one clear line that names what and where.

Each daemon runs in a network and a mount namespace of the test's own (ved mounts a BPF file system to see whether it can), against a
directory of its own, and one thing is wrong. Needs root.
"""
import contextlib
import fcntl
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
import cluster as clusters  # noqa: E402
import suite  # noqa: E402

BUILD = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(TREE, "build")
PORT = 7400
WAIT_S = 60  # longer than any start on a loaded machine: only one that goes on regardless takes it
UNPRIVILEGED = 65534
# The ports of each daemon: (offset from the base port, kind), as common/keys.h has them.
PORTS = {
    "busd": ((2, "tcp"), (3, "tcp")),
    "fdd": ((0, "udp"),),
    "gossipd": ((1, "udp"), (11, "tcp")),
    "ckptd": ((12, "tcp"),),
    "migrated": ((13, "tcp"),),
    "gosd": ((14, "tcp"), (15, "tcp")),
    "metad": ((16, "tcp"), (17, "tcp")),
    "ved": (),
    "webd": ((20, "tcp"),),
}
SOCKETS = {"busd": ("busd.rpc", "busd.in", "busd.pub")}


class Site:
    """A directory with what one daemon needs, all of it right; a test makes one thing wrong."""

    def __init__(self, directory):
        self.directory = directory
        self.conf = os.path.join(directory, "depsys.conf")
        self.key = os.path.join(directory, "node.key")
        self.run = os.path.join(directory, "run")
        self.state = os.path.join(directory, "state")
        os.makedirs(self.run)
        os.chmod(directory, 0o755)
        secret, self.public_key = clusters.new_key()
        clusters.write(self.key, secret + "\n", 0o600)
        os.chown(self.key, 0, 0)
        self.configure()

    def configure(self, extra="", state=None, run=None, name="n1"):
        clusters.write(self.conf, "\n".join([
            "[node]", f"name = {name}", "address = 127.0.0.1", f"port = {PORT}", f"key = {self.key}",
            f"run = {run or self.run}", f"state = {state or self.state}", "group =",
            "[peer n1]", "address = 127.0.0.1", f"port = {PORT}", f"key = {self.public_key}", extra]) + "\n")


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        clusters.sweep("dst-faults")
        cls.root = tempfile.mkdtemp(prefix=f"dst-faults-{os.getpid()}-", dir="/tmp")
        os.chmod(cls.root, 0o755)
        cls.namespaces = subprocess.Popen(["unshare", "--net", "--mount", "sh", "-c", "ip link set lo up && echo up && exec sleep 3600"],
                                   stdout=subprocess.PIPE)
        cls.namespaces.stdout.readline()

    @classmethod
    def tearDownClass(cls):
        cls.namespaces.kill()
        cls.namespaces.wait()
        cls.namespaces.stdout.close()
        shutil.rmtree(cls.root, ignore_errors=True)

    def site(self):
        """A fresh one, its path short: a socket's may have 107 bytes."""
        return Site(tempfile.mkdtemp(dir=self.root))

    def start(self, daemon, *options, uid=0):
        command = ["nsenter", "--target", str(self.namespaces.pid), "--net", "--mount"]
        if uid:
            command += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        command += [clusters.find_program(BUILD, daemon), *options]
        if daemon != "ved" and not uid and "--user" not in options:
            command += ["--user", "nobody"]
        prefix = os.environ.get("DEPSYS_PREFIX", os.path.join(TREE, "prefix"))
        return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=WAIT_S, check=False,
                              env={**os.environ, "PATH": f"{prefix}/bin:{prefix}/sbin:{os.environ['PATH']}"})

    def assert_one_line(self, daemon, pattern, *options, status=1, uid=0):
        """It ends by itself, at once, and says why in one line."""
        with self.subTest(daemon=daemon, pattern=pattern):
            try:
                done = self.start(daemon, *options, uid=uid)
            except subprocess.TimeoutExpired as expired:
                self.fail(f"goes on regardless: {(expired.stderr or b'').decode()}")
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertEqual(done.stdout, "")
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertRegex(done.stderr, rf"\A(/.*/)?{daemon}: .*{pattern}")

    # -- options and configuration --

    def test_wrong_options_are_a_usage_error(self):
        site = self.site()
        for daemon in PORTS:
            self.assert_one_line(daemon, "--nonsense", "--nonsense", status=2)
            self.assert_one_line(daemon, "unexpected argument: word", "word", status=2)
            self.assert_one_line(daemon, "--log: loud is not one of", "--config", site.conf, "--log", "loud", status=2)

    def test_a_missing_configuration(self):
        for daemon in PORTS:
            self.assert_one_line(daemon, "/nowhere/depsys.conf: open: No such file", "--config", "/nowhere/depsys.conf")

    def test_a_fault_in_the_configuration_is_told_with_its_line(self):
        for daemon in PORTS:
            for extra, pattern in ((f"[{daemon}]\nnonsense = 1", rf":14: \[{daemon}\]: unknown key nonsense"),
                                   ("[nonsense]", r":13: unknown section \[nonsense\]"),
                                   ("[peer n2]\nport = many", r':14: port: "many" is not a whole number'),
                                   ("[node]\nlog = loud", r':14: log: "loud" is not one of debug'),
                                   ("just words", r":13: expected key = value")):
                site = self.site()
                site.configure(extra)
                self.assert_one_line(daemon, re.escape(site.conf) + pattern, "--config", site.conf)

    def test_a_value_out_of_range_is_told_with_the_range(self):
        for daemon, key in (("busd", "log_mb"), ("fdd", "interval_ms"), ("gosd", "quota_mb"), ("migrated", "scan_ms")):
            site = self.site()
            site.configure(f"[{daemon}]\n{key} = -7")
            self.assert_one_line(daemon, rf":14: {key}: -7 is not in \d", "--config", site.conf)

    def test_a_node_that_is_not_in_its_own_list(self):
        for daemon in PORTS:
            site = self.site()
            site.configure(name="n9")
            self.assert_one_line(daemon, "n9", "--config", site.conf)

    # -- keys --

    def test_a_key_file_that_is_not_there(self):
        for daemon in PORTS:
            site = self.site()
            os.unlink(site.key)
            self.assert_one_line(daemon, f"{re.escape(site.key)}: No such file", "--config", site.conf)

    def test_a_key_file_that_others_can_read(self):
        for daemon in PORTS:
            site = self.site()
            os.chmod(site.key, 0o644)
            self.assert_one_line(daemon, f"{re.escape(site.key)}: mode 0644", "--config", site.conf)

    def test_a_key_file_with_something_else(self):
        for daemon in PORTS:
            site = self.site()
            clusters.write(site.key, "-----BEGIN PRIVATE KEY-----\n")
            self.assert_one_line(daemon, f"{re.escape(site.key)}: not 64 hex digits", "--config", site.conf)
            clusters.write(site.key, clusters.new_key()[0] + "\n")
            self.assert_one_line(daemon, rf"{re.escape(site.key)} does not belong to \[peer n1\]", "--config", site.conf)

    # -- ports and paths that others hold --

    @contextlib.contextmanager
    def held_port(self, offset, kind):
        code = ("import socket,sys,time\n"
                f"s=socket.socket(socket.AF_INET,socket.{'SOCK_DGRAM' if kind == 'udp' else 'SOCK_STREAM'})\n"
                f"s.bind(('127.0.0.1',{PORT + offset}))\n{'' if kind == 'udp' else 's.listen()'}\n"
                "print(flush=True)\ntime.sleep(3600)")
        holder = subprocess.Popen(["nsenter", f"--net=/proc/{self.namespaces.pid}/ns/net", sys.executable, "-c", code],
                                  stdout=subprocess.PIPE)
        try:
            holder.stdout.readline()
            yield
        finally:
            holder.kill()
            holder.wait()
            holder.stdout.close()

    def test_a_busy_port(self):
        for daemon, ports in PORTS.items():
            for offset, kind in ports:
                site = self.site()
                with self.held_port(offset, kind):
                    self.assert_one_line(daemon, rf"127\.0\.0\.1.*\b{PORT + offset}: Address already in use", "--config", site.conf)

    def test_a_socket_path_that_a_live_process_holds(self):
        for daemon in PORTS:
            for name in SOCKETS.get(daemon, (f"{daemon}.rpc",)):
                site = self.site()
                path = os.path.join(site.run, name)
                with socket.socket(socket.AF_UNIX) as live:
                    live.bind(path)
                    live.listen()
                    os.chmod(path, 0o666)
                    self.assert_one_line(daemon, f"{re.escape(path)}: Address already in use", "--config", site.conf)
                    if daemon != "ved":  # root may ask everybody
                        os.chmod(path, 0o600)
                        self.assert_one_line(daemon, f"{re.escape(path)}: Permission denied", "--config", site.conf)
                    self.assertTrue(os.path.exists(path))

    def test_a_second_instance(self):
        for daemon in PORTS:
            for name in SOCKETS.get(daemon, (f"{daemon}.rpc",)):
                site = self.site()
                with open(os.path.join(site.run, f"{name}.lock"), "w", encoding="ascii") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    os.chmod(lock.name, 0o666)
                    self.assert_one_line(daemon, f"{re.escape(name)}: Address already in use", "--config", site.conf)

    # -- directories and privilege --

    def test_directories_that_cannot_be_made(self):
        for daemon in PORTS:
            for place in ("state", "run"):
                site = self.site()
                clusters.write(os.path.join(site.directory, "file"), "")
                path = os.path.join(site.directory, "file", place)
                site.configure(**{place: path})
                self.assert_one_line(daemon, f"{re.escape(path)}: Not a directory", "--config", site.conf)

    def test_a_state_directory_that_may_not_be_written(self):
        for daemon in set(PORTS) - {"ved"}:
            site = self.site()
            os.chown(site.key, UNPRIVILEGED, UNPRIVILEGED)
            os.chmod(site.run, 0o777)
            os.mkdir(site.state, 0o755)
            self.assert_one_line(daemon, f"{re.escape(site.state)}/{daemon}: Permission denied", "--config", site.conf,
                                 uid=UNPRIVILEGED)

    def test_a_run_directory_that_may_not_be_written(self):
        for daemon in set(PORTS) - {"ved"}:
            site = self.site()
            os.chown(site.key, UNPRIVILEGED, UNPRIVILEGED)
            os.mkdir(site.state)
            os.chmod(site.state, 0o777)
            self.assert_one_line(daemon, f"{re.escape(site.run)}/{daemon}.rpc: Permission denied", "--config", site.conf,
                                 uid=UNPRIVILEGED)

    def test_ved_needs_root(self):
        site = self.site()
        os.chown(site.key, UNPRIVILEGED, UNPRIVILEGED)
        for path in (site.run, site.directory):
            os.chmod(path, 0o777)
        self.assert_one_line("ved", "root", "--config", site.conf, uid=UNPRIVILEGED)

    def test_a_user_or_a_group_that_is_not_there(self):
        for daemon in set(PORTS) - {"ved"}:
            site = self.site()
            self.assert_one_line(daemon, "no user nobody-there", "--config", site.conf, "--user", "nobody-there")
        for daemon in PORTS:
            site = self.site()
            site.configure("[node]\ngroup = nobody-there")
            self.assert_one_line(daemon, "group", "--config", site.conf)


if __name__ == "__main__":
    suite.main(sys.argv[2:])
