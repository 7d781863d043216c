"""What a spawn and a call cost: system calls, page faults and wake-ups, which are exact on any
machine.

A limit that is passed means work on the way of a request that was not there: docs/design.md says
why each of these calls is. One that got smaller is to be lowered here. `python3 test_counts.py
--table` prints what each does.
"""

import collections
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HELPERS = os.environ.get("CLEANFORK_TEST_HELPERS",
                         os.path.join(os.path.dirname(__file__), "../../build/dev/bin/test-helpers"))
TURNS = 40
TRIES = 10
WHO = ("client", "daemon", "template", "child")

# System calls at most of each, for one; None: not this kind's. Faults are the child's.
# exec3: with descriptors 0 to 2. run: the exit comes in the reply.
LIMITS = {
    "exec": {"client": 8, "daemon": 11, "child": 10},
    "exec3": {"client": 8, "daemon": 18, "child": 11},
    "run": {"client": 5, "daemon": 10, "child": 10},
    "cold": {"client": 5, "daemon": 22, "template": 12, "child": 22},
    "warm": {"client": 8, "daemon": 40, "template": 12, "child": 22},
}
# How often client, forkserver and template are woken, at most: what comes while somebody is awake
# wakes nobody. Of a warm call that the pool is filled is asked for as well.
WAKE_UPS = {"exec": (2, 3), "exec3": (2, 3), "run": (1, 3), "cold": (1, 3, 2)}
FAULTS = {"exec": 4, "exec3": 4, "run": 4, "cold": 48, "warm": 60}


class Trace:
    """What strace(1) has told of `counted`: per turn, the calls of each of WHO."""

    def __init__(self, lines):
        self.turns = []  # {who: Counter}
        self.faults = []
        self._pids = {}
        self._of_pid = collections.defaultdict(collections.Counter)
        for line in lines:
            pid, what = line.split(None, 1)
            self._pids.setdefault("client", int(pid))  # the first is its own
            if what.startswith("write(-1, "):
                self._mark(what.split('"')[1].split())
            elif not what.startswith(("<...", "+++", "---")):  # the rest of a call, no call
                self._of_pid[int(pid)][what.partition("(")[0]] += 1

    def _mark(self, words):
        if words[0] in ("daemon", "template"):
            self._pids[words[0]] = int(words[1])
        elif words[0] == "child":
            self._pids["child"] = int(words[1])
            self.faults.append(int(words[2]))
        elif words[0] == "asked":  # what that costs is no part of a call
            self._of_pid["asked"]["times"] += 1
        elif words[0] == "turn":
            if "child" in self._pids:
                self.turns.append({who: self._of_pid[pid] for who, pid in self._pids.items()})
                self.turns[-1]["asked"] = self._of_pid["asked"]
            self._of_pid = collections.defaultdict(collections.Counter)


def trace(kind):
    with tempfile.TemporaryDirectory() as place:
        log = os.path.join(place, "log")
        subprocess.run(["strace", "-f", "-qq", "-o", log, os.path.join(HELPERS, "counted"), kind,
                        str(TURNS)], check=True, stdin=subprocess.DEVNULL)
        with open(log) as lines:
            return Trace(lines)


def wake_ups(kind):
    """The fewest of each."""
    told = subprocess.run([os.path.join(HELPERS, "counted"), kind, str(TURNS), "--wake-ups"],
                          check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    turns = [tuple(map(int, line.split())) for line in told.stdout.splitlines()]
    if len(turns) != TURNS:
        raise AssertionError(f"{kind}: {len(turns)} turns of {TURNS} were told")
    return tuple(map(min, zip(*turns)))


def least(counters):
    """Of one process, in the turn in which it made the fewest: strace(1) makes a program take
    longer than the forkserver's loop waits for, which is another way through it."""
    return min(counters, key=lambda calls: sum(calls.values()))


def cost(kind):
    """({who: Counter}, the fewest page faults of a child)."""
    told = trace(kind)
    if len(told.turns) < TURNS:
        raise AssertionError(f"{kind}: {len(told.turns)} turns of {TURNS} were told")
    return ({who: least([turn[who] for turn in told.turns]) for who in WHO if who in told.turns[0]},
            min(told.faults))


@unittest.skipIf(shutil.which("strace") is None, "strace is not installed")
@unittest.skipIf(os.environ.get("CLEANFORK_SANITIZE"), "a sanitizer makes calls of its own")
class Counts(unittest.TestCase):
    def check(self, kind):
        # Where nobody gets a processor in time, no turn goes the direct way: then again.
        for left in reversed(range(TRIES)):
            try:
                return self.check_once(kind)
            except self.failureException:
                if left == 0:
                    raise

    def check_once(self, kind):
        calls, faults = cost(kind)
        for who, most in LIMITS[kind].items():
            number = sum(calls[who].values())
            self.assertLessEqual(number, most, f"{kind}, {who}: {dict(calls[who])}")
        self.assertLessEqual(faults, FAULTS[kind], f"page faults of a child, {kind}")
        if kind in WAKE_UPS:
            for who, number, most in zip(WHO, wake_ups(kind), WAKE_UPS[kind]):
                self.assertLessEqual(number, most, f"{kind}, wake-ups of the {who}")

    def test_of_a_program(self):
        self.check("exec")

    def test_of_a_program_with_three_descriptors(self):
        self.check("exec3")

    def test_of_a_program_that_is_waited_for_at_once(self):
        self.check("run")

    def test_of_a_call(self):
        self.check("cold")

    def test_of_a_warm_call(self):
        self.check("warm")


def table():
    for kind, limits in LIMITS.items():
        calls, faults = cost(kind)
        woken = ", ".join(f"{who} {number}" for who, number in zip(WHO, wake_ups(kind)))
        print(f"{kind}: {faults} page faults of the child; wake-ups: {woken}")
        for who, most in limits.items():
            counted = ", ".join(f"{call} {number}" if number > 1 else call
                                for call, number in calls[who].most_common())
            print(f"  {who:8s} {sum(calls[who].values()):3d} of {most}: {counted}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        table()
    else:
        unittest.main()
