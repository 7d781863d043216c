"""Programs that are one executable, which is started again to be the template."""

import os
import subprocess
import tempfile
import unittest

import cleanfork
from mp_support import Program
from support import DEADLINE, PYTHON

PROGRAM = """
import os, sys
import cleanfork
from concurrent.futures import ProcessPoolExecutor
import multiprocessing

class Answer: pass
def work(x):
    with cleanfork.get_context().Pool(1) as pool:
        return Answer(), pool.apply(abs, (x,)), sys.argv[1:], os.path.basename(sys.executable)

if __name__ == "__main__":
    {support}
    ctx = cleanfork.get_context()
    with ProcessPoolExecutor(1, mp_context=ctx) as executor:
        answer, *rest = executor.submit(work, -3).result()
    print(type(answer) is Answer, *rest, len(cleanfork.client().templates()))
"""
EXPECTED = "True 3 ['an', 'argument'] program 1\n"

# What a frozen executable is to Python: it is frozen, the executable is itself, and the tracker of
# multiprocessing is this program with -c, which PyInstaller has a hook for.
STAND_IN = """#!{python}
import sys
sys.frozen, sys.executable = True, {path!r}
if "-c" in sys.argv:
    exec(sys.argv[sys.argv.index("-c") + 1])
    sys.exit()
del sys.path[0], sys.modules["__main__"].__file__
"""


class StandIn(unittest.TestCase):
    def run_frozen(self, support, before=""):
        with Program("", "program") as program:
            with open(program.path, "w") as file:
                file.write(STAND_IN.format(python=PYTHON, path=program.path) + before
                           + PROGRAM.format(support=support))
            os.chmod(program.path, 0o700)
            return subprocess.run([program.path, "an", "argument"], timeout=DEADLINE,
                                  **program.options({}))

    def test_its_processes_come_from_the_executable_again(self):
        for support in ("cleanfork.freeze_support()", "multiprocessing.freeze_support()"):
            for before in ("", "import multiprocessing\n"):
                with self.subTest(support, before=before):
                    p = self.run_frozen(support, before)
                    self.assertEqual((p.returncode, p.stdout, p.stderr), (0, EXPECTED, ""))

    def test_one_that_forgot_to_call_it_says_so(self):
        p = self.run_frozen("pass")
        self.assertEqual(p.returncode, 1)
        self.assertIn("call cleanfork.freeze_support() first", p.stderr)

    def test_elsewhere_it_does_nothing(self):
        self.assertIsNone(cleanfork.freeze_support())


FREEZER = os.environ.get("CLEANFORK_PYINSTALLER")


@unittest.skipUnless(FREEZER, "CLEANFORK_PYINSTALLER names no pyinstaller: ./dev frozen has one")
class PyInstaller(unittest.TestCase):
    def test_its_programs_of_a_folder_and_of_one_file(self):
        package = os.path.dirname(os.path.realpath(cleanfork.__file__))
        daemon = os.path.realpath(os.path.join(package, "cleanforkd"))
        for how, support in (("--onedir", "cleanfork.freeze_support()"),
                             ("--onefile", "multiprocessing.freeze_support()")):
            with self.subTest(how, support=support), tempfile.TemporaryDirectory() as home:
                with open(os.path.join(home, "program.py"), "w") as file:
                    file.write(PROGRAM.format(support=support))
                made = subprocess.run(
                    [FREEZER, how, "--noconfirm", "--log-level", "ERROR", "--paths",
                     os.path.dirname(package), "--add-binary", f"{daemon}:cleanfork", "program.py"],
                    cwd=home, capture_output=True, text=True, timeout=10 * DEADLINE)
                self.assertEqual(made.returncode, 0, made.stderr)
                path = os.path.join(home, "dist/program")
                path = os.path.join(path, "program") if how == "--onedir" else path
                # Neither a variable nor the folder of the sources helps it.
                p = subprocess.run([path, "an", "argument"], cwd="/", capture_output=True,
                                   text=True, timeout=DEADLINE, env={"PATH": "/usr/bin:/bin"})
                self.assertEqual((p.returncode, p.stdout, p.stderr), (0, EXPECTED, ""))


if __name__ == "__main__":
    unittest.main()
