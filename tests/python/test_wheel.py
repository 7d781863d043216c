"""The wheel: built by pip without a network, installed elsewhere, and used from there."""

import glob
import os
import subprocess
import sys
import tempfile
import unittest
import zipfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))

PROGRAM = """
import cleanfork, cleanfork.subprocess as s, os
print(os.path.dirname(cleanfork.__file__))
print(s.check_output(["echo", "from the wheel"], text=True), end="")
print(os.readlink("/proc/%d/exe" % cleanfork.client().server["pid"]))
"""


class Wheel(unittest.TestCase):
    def pip(self, *arguments):
        # Only what is there: no index, and nothing of the user's configuration.
        p = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True,
                           text=True, cwd=ROOT,
                           env={**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull,
                                "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1",
                                "CLEANFORK_BUILD_DIR": os.path.dirname(os.environ["CLEANFORK_BIN"])})
        if "No module named pip" in p.stderr:
            self.skipTest("pip is not installed")
        self.assertEqual(p.returncode, 0, p.stdout + p.stderr)

    def test_build_install_use(self):
        with tempfile.TemporaryDirectory() as d:
            self.pip("wheel", "--no-deps", "--wheel-dir", d, ROOT)
            (wheel,) = glob.glob(os.path.join(d, "*.whl"))
            with zipfile.ZipFile(wheel) as z:
                self.assertIsNone(z.testzip())
                names = z.namelist()
            for name in ("cleanfork/cleanforkd", "cleanfork/py.typed", "cleanfork/_cleanfork.pyi",
                         "cleanfork/subprocess.py"):
                self.assertIn(name, names)
            target = os.path.join(d, "target")
            self.pip("install", "--no-deps", "--target", target, wheel)
            environment = {**os.environ, "PYTHONPATH": target, "PATH": "/usr/bin:/bin"}
            environment.pop("CLEANFORK_DAEMON", None)
            p = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True,
                               env=environment, cwd=d)
            package = os.path.join(target, "cleanfork")
            self.assertEqual(p.stdout.splitlines(), [package, "from the wheel",
                                                     os.path.join(package, "cleanforkd")], p.stderr)

    def test_metadata_is_that_of_the_project(self):
        sys.path.insert(0, os.path.join(ROOT, "client/python/build_backend"))
        self.addCleanup(sys.path.pop, 0)
        import backend
        import cleanfork
        self.assertIn(f"\nVersion: {cleanfork.__version__}\n", backend._metadata())
        with tempfile.TemporaryDirectory() as d:
            info = backend.prepare_metadata_for_build_wheel(d)
            self.assertEqual(sorted(os.listdir(os.path.join(d, info))), ["METADATA", "WHEEL"])


if __name__ == "__main__":
    unittest.main()
