"""pytest: each test in a process of its own, by an interpreter each and by --cleanfork."""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import told

TITLE = "pytest: isolation of tests"
PACKAGES = ["pytest", "numpy"]
SHORT_PACKAGES = ["pytest"]
METHODS = ["interpreters", "cleanfork"]
SHORT_METHODS = ["cleanfork"]
ROUNDS = 1
LINE = "`pytest --cleanfork`"
WHAT = "40 tests, with numpy imported by the conftest: "
DIFFERENT = ("against a new pytest for each test. A whole run of 400 tests takes {cleanfork[all]:.1f} s, "
             "without isolation {cleanfork[plain]:.1f} s. The process of pytest is not copied, so "
             "threads and gRPC of its plugins are no concern of a test; a crash is one failure that "
             "names its signal. Not with `--pdb` and `-n`; fixtures of session scope are made for "
             "each test; imports that start threads are refused. (pytest-forked 1.7.5 fails every "
             "test under pytest 9.2.)")
FEW = told.scaled(40, 3)
TESTS = told.scaled(400, 20)

CONFTEST = """
import asyncio, email, sqlite3, unittest.mock
try:
    import numpy
except ImportError:
    pass
import pytest

@pytest.fixture(scope="session")
def database(tmp_path_factory):
    one = sqlite3.connect(tmp_path_factory.mktemp("db") / "db")
    one.execute("create table t (x)")
    yield one
    one.close()
"""
MODULE = f"""
import ctypes, os, sys, time, warnings
import pytest

STATE = []

@pytest.mark.parametrize("i", range({TESTS}))
def test_meets_nothing_of_another(i, database, tmp_path):
    STATE.append(i)
    database.execute("insert into t values (?)", (i,))
    assert STATE == [i] or "plain" in os.environ

def test_output(capfd):
    os.system("echo out")
    assert capfd.readouterr().out == "out\\n"

def test_fails():
    warnings.warn("beware")
    assert {{"a": 1}} == {{"a": 2}}

@pytest.mark.skipif("plain" in os.environ, reason="it would take all along")
def test_crashes():
    ctypes.string_at(0)

@pytest.mark.skip(reason="never")
def test_skipped():
    pass

@pytest.mark.xfail
def test_known():
    assert False
"""


def run(directory, *arguments, **env):
    """Seconds, what became of each test, and what was printed."""
    report = os.path.join(directory, "report.xml")
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", "-p", "no:cacheprovider",
         f"--basetemp={directory}/tmp", *arguments], cwd=directory, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **env})
    seconds = time.monotonic() - begun
    assert done.returncode in (0, 1), done.stdout
    outcomes = {case.get("name"): [each.tag for each in case
                                   if each.tag in ("failure", "error", "skipped")]
                for case in xml.etree.ElementTree.parse(report).iter("testcase")}
    return seconds, outcomes, done.stdout


def few(directory):
    """Seconds of some tests, each alone, and what became of them."""
    names = [f"test_all.py::test_meets_nothing_of_another[{i}]" for i in range(FEW)]
    if told.METHOD == "cleanfork":
        seconds, outcomes, _ = run(directory, "--cleanfork", *names)
        return seconds, outcomes
    begun, outcomes = time.monotonic(), {}
    for name in names:
        outcomes |= run(directory, name)[1]
    return time.monotonic() - begun, outcomes


def main():
    with tempfile.TemporaryDirectory() as directory:
        for name, text in (("conftest.py", CONFTEST), ("test_all.py", MODULE)):
            with open(os.path.join(directory, name), "w") as file:
                file.write(text)
        start, result = few(directory)
        figures = {}
        if told.METHOD == "cleanfork":
            figures["plain"] = run(directory, plain="1")[0]
            figures["all"], outcomes, out = run(directory, "--cleanfork")
            assert "killed by SIGSEGV" in out and "beware" in out, out
            wrong = {name: what for name, what in outcomes.items() if what}
            assert wrong == {"test_fails": ["failure"], "test_crashes": ["failure"],
                             "test_skipped": ["skipped"], "test_known": ["skipped"]}, out
            assert len(outcomes) == TESTS + 5, out
        told.done(result, start, **figures)


if __name__ == "__main__":
    main()
