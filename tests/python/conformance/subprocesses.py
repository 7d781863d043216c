"""CPython's own tests of subprocess over cleanfork: conformance/subprocesses.py [NAME...]

test.test_subprocess over cleanfork.subprocess, and test.test_asyncio.test_subprocess over
cleanfork.asyncio: the suites as they are, with the module's name bound to ours. Fails when a test
fails that is not in SKIPPED with its reason. NAME chooses tests by a part of their names.
"""

import argparse
import asyncio
import importlib
import subprocess
import sys
import unittest
from types import SimpleNamespace
from unittest import mock

import cleanfork.asyncio
import cleanfork.subprocess

VERSION = f"Python {sys.version.split()[0]}"
PREEXEC = "preexec_fn is refused: the child is no copy of the program"
FORK_EXEC = "puts another function in the place of the standard module's C function fork_exec()"
WAITPID = "calls os.waitpid() for the child, whose parent is the forkserver"
ACTIVE = ("looks for the dropped Popen in subprocess._active, the standard module's list of those "
          "to reap: the forkserver reaps")
# Tests that cannot pass, by their names.
SKIPPED = {
    "test_preexec": PREEXEC,
    "test_preexec_exception": PREEXEC,
    "test_preexec_errpipe_does_not_double_close_pipes": PREEXEC,
    "test_preexec_fork_failure": PREEXEC,
    "test_preexec_gc_module_failure": PREEXEC,
    "test_close_fds_after_preexec": PREEXEC,
    "test_surrogates_error_message": PREEXEC,
    "test__use_vfork": FORK_EXEC,
    "test_exception_errpipe_normal": FORK_EXEC,
    "test_exception_errpipe_bad_data": FORK_EXEC,
    "test_stopped": WAITPID,
    "test_send_signal_race": WAITPID,
    "test_zombie_fast_process_del": ACTIVE,
    "test_leak_fast_process_del_killed": ACTIVE,
    "test_invalid_args":
        "takes the number of arguments from the code of Popen.__init__(): ours passes on the rest",
    "test__all__": "compares __all__ with all names of the module, ours has some of cleanfork's",
    "test_create_subprocess_fails_with_inactive_watcher":
        "requires that a child watcher is asked: there is none",
    "test_pid_not_reaped_before_exit_published":
        "looks for the thread of the child watcher: there is neither",
}

def loaded(name, bindings):
    """A fresh copy of the suite, which finds `bindings` where it imports modules."""
    sys.modules.pop(name, None)
    before = {module: sys.modules.get(module) for module in bindings}
    sys.modules.update(bindings)
    try:
        return importlib.import_module(name)
    finally:
        for module, value in before.items():
            if value is None:
                del sys.modules[module]
            else:
                sys.modules[module] = value
        sys.modules.pop(name, None)


def chosen(suite, names):
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from chosen(each, names)
        elif not names or any(name in each.id() for name in names):
            yield each


def run(title, module, names):
    """Whether all passed, and the names of the tests."""
    tests = list(chosen(unittest.defaultTestLoader.loadTestsFromModule(module), names))
    ours, left_out = 0, {}
    for test in tests:
        reason = SKIPPED.get(test._testMethodName)
        if reason:
            setattr(test, test._testMethodName, unittest.skip(reason)(lambda: None))
            ours += 1
            left_out[test._testMethodName] = reason
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=1).run(unittest.TestSuite(tests))
    failed = {test.id() for test, _ in (*result.failures, *result.errors)}
    known = {test.id() for test in tests}  # the rest are those of a class or a module
    of_stock = {name for name in failed & known if fails_with_stock(name)}
    print(f"{title}: {result.testsRun} tests, {len(result.failures) + len(result.errors)} failed, "
          f"{ours} skipped for a reason of ours, {len(result.skipped) - ours} for one of "
          "the suite", flush=True)
    for name in sorted(of_stock):
        left_out[name.rpartition(".")[2]] = f"fails with the standard module too on {VERSION} here"
    for name, reason in sorted(left_out.items()):
        print(f"  left out: {title}.{name}: {reason}")
    return failed == of_stock, {test._testMethodName for test in tests}


def fails_with_stock(name):
    """As for an interpreter that is not where it was built for, and is called by another name."""
    p = subprocess.run([sys.executable, "-m", "unittest", name], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return p.returncode != 0


def bound_to_ours():
    """The suites, over cleanfork."""
    ours = cleanfork.subprocess
    suite = loaded("test.test_subprocess", {"subprocess": ours})
    for case in vars(suite).values():
        # The standard _communicate(), which is ours too, looks up its selector there.
        if isinstance(case, type) and case.__name__ == "ProcessTestCaseNoPoll":
            def set_up(self, usual=case.setUp):
                usual(self)
                subprocess._PopenSelector = ours._PopenSelector

            def tear_down(self, usual=case.tearDown):
                usual(self)
                subprocess._PopenSelector = ours._PopenSelector
            case.setUp, case.tearDown = set_up, tear_down
    yield "test_subprocess", suite
    suite = loaded("test.test_asyncio.test_subprocess", {})
    suite.asyncio = OurAsyncio()
    suite.subprocess = SimpleNamespace(**{**vars(asyncio.subprocess), **ours_of_asyncio()})
    suite.mock = OurMock()
    use_our_transports(suite.SubprocessMixin)
    yield "test_asyncio.test_subprocess", suite


def use_our_transports(mixin):
    """Its tests that want a transport of the loop get one of ours."""
    for name in ("test_cancel_post_init", "test_close_kill_running", "test_close_dont_kill_finished"):
        def test(self, usual=getattr(mixin, name)):
            self.loop.subprocess_exec = cleanfork.asyncio.subprocess_exec
            usual(self)
        setattr(mixin, name, test)


def ours_of_asyncio():
    return {name: getattr(cleanfork.asyncio, name)
            for name in ("create_subprocess_exec", "create_subprocess_shell")}


class OurAsyncio:
    """asyncio, but for the functions that start programs."""

    def __getattr__(self, name):
        return ours_of_asyncio().get(name) or getattr(asyncio, name)


class OurMock:
    """unittest.mock, which finds our Popen where the suite names the standard one."""

    def __getattr__(self, name):
        return getattr(mock, name)

    @staticmethod
    def patch(target, *args, **options):
        return mock.patch(target.replace("subprocess.Popen", "cleanfork.subprocess.Popen"), *args,
                          **options)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help="these tests; otherwise all")
    arguments = parser.parse_args()
    good, found = True, set()
    for title, suite in bound_to_ours():
        passed, tests = run(title, suite, arguments.names)
        good = good and passed
        found |= tests
    if not found:
        good = False
        print("no such test")
    for name in sorted(SKIPPED.keys() - found) if not arguments.names else ():
        # Another version of Python has other tests.
        print(f"  in the list, and no test of {VERSION}: {name}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
