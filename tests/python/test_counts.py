"""What a spawn and a call cost: system calls and page faults, which are exact on any machine.

A limit that is passed means work on the hot path that was not there: docs/design.md says why each
of these calls is. One that got smaller is to be lowered here.
"""

import collections
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from cleanfork import _cleanfork

from support import DEADLINE

HELPERS = os.environ.get(
    "CLEANFORK_TEST_HELPERS",
    os.path.join(os.path.dirname(_cleanfork.__file__), "../../bin/test-helpers"))
DAEMON = os.path.join(os.path.dirname(_cleanfork.__file__), "cleanforkd")

FEW, MANY = 10, 30  # the difference is of so many calls, and of nothing else

# How often the forkserver's loop turns, and looks whether a child has begun, depends on what comes
# at once: apart, and with room.
TURNS = ("epoll_wait", "epoll_ctl", "recvmsg", "timerfd_settime", "futex", "poll")
# At most, for one: forkserver, its turns, template, child. Under strace a program takes longer to
# begin than the loop waits for; and of a warm call the forkserver is asked besides.
LIMITS = {"exec": (8.2, None, 0, 14), "cold": (24.2, 24, 11.5, 22), "warm": (None, None, 11.5, 27)}
FAULTS = {"exec": 4, "cold": 48}  # of the child


class Traced:
    """A forkserver, and all that it starts, under strace."""

    def __init__(self, test):
        self._place = test.enterContext(tempfile.TemporaryDirectory())
        self._log = os.path.join(self._place, "log")
        path = os.path.join(self._place, "s")
        self._strace = subprocess.Popen(["strace", "-f", "-qq", "-o", self._log, DAEMON,
                                         "--socket", path], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE
        while not os.path.exists(path):
            if time.monotonic() > deadline:
                raise AssertionError("the forkserver does not listen")
            time.sleep(0.01)
        self.client = _cleanfork.connect(path)
        self.pid = self.client.server["pid"]

    def end(self):
        """Of each process by its number: how many of each call."""
        self.client.close()
        os.kill(self.pid, signal.SIGTERM)
        self._strace.wait(DEADLINE)
        counts = collections.defaultdict(collections.Counter)
        with open(self._log) as log:
            for line in log:
                pid, what = line.split(None, 1)
                if not what.startswith(("<...", "+++", "---")):  # the rest of a call, no call
                    counts[int(pid)][what.partition("(")[0]] += 1
        return counts


@unittest.skipIf(shutil.which("strace") is None, "strace is not installed")
class Counts(unittest.TestCase):
    def run_many(self, kind, number):
        """The calls of forkserver, template and the last child; that one's usage."""
        traced = Traced(self)
        client, template = traced.client, 0
        if kind != "exec":
            info = client.add_template("t", os.path.join(HELPERS, "template_program"), [],
                                       warm=2 if kind == "warm" else 0)
            template = info["generations"][0]["pid"]
        for _ in range(number):
            if kind == "exec":
                process = client.spawn(os.path.join(HELPERS, "nothing"), [])
            else:
                process = client.call("t", "nothing", b"")
            status = process.wait(DEADLINE)
            self.assertTrue(status.exited and status.code == 0, status)
            deadline = time.monotonic() + DEADLINE
            while kind == "warm" and self.warm(client) < 2:  # its place is filled
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.005)
        usage, pid = process.usage, process.pid
        counts = traced.end()
        return counts[traced.pid], counts[template], counts[pid], usage

    @staticmethod
    def warm(client):
        return len(client.template_info("t")["generations"][0]["warm_pids"])

    def check(self, kind):
        few, many = self.run_many(kind, FEW), self.run_many(kind, MANY)
        each = [{call: (many[i][call] - few[i][call]) / (MANY - FEW) for call in many[i]}
                for i in range(2)] + [many[2]]
        turns = {call: each[0].pop(call, 0) for call in TURNS}
        names = ("forkserver", "its turns", "template", "child")
        for who, calls, limit in zip(names, (each[0], turns, *each[1:]), LIMITS[kind]):
            told = {call: count for call, count in calls.items() if count > 0.1}
            if limit is not None:
                self.assertLessEqual(sum(calls.values()), limit, f"{kind}, {who}: {told}")
        if kind in FAULTS:
            self.assertLessEqual(many[3][6], FAULTS[kind], f"page faults of a child, {kind}")

    def test_of_a_program(self):
        self.check("exec")

    def test_of_a_call(self):
        self.check("cold")

    def test_of_a_warm_call(self):
        self.check("warm")


if __name__ == "__main__":
    unittest.main()
