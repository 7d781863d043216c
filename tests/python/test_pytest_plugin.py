"""pytest --cleanfork: each test in a process of its own, reported as if it had run here."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import textwrap
import unittest
import xml.etree.ElementTree

from support import DEADLINE

CONFTEST = """
    import pytest

    @pytest.fixture(scope="session")
    def place(tmp_path_factory):
        return tmp_path_factory.mktemp("place")
"""


@unittest.skipUnless(importlib.util.find_spec("pytest"), "pytest is not installed")
class FreshProcesses(unittest.TestCase):
    def pytest(self, text, *arguments, status=None):
        """What it printed, and what became of each test, of a module with this text."""
        with tempfile.TemporaryDirectory() as directory:
            for name, content in (("conftest.py", CONFTEST), ("test_it.py", text)):
                with open(os.path.join(directory, name), "w") as file:
                    file.write(textwrap.dedent(content))
            # The package has it as an entry point, which a build tree has not.
            p = subprocess.run(
                [sys.executable, "-m", "pytest", "-p", "cleanfork.pytest_plugin", "--cleanfork",
                 "--junit-xml=report.xml", "--basetemp=tmp", *arguments], cwd=directory,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE)
            if status is not None:
                self.assertEqual(p.returncode, status, p.stdout)
                return p.stdout, {}
            report = os.path.join(directory, "report.xml")
            self.assertIn(p.returncode, (0, 1), p.stdout)
            cases = xml.etree.ElementTree.parse(report).iter("testcase")
            return p.stdout, {case.get("name"): [
                each.tag for each in case if each.tag in ("failure", "error", "skipped")]
                for case in cases}

    def test_a_test_meets_nothing_of_another(self):
        out, became = self.pytest("""
            import os, pytest
            STATE, PID = [], os.getpid()
            @pytest.mark.parametrize("i", range(5))
            def test_state(i, place, tmp_path):
                STATE.append(i)
                assert STATE == [i] and os.getpid() != PID
                (place / "mine").mkdir()
                (tmp_path / "mine").mkdir()
        """)
        self.assertEqual(became, {f"test_state[{i}]": [] for i in range(5)}, out)

    def test_outcomes_output_and_warnings_are_those_of_pytest(self):
        out, became = self.pytest("""
            import logging, os, pytest, warnings
            def test_passes(capfd):
                os.system("echo from a program")
                assert capfd.readouterr().out == "from a program\\n"
            def test_fails():
                print("printed")
                logging.warning("logged")
                warnings.warn("beware")
                assert {"a": 1} == {"a": 2}
            @pytest.mark.skip
            def test_skipped(): pass
            @pytest.mark.xfail
            def test_known(): assert False
            @pytest.fixture
            def broken():
                yield
                raise RuntimeError
            def test_teardown(broken): pass
        """)
        self.assertEqual(became, {"test_passes": [], "test_fails": ["failure"],
                                  "test_skipped": ["skipped"], "test_known": ["skipped"],
                                  "test_teardown": ["error"]}, out)
        for each in ("Differing items", "Captured stdout call", "printed", "logged",
                     "UserWarning: beware"):
            self.assertIn(each, out)

    def test_a_crash_is_one_failure_that_names_its_signal(self):
        out, became = self.pytest("""
            import os, signal
            def test_crashes(): os.kill(os.getpid(), signal.SIGSEGV)
            def test_exits(): os._exit(7)
            def test_goes_on(): pass
        """)
        self.assertEqual(became, {"test_crashes": ["failure"], "test_exits": ["failure"],
                                  "test_goes_on": []}, out)
        self.assertIn("killed by SIGSEGV", out)
        self.assertIn("exited 7", out)

    def test_what_a_test_has_left_is_not_waited_for(self):
        out, became = self.pytest("""
            import os, threading
            def test_thread(): threading.Thread(target=threading.Event().wait).start()
            def test_process():
                ours, theirs = os.pipe()
                if os.fork() == 0:  # it has the channel of the report, until its parent ends
                    os.close(theirs)
                    os.read(ours, 1)
                    os._exit(0)
        """)
        self.assertEqual(became, {"test_thread": [], "test_process": []}, out)

    def test_an_installed_one_is_found_and_an_early_import_is_no_warning(self):
        with tempfile.TemporaryDirectory() as directory:
            info = os.path.join(directory, "cleanfork-0.dist-info")
            os.mkdir(info)
            for name, content in (
                    ("METADATA", "Metadata-Version: 2.1\nName: cleanfork\nVersion: 0\n"),
                    ("RECORD", "cleanfork/__init__.py,,\ncleanfork/pytest_plugin.py,,\n"),
                    ("entry_points.txt", "[pytest11]\ncleanfork = cleanfork.pytest_plugin\n")):
                with open(os.path.join(info, name), "w") as file:
                    file.write(content)
            with open(os.path.join(directory, "test_it.py"), "w") as file:
                file.write("import os, sys\ndef test(): pass\n")
            paths = os.pathsep.join([directory, os.environ["PYTHONPATH"]])
            p = subprocess.run(
                [sys.executable, "-c", "import cleanfork, pytest; "
                 "pytest.main(['--cleanfork', '--basetemp=tmp'])"],
                cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                timeout=DEADLINE, env={**os.environ, "PYTHONPATH": paths})
        self.assertIn("1 passed in", p.stdout)

    def test_what_it_cannot_do_it_says(self):
        out, _ = self.pytest("def test(): pass", "--pdb", status=4)
        self.assertIn("--pdb and --cleanfork do not go together", out)
        out, _ = self.pytest("""
            import threading
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            def test(): pass
        """, status=4)
        self.assertIn("not clean: 1 extra thread", out)


if __name__ == "__main__":
    unittest.main()
