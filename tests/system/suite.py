"""How a system test runs, and what it says: the time that each test took, and of a failure, at the end, what one needs to find the
cause: the last lines of the daemons' logs as they were at that moment, by time, and last of all the assertion with its values.

Of a run that nobody watches only the end of the output is kept, so all of it is bounded, and the most telling lines come last.
"""
import os
import shutil
import signal
import sys
import tempfile
import time
import unittest

import cluster as clusters  # the caller has put tools/ on the path

LIMIT_S = 840  # of a whole file, below meson's: the test that hangs is named, and the others are still run
LOGGED_MAX = 2  # failures that are told with logs: what follows from them needs none
LOG_LINES = 40
MESSAGE_HEAD, MESSAGE_TAIL = 12, 24
WIDTH = 400
SANITIZED = "DEPSYS_SANITIZED" in os.environ  # tools/sanitized: the daemons keep freed memory for a while
KEPT_KB = 32 << 10 if SANITIZED else 0


def bounded(text):
    """A text of at most so many lines of at most that width: its beginning and, more of it, its end."""
    lines = [line if len(line) <= WIDTH else line[:WIDTH] + " ..." for line in text.splitlines()]
    if len(lines) > MESSAGE_HEAD + MESSAGE_TAIL:
        lines[MESSAGE_HEAD:-MESSAGE_TAIL] = [f"... {len(lines) - MESSAGE_HEAD - MESSAGE_TAIL} lines left out"]
    return "\n".join(lines)


class Result(unittest.TextTestResult):
    """unittest's, with times, and with the logs as they are when a test fails: its cleanup removes them."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.began = time.monotonic()
        self.logged = 0

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def addSuccess(self, test):
        unittest.TestResult.addSuccess(self, test)
        self.stream.writeln(f"ok, {time.monotonic() - self.began:.1f} s")
        self.stream.flush()

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._with_logs(self.failures, test)

    def addError(self, test, err):
        super().addError(test, err)
        self._with_logs(self.errors, test)

    def addSubTest(self, test, subtest, err):
        before = len(self.failures), len(self.errors)
        super().addSubTest(test, subtest, err)
        for entries, count in zip((self.failures, self.errors), before):
            if len(entries) > count:
                self._with_logs(entries, test)

    def _with_logs(self, entries, test):
        what, text = entries[-1]
        logs = []
        if self.logged < LOGGED_MAX:
            logs = test.logs() if hasattr(test, "logs") else clusters.log_tail(LOG_LINES)
        self.logged += 1
        entries[-1] = what, "\n".join([line[:WIDTH] for line in logs] + [bounded(text)]) + "\n"


def assert_no_bugs(cluster):
    lines = cluster.log_lines(clusters.BUG)
    if lines:
        raise AssertionError("".join(lines))


def new_cluster(base, cleanup):
    """A directory that nodes can read and, in it, that of a cluster which is to be brought up. cleanup: the test's addCleanup or
    the class's addClassCleanup; so they go also when the set-up fails half-way. Before that the daemons' logs are searched for
    what none of them may say, whatever was done to it."""
    clusters.sweep(base)
    prefix = f"{base}-{os.getpid()}"
    directory = tempfile.mkdtemp(prefix=prefix + "-")
    cleanup(shutil.rmtree, directory, True)
    os.chmod(directory, 0o755)
    cluster = clusters.Cluster(prefix, os.path.join(directory, "cluster"))
    cleanup(cluster.down)
    cleanup(assert_no_bugs, cluster)
    return directory, cluster


def over(*_):
    raise TimeoutError(f"this file has run for {LIMIT_S} s")


def runner():
    """Runs tests with these results, and not for ever."""
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGALRM, over)
    signal.alarm(LIMIT_S)
    return unittest.TextTestRunner(verbosity=2, resultclass=Result, descriptions=False)


def main(arguments=(), **options):
    """unittest.main() with such a runner; arguments: names of tests, as unittest takes them."""
    unittest.main(module="__main__", argv=[sys.argv[0], *arguments], testRunner=runner(), **options)
