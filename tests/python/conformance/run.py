"""CPython's own tests of multiprocessing over cleanfork: conformance/run.py [CLASS...]

Three runs of test._test_multiprocessing: the standard method "forkserver", to know what that
skips; the method "cleanfork"; and "forkserver" again, served by cleanfork. Fails when a test
fails, or when one is skipped that the standard method runs, unless EXPECTED has the reason.
The package is the one of this interpreter's path.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile

import cleanfork

# A bare interpreter of this environment knows the start method, as test_noforkbomb and
# test_context require: it is what an installed package would do with such a file.
PTH = "import sys; sys.path.append({home!r}); import cleanfork\n"
MODULE = """
import multiprocessing
from test import _test_multiprocessing as suite
{begin}
suite.PRELOAD = ["__main__", {name!r}]
suite.install_tests_in_module_dict(globals(), {method!r})
if {method!r} == "forkserver":
    try:  # of 3.15 on
        from test.test_multiprocessing_forkserver.test_preload import TestForkserverPreload
    except ImportError:
        pass
"""
# At the end of each module: what cannot pass is not run.
LEAVE_OUT = """
import unittest
for case in [each for each in list(vars().values()) if isinstance(each, type)]:
    for test, reason in {reasons!r}.items():
        if hasattr(case, test):
            setattr(case, test, unittest.skip(reason)(getattr(case, test)))
"""
RUNS = {
    "stock": ("forkserver", ""),
    # As the suite does for the standard method: else each child imports all of the tests.
    "cleanfork": ("cleanfork", "import cleanfork; "
                  "cleanfork.get_context().set_forkserver_preload([__name__])"),
    "installed": ("forkserver", "import cleanfork; cleanfork.install()"),
}
# Skipped here and not with the standard method: test, run, why that is right.
EXPECTED = {
    "test_forkserver_sigint": ("cleanfork", "for the method named forkserver alone"),
    "test_forkserver_sigkill": ("cleanfork", "for the method named forkserver alone"),
    "test_preload_resources": ("cleanfork", "for the method named forkserver alone"),
    "test_resource_tracker_safety_net_timeout": (
        "cleanfork", "for the method named forkserver alone"),
    "test_only_run_in_forkserver_testsuite": (
        "cleanfork", "for the method named forkserver alone"),
    "test_preload_main": (
        "cleanfork", "for the method named forkserver alone"),
    "test_preload_main_large_sys_argv": (
        "cleanfork", "for the method named forkserver alone"),
    "test_preload_main_sys_argv": (
        "cleanfork", "for the method named forkserver alone"),
    "test_resource_tracker_fork_deadlock": (
        "cleanfork", "for the method named forkserver alone"),
    "test_resource_tracker_lock_reinit_after_fork": (
        "cleanfork", "for the method named forkserver alone"),
    "test_resource_tracker_mp_fork_reuse_and_prompt_reap": (
        "cleanfork", "for the method named forkserver alone"),
    "test_resource_tracker_raw_fork_prompt_reap": (
        "cleanfork", "for the method named forkserver alone"),
    "test_forkserver_auth_is_enabled": ("cleanfork", "for the method named forkserver alone"),
    "test_forkserver_without_auth_fails": ("cleanfork", "for the method named forkserver alone"),
}
# Cannot pass: test, run, why.
IMPOSSIBLE = {
    "test_forkserver_auth_is_enabled": (
        "installed", "connects to the socket of the standard forkserver, which is not started"),
    "test_forkserver_without_auth_fails": (
        "installed", "the same with a wrong key: there is no such socket, nor a key"),
    "test_preload_on_error_fail_breaks_context": (
        "installed", "wants the EOFError of a forkserver that has died of the import; start() "
        "raises what the import raised"),
}
if sys.version_info >= (3, 14):  # before, it asks for no method by name
    IMPOSSIBLE["test_flags"] = (
        "cleanfork", "asks for the name under python3 -S, which has no site-packages to know it by")


def make_environment(directory):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages",
                    directory], check=True)
    python = os.path.join(directory, "bin", "python")
    packages = subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"],
                              check=True, capture_output=True, text=True).stdout.strip()
    home = os.path.dirname(os.path.dirname(os.path.abspath(cleanfork.__file__)))
    with open(os.path.join(packages, "cleanfork.pth"), "w") as file:
        file.write(PTH.format(home=home))
    return python


def skips(text):
    """{test: reason}, by class and name; what a test prints may come in between."""
    found = {}
    for chunk in re.split(r"^(?=\w+ \((?:\w+\.)+)", text, flags=re.M):
        begin = re.match(r"(\w+) \(\w+\.(\w+)", chunk)
        end = re.search(r"skipped ['\"](.*)['\"]\s*$", chunk)
        if begin and end:
            found[f"{begin[2]}.{begin[1]}"] = end[1]
    return found


def run(python, directory, which, classes, module=MODULE):
    """How many tests ran, whether all passed, and the skips."""
    method, begin = RUNS[which]
    name = f"run_{which}"
    with open(os.path.join(directory, f"{name}.py"), "w") as file:
        file.write(module.format(begin=begin, method=method, name=name)
                   + LEAVE_OUT.format(reasons={test: reason for test, (run, reason)
                                               in IMPOSSIBLE.items() if run == which}))
    chosen = [word for pattern in classes for word in ("-k", pattern)]
    # In a background job SIGINT and SIGQUIT are ignored, and test_wait_result would hang.
    p = subprocess.run(["env", "--default-signal=INT,QUIT", python, "-m", "unittest", "-v", *chosen,
                        name], cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, errors="replace", stdin=subprocess.DEVNULL)
    ran = re.search(r"^Ran (\d+) tests? in (\S+)$", p.stdout, re.M)
    skipped = skips(p.stdout)
    print(f"{which}: method {method!r}, {ran[1] if ran else 'no'} tests, "
          f"{'all passed' if p.returncode == 0 else 'FAILED'}, {len(skipped)} skipped, "
          f"{ran[2] if ran else '?'}", flush=True)
    if p.returncode != 0:
        print(p.stdout)
    return int(ran[1]) if ran else 0, p.returncode == 0, skipped


def compare(module, expected):
    """The three runs; what the program exits with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("classes", nargs="*", metavar="CLASS", help="these; otherwise all")
    classes = parser.parse_args().classes
    good = True
    with tempfile.TemporaryDirectory() as directory:
        python = make_environment(os.path.join(directory, "environment"))
        _, _, usual = run(python, directory, "stock", classes, module)
        for which in ("cleanfork", "installed"):
            ran, passed, skipped = run(python, directory, which, classes, module)
            good = good and passed and ran > 0
            for test in sorted(skipped.keys() - usual.keys()):
                name = test.rpartition(".")[2]
                known = next((each for each in (expected.get(name), IMPOSSIBLE.get(name))
                              if each and each[0] == which), None)
                if known:
                    print(f"  left out: {test}, as \"{known[0]}\": {known[1]}")
                else:
                    print(f"  skipped and should not be: {test}: {skipped[test]}")
                    good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(compare(MODULE, EXPECTED))
