"""python3 -m cleanfork enable: the start method by name, in programs that never import it."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import cleanfork
from support import DEADLINE

HOME = os.path.dirname(os.path.abspath(cleanfork.__file__))
BY_NAME = """
import multiprocessing, sys
if __name__ == "__main__":
    assert "cleanfork.multiprocessing" not in sys.modules
    p = multiprocessing.get_context("cleanfork").Process(target=print, args=("by name",))
    p.start()
    p.join()
"""


class Environment(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.directory.cleanup)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", cls.directory.name],
                       check=True)
        cls.python = os.path.join(cls.directory.name, "bin", "python")
        place = cls.run_python("-c", "import site; print(site.getsitepackages()[0])")
        cls.site = place.stdout.strip()
        cls.program = os.path.join(cls.directory.name, "by_name.py")
        with open(cls.program, "w") as file:
            file.write(BY_NAME)

    def setUp(self):
        shutil.copytree(HOME, os.path.join(self.site, "cleanfork"), symlinks=False)
        self.addCleanup(shutil.rmtree, os.path.join(self.site, "cleanfork"), ignore_errors=True)

    @classmethod
    def run_python(cls, *arguments):
        variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return subprocess.run([cls.python, *arguments], capture_output=True, text=True,
                              timeout=DEADLINE, env=variables, cwd=cls.directory.name)

    def says(self, p, code, words):
        self.assertEqual(p.returncode, code, p.stderr)
        self.assertIn(words, p.stdout + p.stderr)

    def test_is_enabled_and_disabled(self):
        self.says(self.run_python(self.program), 1, "cannot find context for 'cleanfork'")
        self.says(self.run_python("-m", "cleanfork", "enable"), 0, "cleanfork-enabled.pth")
        self.says(self.run_python(self.program), 0, "by name")
        self.says(self.run_python("-m", "cleanfork", "disable"), 0, "is gone")
        self.says(self.run_python(self.program), 1, "cannot find context for 'cleanfork'")
        self.says(self.run_python("-m", "cleanfork", "disable"), 1, "it was not enabled")

    def test_loads_nothing_else_at_a_start(self):
        told = "import sys; print(*sys.modules)"
        before = set(self.run_python("-c", told).stdout.split())
        self.run_python("-m", "cleanfork", "enable")
        self.addCleanup(self.run_python, "-m", "cleanfork", "disable")
        after = set(self.run_python("-c", told).stdout.split())
        # The encoding is that of any such file, from 3.13 on.
        self.assertEqual(after - before - {"encodings.utf_8_sig"}, {"cleanfork", "__future__"})

    def test_a_package_that_is_gone_is_not_missed(self):
        self.run_python("-m", "cleanfork", "enable")
        shutil.rmtree(os.path.join(self.site, "cleanfork"))
        p = self.run_python("-c", "print('well')")
        os.unlink(os.path.join(self.site, "cleanfork-enabled.pth"))
        self.assertEqual((p.returncode, p.stdout, p.stderr), (0, "well\n", ""))

    def test_a_program_of_that_name_is_run(self):
        path = os.path.join(self.directory.name, "enable")
        with open(path, "w") as file:
            file.write("print('a program')")
        self.addCleanup(os.unlink, path)
        self.says(self.run_python("-m", "cleanfork", "enable"), 0, "a program")


class Elsewhere(unittest.TestCase):
    def test_a_package_that_is_not_installed_is_refused(self):
        with tempfile.TemporaryDirectory() as directory:
            os.symlink(HOME, os.path.join(directory, "cleanfork"))
            p = subprocess.run([sys.executable, "-m", "cleanfork", "enable"], text=True,
                               capture_output=True, cwd=directory, timeout=DEADLINE,
                               env={**os.environ, "PYTHONPATH": directory})
        self.assertEqual(p.returncode, 1)
        self.assertIn("install it with pip", p.stderr)


if __name__ == "__main__":
    unittest.main()
