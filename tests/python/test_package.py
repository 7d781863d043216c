"""What importing costs and does, and that the type hints hold."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from support import PYTHON, run_python

# What the package is may cost this much: 15 ms on a usual machine, on any machine the same.
SOURCE_LIMIT = 64 << 10  # bytes of Python
SYSTEM_CALLS_LIMIT = 300


def system_calls(code):
    """How many system calls an interpreter makes that does nothing else."""
    with tempfile.NamedTemporaryFile("r") as log:
        subprocess.run(["strace", "-o", log.name, PYTHON, "-c", code], check=True)
        return sum(1 for _ in log)


class Import(unittest.TestCase):
    @unittest.skipIf(shutil.which("strace") is None, "strace is not installed")
    def test_is_cheap(self):
        for code, besides in (("pass", "import cleanfork"),
                              ("import subprocess", "import cleanfork.subprocess")):
            with self.subTest(besides):
                self.assertLess(system_calls(besides) - system_calls(code), SYSTEM_CALLS_LIMIT)

    def test_of_subprocess_loads_what_the_standard_module_does_and_a_little(self):
        p = run_python("""
import os, sys, subprocess
before = set(sys.modules)
import cleanfork.subprocess
loaded = set(sys.modules) - before
ours = {name for name in loaded if name.startswith("cleanfork")}
files = [sys.modules[name].__file__ for name in ours]
print(len(ours), sum(os.path.getsize(f) for f in files if f.endswith(".py")), *(loaded - ours))
""")
        count, size, *others = p.stdout.split()
        self.assertEqual(others, ["__future__"], p.stderr)
        self.assertLessEqual(int(count), 9)
        self.assertLess(int(size), SOURCE_LIMIT)

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

    @unittest.skipIf(shutil.which("nm") is None, "nm is not installed")
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
