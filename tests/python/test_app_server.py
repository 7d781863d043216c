"""python3 -m cleanfork.prefork: what it says when it cannot begin. What it serves, and that it
loses no request, is tested by tests/ecosystem/servers_row.py."""

import importlib.util
import subprocess
import sys
import unittest

from support import DEADLINE


class Refusals(unittest.TestCase):
    def says(self, expected, *arguments):
        p = subprocess.run([sys.executable, "-m", "cleanfork.prefork", *arguments],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=DEADLINE)
        self.assertIn(expected, p.stdout)
        self.assertNotEqual(p.returncode, 0)

    @unittest.skipIf(importlib.util.find_spec("uvicorn"), "uvicorn is installed")
    def test_what_is_not_installed_is_named(self):
        self.says("pip install uvicorn", "app:app")
        self.says("pip install uvicorn a2wsgi", "--interface", "wsgi", "app:app")

    def test_wrong_arguments_are_named(self):
        self.says("the following arguments are required: MODULE:APP")
        self.says("--set: it is NAME=VALUE", "--set", "x", "app:app")


if __name__ == "__main__":
    unittest.main()
