#!/usr/bin/env python3
"""Debian's redis, nginx, PostgreSQL, Python and Tomcat, unchanged, on three real nodes: each is put under load, checkpointed by its
schedule meanwhile, and lost with its node; memory, files and processes of what goes on elsewhere must agree.

usage: test_services.py BUILD_DIR [TEST ...]

The bundles are made by the recipes of docs/examples/services. What is judged needs no luck with time: a count is taken, then two more
checkpoints are waited for, the second of which was begun after it; so what comes back has at least that count, whenever the node dies.
"""
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools"))
sys.dont_write_bytecode = True
import cluster as clusters  # noqa: E402
import scenario  # noqa: E402
import suite  # noqa: E402

BUILD = sys.argv.pop(1) if len(sys.argv) > 1 else os.path.join(TREE, "build")
BASE = "dst-services"
RECIPES = os.path.join(TREE, "docs", "examples", "services")
PATIENCE_S = 180.0  # the longest wait for what must come
AGAIN = 10  # answers after the loss that show that a service goes on

# Asks for PATH one after the other, {n} being the number of the try, and writes down each answer: the time and the last number of the
# body, or of the path where it has one; "lost" for none.
ASK = r"""
import http.client, re, sys, time
host, port, path, record = sys.argv[1], int(sys.argv[2]), sys.argv[3], open(sys.argv[4], "a", buffering=1)
connection, cookie, n = None, None, 0
while True:
    n += 1
    try:
        connection = connection or http.client.HTTPConnection(host, port, timeout=5)
        connection.request("GET", path.format(n=n), headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse(); body = answer.read().decode()
        if answer.status != 200: raise OSError(f"status {answer.status}")
        cookie = (answer.getheader("Set-Cookie") or cookie or "").partition(";")[0]
        record.write(f"{time.monotonic_ns()} {n if '{n}' in path else re.search('[0-9]+', body)[0]}\n")
    except (OSError, http.client.HTTPException) as error:
        record.write(f"{time.monotonic_ns()} lost {error}\n"); connection = None; time.sleep(0.2)
    time.sleep(0.005)
"""


def wait_until(what, condition, seconds=PATIENCE_S):
    return clusters.wait_for(what, condition, seconds, 0.1, AssertionError)


class Service:
    """One service, its VE and its load; what is asked of it from the client's node."""

    name = address = ""
    interval = "3s"

    def __init__(self, cluster, directory):
        self.cluster, self.directory = cluster, directory
        self.record = scenario.Record(os.path.join(directory, self.name + ".record"))
        self.load = None
        self.floor = 0  # what a checkpoint has in it for certain

    def bundle(self):
        out = os.path.join(self.directory, self.name)
        subprocess.run([os.path.join(RECIPES, self.name), out], check=True)
        return out

    def client(self, *command):
        """What a command says on the client's node; None: it fails, or says nothing in a minute."""
        done = self.cluster.run("client", ["timeout", "60", *command], capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    def get(self, path, port):
        return self.client("curl", "--silent", "--fail", "--connect-timeout", "5", f"http://{self.address}:{port}{path}")

    def begin(self):
        self.load = self.cluster.popen("client", self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)

    def end(self):
        if self.load:
            self.load.kill()
            self.load.wait()
            self.load = None

    def asking(self, port, path):
        return ["/usr/bin/python3", "-c", ASK, self.address, str(port), path, self.record.path]

    def command(self):
        raise NotImplementedError

    def is_up(self):
        """Whether it answers."""
        raise NotImplementedError

    def prepare(self):
        """What it needs before its load."""

    def seen(self):
        """How many requests it has acknowledged, as a number that its state must have again."""
        return self.record.lines()[-1][1] if os.path.exists(self.record.path) and self.record.lines() else 0

    def since(self, ns):
        return [value for at, value in self.record.lines() if at > ns]

    def goes_on(self, ns):
        return len(self.since(ns)) >= AGAIN

    def judge(self, test, killed_ns):
        """The first value that it told after the loss follows its checkpoint's state: no older, and nothing that nobody asked for."""
        before = [value for at, value in self.record.lines() if at <= killed_ns]
        first = self.since(killed_ns)[0]
        test.assertGreater(first, self.floor, f"{self.name} is older than a checkpoint that was committed")
        test.assertLessEqual(first, before[-1] + 2 + len(self.record.losses()), f"{self.name} counts what nobody asked for")


class Redis(Service):
    name, address = "redis", "10.77.0.101"

    def command(self):
        return [os.path.join(TREE, "tools", "demo-client"), self.address, "6379", self.record.path]

    def is_up(self):
        return self.client("redis-cli", "-h", self.address, "ping") == "PONG\n"

    def judge(self, test, killed_ns):
        super().judge(test, killed_ns)

        def agree():
            """At once, but for what a client that is gone has still sent."""
            with open(test.file(self, "data/appendonlydir/appendonly.aof.1.incr.aof"), "rb") as file:
                written = file.read().count(b"\r\nINCR\r\n")
            return str(written) == (self.client("redis-cli", "-h", self.address, "get", "counter") or "").strip()
        wait_until("the log of writes to be what is in memory", agree)


class Nginx(Service):
    name, address = "nginx", "10.77.0.102"

    def command(self):
        return self.asking(80, "/?n={n}")

    def is_up(self):
        return self.get("/", 80)

    def judge(self, test, killed_ns):
        with open(test.file(self, "var/log/nginx/access.log"), encoding="ascii") as file:
            lines = file.readlines()
        logged = [int(n) for n in re.findall(r'"GET /\?n=(\d+) HTTP/1.1" 200 ', "".join(lines))]
        asked = [value for _, value in self.record.lines()]
        test.assertEqual(len(logged), len(set(logged)), "a request is in the log twice")
        test.assertLessEqual({n for n in asked if n <= self.floor}, set(logged), "the log lacks what was answered before the checkpoint")
        test.assertGreater(max(logged), max(n for at, n in self.record.lines() if at <= killed_ns), "nothing new is in the log")
        status = self.get("/status", 8080).split()
        handled, active = int(status[9]), int(status[2])  # handled: this request, too, which no log has
        test.assertLessEqual(abs(handled - len(lines) - 1), active + len(self.record.losses()) + 1,
                             "what the workers count together in memory is not what they logged")
        workers = test.cluster.run(test.node(self), ["pgrep", "-f", "nginx: worker"], capture_output=True, text=True).stdout.split()
        test.assertEqual(len(workers), os.cpu_count(), "nginx has lost workers")


class Python(Service):
    name, address = "python", "10.77.0.103"

    def command(self):
        return self.asking(8000, "/count")

    def is_up(self):
        return self.get("/state", 8000)

    def judge(self, test, killed_ns):
        super().judge(test, killed_ns)
        state = json.loads(self.get("/state", 8000))
        test.assertEqual(len(set(state.values())), 1, f"memory and files disagree: {state}")


class PostgreSQL(Service):
    name, address = "postgresql", "10.77.0.104"
    interval = "4s"
    sums = "select sum(abalance) from pgbench_accounts union all select sum(bbalance) from pgbench_branches union all " \
           "select sum(tbalance) from pgbench_tellers union all select sum(delta) from pgbench_history"

    def pgbench(self, *options):
        return ["env", "PGCONNECT_TIMEOUT=5", "pgbench", "--host", self.address, "--username", "postgres", *options, "postgres"]

    def sql(self, text):
        out = self.client("env", "PGCONNECT_TIMEOUT=5", "psql", "--host", self.address, "--username", "postgres", "--no-psqlrc", "--tuples-only", "--no-align",
                          "--command", text, "postgres")
        return None if out is None else out.split("\n")[:-1]

    def prepare(self):
        self.cluster.run("client", self.pgbench("--initialize", "--quiet"), check=True, stderr=subprocess.DEVNULL)

    def command(self):
        return ["sh", "-c", 'while :; do setpriv --pdeathsig KILL "$@"; sleep 0.2; done', "sh",
                *self.pgbench("--no-vacuum", "--client", "3", "--time", "3600", "--rate", "100")]

    def is_up(self):
        return self.sql("select 1")

    def seen(self):
        found = self.sql("select count(*) from pgbench_history")
        return int(found[0]) if found else 0

    def goes_on(self, ns):
        return self.seen() >= self.resumed + AGAIN

    def judge(self, test, killed_ns):
        test.assertGreaterEqual(self.resumed, self.floor, "a transaction that a committed checkpoint has in it is gone")
        self.judge_sums(test, "after the restore")
        test.assertEqual(self.sql("create extension if not exists amcheck"), ["CREATE EXTENSION"])
        test.assertEqual(self.sql("select count(bt_index_check(indexrelid, true)) > 0 from pg_index join pg_class on pg_class.oid = "
                                  "indexrelid where relname like 'pgbench%'"), ["t"], "an index is not that of its table")
        self.judge_wal(test)

    def judge_sums(self, test, when):
        sums = self.sql(self.sums)
        test.assertEqual((len(sums), len(set(sums))), (4, 1), f"a transaction is torn {when}: {sums}")

    def judge_wal(self, test):
        """One of its processes dies, so that it begins anew from its files and its log: they hold what it had in memory."""
        wait_until("the last transaction", lambda: self.sql(
            "select count(*) from pg_stat_activity where backend_type = 'client backend' and state <> 'idle' and "
            "pid <> pg_backend_pid()") == ["0"])
        began = "select backend_start from pg_stat_activity where backend_type = 'walwriter'"
        before, told = wait_until("its log's writer", lambda: self.sql(began)), wait_until("its transactions", self.seen)
        killed = test.cluster.run(test.node(self), ["pkill", "-9", "-f", "postgres: walwriter"])
        test.assertEqual(killed.returncode, 0)
        wait_until("PostgreSQL to recover from its log", lambda: self.sql(began) not in (None, [], before))
        test.assertEqual(wait_until("its transactions", self.seen), told, "the log lacks a transaction that was committed")
        self.judge_sums(test, "after a recovery from the log")


class Tomcat(Service):
    name, address = "tomcat", "10.77.0.105"
    interval = "6s"

    def command(self):
        return self.asking(8080, "/counter/")

    def is_up(self):
        return self.get("/counter/", 8080)

    def judge(self, test, killed_ns):
        super().judge(test, killed_ns)
        state = json.loads(self.get("/counter/", 8080))
        test.assertEqual(state["session"], 1, "a client without a cookie has a session")
        test.assertEqual(state["total"], state["file"], "memory and files disagree")


class Services(unittest.TestCase):
    """Their life in the order of the tests: five VEs on n1, which is lost once."""

    kinds = (Redis, Nginx, Python, PostgreSQL, Tomcat)

    @classmethod
    def setUpClass(cls):
        cls.directory, cls.cluster = suite.new_cluster(BASE, cls.addClassCleanup)
        cls.services = [kind(cls.cluster, cls.directory) for kind in cls.kinds]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            bundles = [pool.submit(service.bundle) for service in cls.services]
            cls.cluster.up(BUILD, nodes=3, config_extra=scenario.CONFIGURATION)
            scenario.wait_ready(cls.cluster)
            for service, bundle in zip(cls.services, bundles):
                cls.addClassCleanup(service.end)
                scenario.depctl(cls.cluster, "n1", "--timeout", "300s", "ve", "run", service.name, bundle.result(), "--address",
                                f"{service.address}/24", "--node", "n1", "--interval", service.interval, "--copies", "1")
        cls.killed_ns = 0

    def fact(self, service):
        listed = scenario.depctl(self.cluster, "n2", "ve", "ls", check=False) or []
        return next((ve for ve in listed if ve["name"] == service.name), None)

    def node(self, service):
        return wait_until(f"the placement of {service.name}", lambda: self.fact(service))["node"]

    def file(self, service, path):
        """A file that a service has written, where it runs now."""
        node = self.node(service)
        return f"/proc/{self.cluster.pid(node)}/root/var/lib/depsys/ved/ve/{service.name}/upper/{path}"

    def newest(self, service):
        listed = scenario.depctl(self.cluster, "n2", "ckpt", "ls", service.name, check=False) or []
        return max((c["id"] for c in listed if c["ve"] == service.name), default=0)

    def wait_newer(self, service, newer_than):
        return wait_until(f"a checkpoint of {service.name} after {newer_than:x}",
                          lambda: (found := self.newest(service)) > newer_than and found)

    def test_10_they_run_unchanged_and_take_their_load(self):
        for service in self.services:
            with self.subTest(service.name):
                wait_until(f"{service.name} to answer", service.is_up)
                service.prepare()
                service.begin()
        for service in self.services:
            with self.subTest(service.name):
                wait_until(f"{service.name} to have done something", service.seen)

    def test_20_they_are_checkpointed_under_load_by_their_schedule(self):
        for service in self.services:
            service.floor = wait_until(f"{service.name} to be seen", service.seen)
        for service in self.services:
            with self.subTest(service.name):
                self.wait_newer(service, self.wait_newer(service, self.newest(service)))

    def test_30_their_node_is_lost_and_they_go_on_elsewhere(self):
        database = next(service for service in self.services if service.name == "postgresql")
        self.cluster.kill("n1")
        database.end()  # so that what it has again can be told from what is done anew
        type(self).killed_ns = time.monotonic_ns()
        for service in self.services:
            with self.subTest(service.name):
                wait_until(f"{service.name} to be placed elsewhere", lambda s=service: self.node(s) in ("n2", "n3"))
                wait_until(f"{service.name} to answer elsewhere", service.is_up)
        database.resumed = wait_until("its transactions", database.seen)
        database.begin()
        for service in self.services:
            with self.subTest(service.name):
                wait_until(f"{service.name} to go on", lambda s=service: s.goes_on(self.killed_ns))

    def test_40_memory_files_and_processes_agree(self):
        for service in self.services:
            service.end()
        for service in self.services:
            with self.subTest(service.name):
                service.judge(self, self.killed_ns)

    def test_50_what_goes_on_is_checkpointed_again(self):
        for service in self.services:
            with self.subTest(service.name):
                self.wait_newer(service, self.newest(service))

    def test_60_what_cannot_be_checkpointed_is_told_with_its_reason_and_goes_on(self):
        bundle = os.path.join(self.directory, "uring")
        subprocess.run([os.path.join(TREE, "tools", "bundle"), "--out", bundle, "--program",
                        os.path.join(BUILD, "tests", "system", "unwritable"), "--", "uring"], check=True)
        listening = [scenario.Events(self.cluster, node) for node in ("n2", "n3")]
        for events in listening:
            self.addCleanup(events.close)
        scenario.depctl(self.cluster, "n2", "ve", "run", "uring", bundle, "--address", "10.77.0.106/24", "--node", "n3", "--interval", "0s")

        def answer():
            ask = "import socket; print(socket.create_connection(('10.77.0.106', 7000), 10).recv(99).decode())"
            return self.cluster.run("client", ["python3", "-c", ask], capture_output=True, text=True).stdout.strip()
        wait_until("the service to answer", answer)

        def refused():
            """What is said of it, once nothing else is in the way."""
            done = self.cluster.run("n2", ["depctl", "--timeout", "60s", "ckpt", "create", "uring"], capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0, "what cannot be written down has a checkpoint")
            return "the service uses io_uring" in done.stderr and done.stderr
        print(f"# {wait_until('the reason', refused)}", end="")
        told = wait_until("the event", lambda: next((e for events in listening for e in events.all("ckpt.aborted", ve="uring")
                                                     if "the service uses io_uring" in e["body"].get("detail", "")), None))
        self.assertEqual(told["body"]["reason"], "dump")
        self.assertEqual(answer(), "here", "the service does not go on")


if __name__ == "__main__":
    suite.main(sys.argv[1:])
