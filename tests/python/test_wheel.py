"""What goes into a wheel, installed elsewhere and used from there; and where none can be made.

./dev wheels makes them for each interpreter and runs all tests of the package with each.
"""

import glob
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import cleanfork
from support import DEADLINE

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.path.dirname(os.environ["CLEANFORK_BIN"])
PROGRAM = """
import cleanfork, cleanfork.subprocess as s, os
print(os.path.dirname(cleanfork.__file__))
print(s.check_output(["echo", "from there"], text=True), end="")
print(os.readlink("/proc/%d/exe" % cleanfork.client().server["pid"]))
"""


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=10 * DEADLINE, **options)


class Installed(unittest.TestCase):
    def setUp(self):
        self.prefix = self.enterContext(tempfile.TemporaryDirectory())
        p = run("/usr/bin/cmake", "--install", BUILD, "--component", "python_package", "--prefix",
                self.prefix)
        self.assertEqual(p.returncode, 0, p.stdout)
        (self.packages,) = glob.glob(f"{self.prefix}/lib/python3.*/site-packages")

    def uses(self, packages, daemon):
        """The package that is there starts that daemon, with nothing to lead it there."""
        environment = {**os.environ, "PYTHONPATH": packages, "PATH": "/usr/bin:/bin"}
        environment.pop("CLEANFORK_DAEMON", None)
        p = run(sys.executable, "-c", PROGRAM, env=environment, cwd="/")
        self.assertEqual(p.stdout.splitlines(), [f"{packages}/cleanfork", "from there", daemon])

    def test_has_the_package_and_the_programs_and_nothing_else(self):
        found = {os.path.relpath(os.path.join(folder, file), self.prefix)
                 for folder, _, files in os.walk(self.prefix) for file in files}
        source = os.path.join(ROOT, "client/python")
        package = {os.path.relpath(os.path.join(folder, file), source)
                   for folder, _, files in os.walk(os.path.join(source, "cleanfork"))
                   for file in files if not file.endswith(".pyc")}
        self.assertTrue({"cleanfork/py.typed", "cleanfork/_cleanfork.pyi"} < package)
        module = os.path.basename(cleanfork._cleanfork.__file__)
        here = os.path.relpath(self.packages, self.prefix)
        self.assertEqual(found, {"bin/cleanfork", "bin/cleanforkd",
                                 *(f"{here}/{file}" for file in package),
                                 f"{here}/cleanfork/{module}"})

    def test_finds_the_daemon_where_pip_puts_programs(self):
        self.uses(self.packages, f"{self.prefix}/bin/cleanforkd")

    def test_finds_the_daemon_in_a_target_of_pip(self):
        target = f"{self.prefix}/target"
        shutil.copytree(f"{self.packages}/cleanfork", f"{target}/cleanfork")
        shutil.move(f"{self.prefix}/bin", target)
        self.uses(target, f"{target}/bin/cleanforkd")

    def test_takes_no_daemon_from_above_another_folder(self):
        # Three up from there may be anybody's, as /tmp is.
        deep = f"{self.prefix}/a/b/c"
        shutil.copytree(f"{self.packages}/cleanfork", f"{deep}/cleanfork")
        code = "from cleanfork import _server; print(_server._packaged_daemon())"
        environment = {**os.environ, "PYTHONPATH": deep}
        environment.pop("CLEANFORK_DAEMON", None)
        p = run(sys.executable, "-c", code, env=environment, cwd="/")
        self.assertEqual(p.stdout, "None\n")

    def test_the_command_finds_the_daemon_beside_it(self):
        environment = {"PATH": "/usr/bin:/bin"}
        p = run(f"{self.prefix}/bin/cleanfork", "spawn", "--private", "--", "echo", "here",
                env=environment, cwd="/")
        self.assertEqual(p.stdout, "here\n")


class Metadata(unittest.TestCase):
    def test_the_version_is_that_of_the_library(self):
        with open(f"{ROOT}/pyproject.toml") as file:
            (expression,) = re.findall(r"^regex = '(.*)'$", file.read(), re.M)
        with open(f"{ROOT}/CMakeLists.txt") as file:
            self.assertEqual(re.search(expression, file.read())["value"], cleanfork.__version__)

    @unittest.skipUnless(importlib.util.find_spec("scikit_build_core"),
                         "scikit-build-core is not installed: ./dev wheels has its own")
    def test_is_made_by_the_backend(self):
        with tempfile.TemporaryDirectory() as d:
            p = run(sys.executable, "-c", "import sys, scikit_build_core.build as b;"
                    "b.prepare_metadata_for_build_wheel(sys.argv[1])", d, cwd=ROOT)
            self.assertEqual(p.returncode, 0, p.stdout)
            with open(f"{d}/cleanfork-{cleanfork.__version__}.dist-info/METADATA") as file:
                self.assertIn("\nRequires-Python: >=3.10\n", file.read())


class Refused(unittest.TestCase):
    def configure(self, *options, **environment):
        with tempfile.TemporaryDirectory() as d:
            p = run("/usr/bin/cmake", "-S", ROOT, "-B", d, "-G", "Ninja", *options,
                    env={**os.environ, **environment})
        self.assertNotEqual(p.returncode, 0, p.stdout)
        return " ".join(p.stdout.split())

    def test_another_system_is_told_why(self):
        said = self.configure("-DCMAKE_SYSTEM_NAME=FreeBSD")
        self.assertIn("cleanfork is for Linux alone, and this is FreeBSD:", said)

    def test_32_bits_are_told_why(self):
        said = self.configure("-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY", CXXFLAGS="-m32")
        self.assertIn("cleanfork is for 64-bit Linux, and", said)


if __name__ == "__main__":
    unittest.main()
