#!/usr/bin/env python3
"""test_meta.py BUILD: the store of facts in its operator's hands: a disk that fills up, export and import.

Each test has metads of its own in network namespaces (test_metad.py makes them), their state on a small tmpfs. Prints TAP.
"""
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys

import test_metad as metads
from test_metad import Client, Failed, put, wait_for

DISK_MB = 80
FREE_MB = 48  # min_free_mb: above it a voter starts; under half of it nothing is written
NEARLY_FULL_MB = 20


class Cluster(metads.Cluster):
    """Metads whose state is on disks of their own that can be filled."""

    def __init__(self, build, names, voters):
        metads.NODES = names
        self.voters = voters
        super().__init__(os.path.join(build, "metad", "metad"))
        self.build = build
        for node in self.nodes:
            os.makedirs(node.path("state"))
            metads.sh("mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "tmpfs", node.path("state"))
            node.write_config = lambda nodes, node=node: self.configure(node, nodes)

    def configure(self, node, nodes):
        metads.Node.write_config(node, nodes)
        with open(node.path("depsys.conf")) as conf:
            text = conf.read()
        with open(node.path("depsys.conf"), "w") as conf:
            conf.write(text.replace("min_free_mb = 1\n", f"min_free_mb = {FREE_MB}\n")
                       .replace(f"voters = {' '.join(metads.NODES)}\n", f"voters = {self.voters}\n"))

    def depctl(self, node, *words):
        """Exit code, and all that it said."""
        done = subprocess.run(
            [os.path.join(self.build, "depctl", "depctl"), "--config", node.path("depsys.conf"), "--timeout", "60s", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def wipe(self):
        """All stores are lost, and made anew."""
        for node in self.nodes:
            node.kill()
            metads.sh("sh", "-c", f"rm -r {node.path('state')}/metad/[dvb]*")
        for node in self.nodes:
            node.start()
        self.wait_leader()

    def down(self):
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.kill(signal.SIGCONT)
                node.kill()
            metads.sh("umount", "-l", node.path("state"), check=False)
        super().down()


@contextlib.contextmanager
def cluster(build, *names, voters=None, late=()):
    made = Cluster(build, names, voters or " ".join(names))
    for node in made.nodes:
        if node.name in late:
            node.start = lambda: None  # once: by up()
    try:
        made.up()
        for node in made.nodes:
            node.__dict__.pop("start", None)
        made.wait_leader()
        yield made
    except BaseException:
        for node in made.nodes:
            print("\n".join(f"# {node.name}: {line[:300]}" for line in node.log().splitlines()[-15:]))
        raise
    finally:
        made.down()


def fill(node, left_mb):
    """To what is left then, whatever metad itself writes meanwhile."""
    with open(node.path("state", "fill"), "wb", buffering=0) as file:
        while os.statvfs(node.path("state")).f_bavail * 4096 >> 20 > left_mb:
            file.write(bytes(1 << 20))


def refused(client, *ops):
    """What a write was refused with; None when its fate is not known yet."""
    try:
        reply = client.txn(*ops)
        assert reply["result"] == "unknown", reply
    except Failed as failed:
        return str(failed)
    return None


def a_leader_with_a_full_disk_refuses_writes_answers_reads_and_goes_on_when_there_is_room(build):
    with cluster(build, "n1") as made:
        node, client = made.nodes[0], Client(made.nodes[0])
        client.apply(put("a", b"before"))
        fill(node, NEARLY_FULL_MB)
        for _ in range(20):
            assert "nearly full" in wait_for("a refusal", lambda: refused(client, put("a", b"full")))
        assert client.get("a")[1] == b"before"
        wait_for("a warning", lambda: "nearly full" in node.log())
        os.unlink(node.path("state", "fill"))
        assert client.apply(put("a", b"after"))["result"] == "applied"
        node.kill()
        fill(node, NEARLY_FULL_MB)
        node.start()
        assert node.process.wait(timeout=60) == 1, "it started on a full disk"
        assert "min_free_mb" in node.log(), node.log()
        os.unlink(node.path("state", "fill"))
        node.start()
        wait_for("a read", lambda: client.get("a")[1] == b"after")


def a_follower_with_a_full_disk_falls_back_and_catches_up(build):
    with cluster(build, "n1", "n2", "n3") as made:
        leader = made.wait_leader()
        follower = next(node for node in made.nodes if node is not leader)
        client = Client(leader)
        fill(follower, NEARLY_FULL_MB)
        # More than the log keeps for who is behind, so that it also takes a snapshot.
        for n in range(300):
            client.apply(put(f"k/{n % 10}", b"%d" % n))
        assert follower.process.poll() is None
        os.unlink(follower.path("state", "fill"))
        # Its word is needed now: nothing is agreed on before it has caught up.
        next(node for node in made.nodes if node not in (leader, follower)).kill()
        assert client.apply(put("last", b"x"))["result"] == "applied"
        assert Client(follower).get("k/9")[1] == b"299"


def exported(made, node):
    status, said = made.depctl(node, "meta", "export")
    assert status == 0, said
    path = said.split(": ")[0]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    copy = node.path("facts.jsonl")
    metads.sh("cp", path, copy)
    return copy


def facts_that_were_exported_are_back_after_all_stores_were_lost(build):
    values = {f"ve/v{n}": os.urandom(n * 37) for n in range(300)}
    values['odd/"\\'] = b"\0\xff"
    with cluster(build, "n1") as made:
        node, client = made.nodes[0], Client(made.nodes[0])
        for key, value in values.items():
            client.apply(put(key, value))
        client.apply(put("coord/test", b"old"))
        path = exported(made, node)
        status, said = made.depctl(node, "meta", "import", path)
        assert status == 0, f"what is there already is no obstacle: {said}"
        client.apply(put("other", b"x"))
        status, said = made.depctl(node, "meta", "import", path)
        assert status == 1 and "not empty: it has other" in said, said

        made.wipe()
        client = Client(node)
        assert wait_for("a read", lambda: client.ask("metad.get", {"key": "ve/v1"}))["entry"]["v"] == 0
        client.apply(put("coord/test", b"new"))
        with open(path) as file:
            lines = file.readlines()
        assert json.loads(lines[-1])["facts"] == len(lines) - 2 == len(values) + 1
        with open(path + ".cut", "w") as file:
            file.writelines(lines[:-1])
        status, said = made.depctl(node, "meta", "import", path + ".cut")
        assert status == 2 and "cut" in said, said
        status, said = made.depctl(node, "meta", "import", path)
        assert status == 0, said
        found = {key: value for key, _, value in client.scan("")}
        assert found == {**values, "coord/test": b"old"}


def states(made, node):
    """What meta status says: a node's state by its name."""
    _, said = made.depctl(node, "-o", "json", "meta", "status")
    try:
        rows, _ = json.JSONDecoder().raw_decode(said[max(0, said.find("[{")):])  # what is wrong is said around it
    except ValueError:
        return {}
    return {row["voter"]: row["state"] for row in rows}


def done(made, node, *words):
    """A change of the voters, which at first may find that others are not there yet."""
    def attempt():
        status, said = made.depctl(node, "meta", *words)
        attempt.said = said
        return status == 0
    try:
        wait_for(f"meta {' '.join(words)}", attempt)
    except RuntimeError:
        raise AssertionError(attempt.said)


def refuses(made, node, words, *parts):
    """A change of the voters is refused in these words, as soon as somebody can judge it."""
    def attempt():
        status, said = made.depctl(node, "meta", *words)
        attempt.said = f"{status}: {said}"
        return status == 1 and all(part in said for part in parts)
    try:
        wait_for(f"meta {' '.join(words)} to be refused", attempt)
    except RuntimeError:
        raise AssertionError(attempt.said)


def goes_on(node, key):
    client = Client(node)
    assert client.apply(put(key, b"x"))["result"] == "applied"
    client.close()


def alive_all(made):
    """What was removed has ended to start again; a supervisor does this."""
    for node in made.nodes:
        if node.process.poll() is not None:
            node.start()


def voters_are_added_and_removed_and_the_first_one_can_go(build):
    with cluster(build, "n1", "n2", "n3", voters="n1") as made:
        n1, n2, n3 = made.nodes
        wait_for("one voter", lambda: states(made, n2) == {"n1": "leads"})
        goes_on(n3, "before")
        done(made, n1, "add", "n2")
        done(made, n3, "add", "n3")
        wait_for("three voters", lambda: len(states(made, n2)) == 3 and len(states(made, n3)) == 3)
        refuses(made, n2, ("add", "n3"), "votes already")
        n1.kill()
        goes_on(n2, "without-n1")
        refuses(made, n2, ("remove", "n3"), "no majority", "n1")
        done(made, n2, "remove", "n1")
        n1.start()
        wait_for("n1 to hear of it", lambda: alive_all(made) or set(states(made, n1)) == {"n2", "n3"})
        alive_all(made)
        goes_on(n1, "as-a-client")
        done(made, n3, "remove", "n2")
        wait_for("one voter again", lambda: alive_all(made) or states(made, n1) == {"n3": "leads"})
        alive_all(made)
        refuses(made, n1, ("remove", "n3"), "only voter")
        found = {key for key, _, _ in Client(n1).scan("")}
        assert found == {"before", "without-n1", "as-a-client"}, found


def a_voter_whose_disk_was_lost_does_not_vote_before_it_is_added_anew(build):
    with cluster(build, "n1", "n2", "n3") as made:
        n1, n2, n3 = made.nodes
        goes_on(n1, "before")
        wait_for("all to know the voters", lambda: all(os.path.exists(node.path("state/metad/voters")) for node in made.nodes))
        n3.kill()
        metads.sh("sh", "-c", f"rm -r {n3.path('state')}/metad")
        n3.start()
        wait_for("n3 to say so", lambda: "was lost" in n3.log())
        wait_for("the others to know", lambda: states(made, n1).get("n3") == "store lost")
        n2.kill()
        assert not os.path.exists(n3.path("state/metad/dqlite")), "an empty log votes"
        refuses(made, n1, ("remove", "n3"), "no majority")
        n2.start()
        done(made, n1, "rejoin", "n3")
        wait_for("n3 to vote", lambda: states(made, n1).get("n3") in ("votes", "leads"))
        n2.kill()
        goes_on(n3, "after")
        assert Client(n3).get("before")[1] == b"x"


def a_first_voter_that_comes_when_the_others_have_begun_votes_unless_it_has_voted_before(build):
    with cluster(build, "n1", "n2", "n3", late=("n3",)) as made:
        n1, n2, n3 = made.nodes
        goes_on(n1, "before")
        wait_for("both to know the voters", lambda: all(os.path.exists(node.path("state/metad/voters")) for node in (n1, n2)))
        n3.start()
        wait_for("n3 to vote", lambda: states(made, n1).get("n3") == "votes")
        n2.kill()
        goes_on(n3, "with-n1-and-n3")
        n2.start()
        wait_for("n2 to vote", lambda: states(made, n1).get("n2") in ("votes", "leads"))
        n3.kill()
        metads.sh("sh", "-c", f"rm -r {n3.path('state')}/metad")
        n3.start()
        wait_for("n3 to say that it has lost its log", lambda: "was lost" in n3.log())


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root for network namespaces")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    claims = [
        a_leader_with_a_full_disk_refuses_writes_answers_reads_and_goes_on_when_there_is_room,
        a_follower_with_a_full_disk_falls_back_and_catches_up,
        facts_that_were_exported_are_back_after_all_stores_were_lost,
        voters_are_added_and_removed_and_the_first_one_can_go,
        a_voter_whose_disk_was_lost_does_not_vote_before_it_is_added_anew,
        a_first_voter_that_comes_when_the_others_have_begun_votes_unless_it_has_voted_before,
    ]
    print(f"1..{len(claims)}")
    for number, claim in enumerate(claims, 1):
        if len(sys.argv) < 3 or sys.argv[2] in claim.__name__:
            claim(os.path.abspath(sys.argv[1]))
        print(f"ok {number} - {claim.__name__}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
