#!/usr/bin/env python3
"""The demo as users run it, watched by the ten-line subscriber of the README: test_demo.py BUILD_DIR"""
import os
import re
import subprocess
import sys
import tempfile

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
TIMELINE = ("n1 killed", "suspected", "verdict", "gate closed", "lease ended", "placed", "armed", "restored", "first answer")
TOPICS = ("ckpt.committed", "member.suspect", "member.dead", "ve.placed", "ve.restored", "ve.recovered")


def fail(text, said):
    print(said)
    sys.exit(f"test_demo: {text}")


def main():
    with tempfile.TemporaryDirectory(prefix="dst-demo-") as directory:
        path = os.path.join(directory, "events")
        done = subprocess.run([os.path.join(TREE, "tools", "demo"), "--listen", path, sys.argv[1]], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        said = done.stdout
        if done.returncode != 0 or not said.rstrip().endswith("demo: ok"):
            fail(f"exit code {done.returncode}", said)
        for mark in TIMELINE:
            if not re.search(rf"^{mark} +-?\d+ ms\b", said, re.MULTILINE):
                fail(f"no line for {mark}", said)
        with open(path, encoding="utf-8") as file:
            printed = file.read()
        for topic in TOPICS:
            if not re.search(rf"^{re.escape(topic)} \w+ {{", printed, re.MULTILINE):
                fail(f"the subscriber printed no {topic}", said + printed)
    print(said)


if __name__ == "__main__":
    main()
