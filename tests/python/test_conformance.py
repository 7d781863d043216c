"""A part of CPython's own tests of multiprocessing and subprocess; ./dev conform runs them all."""

import importlib.util
import os
import subprocess
import unittest

from support import PYTHON
from shards import load_tests  # in several entries of ctest

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "conformance")


class Conformance(unittest.TestCase):
    @unittest.skipIf(importlib.util.find_spec("test._test_multiprocessing") is None,
                     "CPython's tests are not installed (libpython3.X-testsuite)")
    def passes(self, *classes, suite="run.py"):
        p = subprocess.run([PYTHON, os.path.join(HERE, suite), *classes], stdout=subprocess.PIPE, text=True,
                           stderr=subprocess.STDOUT)
        print(p.stdout, flush=True)
        self.assertEqual(p.returncode, 0)

    def test_processes(self):
        self.passes("WithProcessesTestProcess", "WithProcessesTestSubclassingProcess")

    def test_queues_and_pools(self):
        self.passes("WithProcessesTestQueue", "WithProcessesTestPoolWorkerLifetime",
                    "WithProcessesTestPicklingConnections")

    def test_locks_and_starts(self):
        self.passes("WithProcessesTestEvent", "WithProcessesTestLock", "TestForkAwareThreadLock",
                    "TestStartMethod", "TestCloseFds", "TestNoForkBomb")

    def test_subprocess(self):
        self.passes("RunFuncTestCase", "POSIXProcessTestCase", "MiscTests", "ContextManagerTests",
                    "ProcessTestCase.test_i", "SubprocessPidfdWatcherTests",
                    suite="subprocesses.py")


if __name__ == "__main__":
    unittest.main()
