"""A part of CPython's own tests of multiprocessing; ./dev conform runs all of them."""

import importlib.util
import os
import subprocess
import unittest

from support import PYTHON

RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "conformance", "run.py")


class Conformance(unittest.TestCase):
    @unittest.skipIf(importlib.util.find_spec("test._test_multiprocessing") is None,
                     "CPython's tests are not installed (libpython3.11-testsuite)")
    def test_subset(self):
        p = subprocess.run([PYTHON, RUN, "--subset"], stdout=subprocess.PIPE, text=True,
                           stderr=subprocess.STDOUT)
        print(p.stdout, flush=True)
        self.assertEqual(p.returncode, 0)


if __name__ == "__main__":
    unittest.main()
