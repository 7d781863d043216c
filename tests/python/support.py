"""What the Python tests share: both modules for the same call, and waiting for events."""

import os
import re
import select
import subprocess
import sys
import threading
import time
import unittest

import cleanfork
import cleanfork.subprocess

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../helpers"))
from patience import PATIENCE as DEADLINE  # seconds: how long an event may take

MODULES = (subprocess, cleanfork.subprocess)

# From 3.13 on the standard module has two ways for the same call, by posix_spawn() and by its own
# C code, and their errors differ. The documented switch: there is the one that all versions have.
subprocess._USE_POSIX_SPAWN = False

with_process_group = unittest.skipIf(sys.version_info < (3, 11),
                                     "process_group of Popen is of Python 3.11 on")

if sys.version_info < (3, 11):
    def _enter_context(test, manager):
        """unittest's own from 3.11 on."""
        value = type(manager).__enter__(manager)
        test.addCleanup(type(manager).__exit__, manager, None, None, None)
        return value

    unittest.TestCase.enterContext = _enter_context
# Prints what a child finds: a program of its own is faster than a Python.
PYTHON = sys.executable


def wait_readable(fd):
    """Waits until there is something to read from `fd`, a pidfd perhaps."""
    if not select.select([fd], [], [], DEADLINE)[0]:
        raise AssertionError("the event did not come")


def open_descriptors():
    """What each descriptor of this process is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass  # that of the listing
    return found


def hidden_threads():
    """How many threads Python does not know of; one that was joined may take a moment to end."""
    deadline = time.monotonic() + DEADLINE
    while True:
        hidden = len(os.listdir("/proc/self/task")) - threading.active_count()
        if hidden == 0 or time.monotonic() > deadline:
            return hidden
        time.sleep(0.01)


def helper(name):
    """The path of a program or library of tests/helpers, which a build has and a wheel has not."""
    directory = os.environ.get("CLEANFORK_TEST_HELPERS")
    if directory is None:
        raise unittest.SkipTest("the tests' own programs are not here")
    return os.path.join(directory, name)


def run_python(code, *arguments, **options):
    """A new interpreter that finds the package, by the standard module."""
    options = {"capture_output": True, "text": True, "timeout": DEADLINE, **options}
    return subprocess.run([PYTHON, "-c", code, *arguments], **options)


def outcome(function, module):
    """What `function` did with `module`: comparable, without what differs by nature."""
    try:
        return ("returned", function(module))
    except Exception as e:  # whatever it is, the other must raise the same
        # run() tells what was left of a timeout, to the nanosecond.
        text = re.sub(r"\d+\.\d+ seconds", "... seconds", str(e))
        return ("raised", type(e), text, getattr(e, "filename", None), getattr(e, "cmd", None),
                getattr(e, "returncode", None), getattr(e, "output", None),
                getattr(e, "stderr", None))


class SameAsStandard(unittest.TestCase):
    maxDiff = None

    def same(self, function):
        """`function` does the same with both modules; what that was."""
        expected, got = (outcome(function, module) for module in MODULES)
        self.assertEqual(got, expected)
        return got

    def same_result(self, function):
        """The same, and it does not raise."""
        kind, value, *_ = self.same(function)
        self.assertEqual(kind, "returned", value)
        return value

    def same_error(self, error, function):
        """The same, and it raises `error`."""
        kind, raised, *_ = self.same(function)
        self.assertEqual(kind, "raised")
        self.assertTrue(issubclass(raised, error), raised)


class NothingLeft(unittest.TestCase):
    """Each test leaves the descriptors as it found them."""

    def setUp(self):
        cleanfork.client()  # its socket is there from now on
        before = open_descriptors()
        self.addCleanup(lambda: self.assertEqual(open_descriptors().keys(), before.keys()))
