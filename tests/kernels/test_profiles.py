"""The smallest of everything, under what kernels, container engines and sandboxes take away."""

import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "../helpers"))
from patience import PATIENCE
from shards import load_tests  # noqa: F401  by unittest

from profiles import PROFILES, environment_under, under

HELPERS = os.environ["CLEANFORK_TEST_HELPERS"]
COMMAND = os.path.join(os.environ["CLEANFORK_BIN"], "cleanfork")


class Profiles(unittest.TestCase):
    def run_under(self, profile, *argv):
        return subprocess.run(under(profile, HELPERS, argv), cwd=HERE, text=True, timeout=PATIENCE,
                              env={**os.environ, **environment_under(profile)},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)

    def check(self, profile):
        if profile.refuses:
            return self.check_refusal(profile)
        done = self.run_under(profile, sys.executable, "-m", "unittest", "-v", "scenes")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, "features: ")

    def check_refusal(self, profile):
        """No process is made, and the message says what is missing and where there is one."""
        done = self.run_under(profile, COMMAND, "spawn", "--private", "--", "echo", "works")
        self.assertEqual(done.returncode, 125, done.stdout)
        self.assertNotIn("works", done.stdout)
        self.assertIn(profile.refuses, done.stdout)


def test_of(profile):
    return lambda self: self.check(profile)


for name, profile in PROFILES.items():
    setattr(Profiles, f"test_{name.replace('-', '_').replace('.', '_')}", test_of(profile))
