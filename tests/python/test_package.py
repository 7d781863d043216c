"""What importing costs and does, and that the type hints hold."""

import importlib.util
import os
import re
import subprocess
import sys
import unittest

from support import PYTHON, run_python

IMPORT_LIMIT_US = 15_000
RUNS = 9


def import_time(module):
    """Microseconds that the package's own modules take, the least of several runs."""
    samples = []
    for _ in range(RUNS):
        log = subprocess.run([PYTHON, "-X", "importtime", "-c", f"import {module}"],
                             capture_output=True, text=True, check=True).stderr
        samples.append(sum(int(own) for own, name in
                           re.findall(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)", log)
                           if name.startswith("cleanfork")))
    return min(samples)  # what others do on the machine is not the package


class Import(unittest.TestCase):
    def test_is_fast(self):
        self.assertLess(import_time("cleanfork"), IMPORT_LIMIT_US)

    def test_of_subprocess_is_fast(self):
        self.assertLess(import_time("cleanfork.subprocess"), IMPORT_LIMIT_US)

    def test_loads_no_other_module(self):
        p = run_python("import sys; before = set(sys.modules); import cleanfork;"
                       "print(sorted(set(sys.modules) - before))")
        self.assertEqual(p.stdout.strip(), "['__future__', 'cleanfork']")

    def test_starts_nothing(self):
        p = run_python(
            "import os, threading, cleanfork, cleanfork.subprocess, cleanfork.asyncio;"
            "print(len(os.listdir('/proc/self/task')), threading.active_count(),"
            "      sorted(os.listdir('/proc/self/fd')).__len__(),"
            "      open('/proc/self/task/%d/children' % os.getpid()).read().split())")
        self.assertEqual(p.stdout.split(), ["1", "1", "4", "[]"])

    def test_use_starts_no_thread(self):
        p = run_python("import os, cleanfork.subprocess as s; s.run(['true']);"
                       "print(len(os.listdir('/proc/self/task')))")
        self.assertEqual(p.stdout.strip(), "1")

    def test_names(self):
        import cleanfork
        for name in cleanfork.__all__:
            self.assertIsNotNone(getattr(cleanfork, name))
        self.assertTrue(set(cleanfork.__all__) <= set(dir(cleanfork)))
        with self.assertRaises(AttributeError):
            cleanfork.no_such_name

    def test_only_its_initializer_is_exported(self):
        import cleanfork._cleanfork
        symbols = subprocess.run(["nm", "-D", "--defined-only", cleanfork._cleanfork.__file__],
                                 capture_output=True, text=True, check=True).stdout
        self.assertEqual([line.split()[-1] for line in symbols.splitlines()],
                         ["PyInit__cleanfork"])


class Types(unittest.TestCase):
    PROGRAM = """
import asyncio
import cleanfork
import cleanfork.asyncio
import cleanfork.subprocess as subprocess

def f() -> int:
    text: str = subprocess.run(["x"], text=True, capture_output=True).stdout
    with subprocess.Popen(["x"], stdout=subprocess.PIPE) as p:
        p.wait(1.5)
        assert p.pidfd >= 0 and p.rusage is not None
    child: cleanfork.Process = cleanfork.client().spawn("x", [text], cwd="/", nice=3)
    status = child.wait()
    assert status is not None
    return status.code

async def g() -> bytes:
    q = await cleanfork.asyncio.create_subprocess_exec("x", stdout=subprocess.PIPE)
    out, _ = await q.communicate()
    return out
"""

    def check(self, *arguments):
        if importlib.util.find_spec("mypy") is None:
            self.skipTest("mypy is not installed")
        p = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull,
                            *arguments], capture_output=True, text=True)
        self.assertEqual(p.returncode, 0, p.stdout + p.stderr)

    def test_of_the_package(self):
        import cleanfork
        self.check(os.path.dirname(cleanfork.__file__))

    def test_for_its_users(self):
        # mypy finds a package of PYTHONPATH by MYPYPATH alone.
        import cleanfork
        os.environ["MYPYPATH"] = os.path.dirname(os.path.dirname(cleanfork.__file__))
        self.addCleanup(os.environ.pop, "MYPYPATH")
        self.check("-c", self.PROGRAM)


if __name__ == "__main__":
    unittest.main()
