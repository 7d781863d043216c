"""The programs of docs/examples/python do what they say."""

import importlib.util
import os
import subprocess
import sys
import unittest

from support import DEADLINE, PYTHON

HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLES = os.path.join(HERE, "..", "..", "docs", "examples", "python")


def has(module):
    return importlib.util.find_spec(module) is not None


class Examples(unittest.TestCase):
    def run_example(self, *command):
        done = subprocess.run([PYTHON, *command], cwd=EXAMPLES, capture_output=True, text=True,
                              timeout=DEADLINE)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    @unittest.skipUnless(has("grpc"), "grpcio is not installed")
    def test_a_grpc_server_computes_in_processes(self):
        out = self.run_example("grpc_pool.py")
        self.assertRegex(out, r"^40 calls answered by [1-4] processes: 9592 primes below 100000\n$")

    @unittest.skipUnless(has("numpy"), "numpy is not installed")
    def test_a_pipeline_gives_batches_in_order_with_random_numbers_of_their_own(self):
        self.assertEqual(self.run_example("loader.py"), "24 batches from 3 processes, in order, "
                         "no two with the same noise\n")

    def test_an_unchanged_program_has_its_processes_from_a_template(self):
        self.assertEqual(self.run_example("-m", "cleanfork", "unchanged.py"),
                         "start method cleanfork: forked from a template\n")
        usual = ("fork: forked from this program" if sys.version_info < (3, 14)
                 else "forkserver: forked from a template")  # the standard one
        self.assertEqual(self.run_example("unchanged.py"), f"start method {usual}\n")


if __name__ == "__main__":
    unittest.main()
