"""Values of arguments at and beyond their bounds, by both modules."""

import os
import sys
import unittest

import cleanfork.subprocess as ours
from support import MODULES, SameAsStandard, outcome

PIPE = -1
LONE = "\ud800"  # no character
BYTE = "\udcff"  # a byte that is no UTF-8
HUGE = 2**64


class NoNumber:
    def fileno(self):
        return "x"


class NoPath:
    def __fspath__(self):
        return 5


class Values(SameAsStandard):
    def all_same(self, call, values):
        for value in values:
            with self.subTest(value=ascii(value)[:60]):
                self.same(lambda m: call(m, value))

    def all_of_one_class(self, call, values, kind):
        for value in values:
            with self.subTest(value=ascii(value)[:60]):
                results = [outcome(lambda m: call(m, value), m) for m in MODULES]
                self.assertEqual([r[:2] for r in results], [("raised", kind)] * 2, results)

    @unittest.skipUnless(os.geteuid() == 0, "needs root")
    def test_users_and_groups(self):
        odd = (-1, -2, HUGE, 2**31, 1.5, b"x", "", True, [1], "no\0one", LONE)
        for name in ("user", "group"):
            self.all_same(lambda m, v: m.run(["true"], **{name: v}).returncode, odd)
            self.all_of_one_class(lambda m, v: m.run(["true"], **{name: v}), (2**32,), OverflowError)
            # For setuid(2) it means "no change", and the standard module runs as it is.
            with self.assertRaises(OverflowError):
                ours.run(["true"], **{name: 2**32 - 1})
        self.all_same(lambda m, v: m.run(["true"], extra_groups=v).returncode,
                      ([-1], [HUGE], [2**32], ["x"], [b"x"], [1.5], [None], 5, "abc", b"abc", (1,),
                       {1}, [0] * 100000, [LONE], [""]))

    def test_directories_and_programs(self):
        values = (LONE, BYTE, "/missing" + BYTE, "a\0b", b"a\0b", 5, 1.5, "", b"", NoPath(), [],
                  b"\xff", "/etc/passwd", "/etc/passwd/x", "/missing")
        for name in ("cwd", "executable"):
            self.all_same(lambda m, v: m.run(["true"], **{name: v}).returncode, values)

    def test_words(self):
        words = (["true", LONE], ["true", BYTE], ["true", "a\0"], ["tr\0ue"], [LONE], [BYTE],
                 [b"\xff"], [5], ["true", 5], ["true", None], None, 5, [], "", b"", (), {"true"},
                 {"true": 1}, [NoPath()], ["true", NoPath()], [["true"]], "a\0b")
        for shell in (False, True):
            self.all_same(lambda m, v: m.run(v, shell=shell, stderr=-3).returncode, words)

    def test_variables(self):
        self.all_same(lambda m, v: m.run(["/usr/bin/env"], env=v, stdout=PIPE).stdout,
                      ({LONE: "1"}, {"A": LONE}, {"A": BYTE}, {BYTE: "x"}, {"A\0": "1"},
                       {"A": "1\0"}, {"A=": "1"}, {"=A": "1"}, {5: "1"}, {"A": 5}, {"A": None}, [],
                       [("A", "1")], "x", 5, {b"A": b"1"}, {"A": NoPath()}))
        with self.assertRaises(ValueError):  # of no use: env(1) could not show it
            ours.run(["true"], env={"": "1"})

    def test_descriptors(self):
        self.all_same(lambda m, v: m.run(["true"], pass_fds=v).returncode,
                      ([999], [-1], ["x"], [1.5], [None], 5, [2**40], ["1"], [0], [1, 1], [2],
                       range(3), [NoNumber()]))
        values = (999, -4, -5, -10, 2**40, "x", "/dev/null", 1.5, NoNumber(), [], b"x")
        for name in ("stdin", "stdout", "stderr"):
            self.all_same(lambda m, v: m.run(["true"], **{name: v}).returncode, values)
        for name in ("stdin", "stdout"):  # STDOUT is for standard error alone
            self.all_same(lambda m, v: m.run(["true"], **{name: v}).returncode, (-2,))

    def test_masks_groups_and_switches(self):
        numbers = (-1, -2, -100, 0, 0o777, 0o7777, 0o10000, 2**31 - 1, 2**31, 2**40, -2**40, "x",
                   1.5, None, True, b"1")
        for name in ("umask", "process_group"):
            if name == "process_group" and sys.version_info[:2] == (3, 12):
                # That version takes a number that is no group for none at all.
                numbers = [n for n in numbers if not isinstance(n, int) or abs(n) < 2**31]
            self.all_same(lambda m, v: m.run(["sh", "-c", "umask"], stdout=PIPE,
                                             **{name: v}).stdout, numbers)
        for name in ("start_new_session", "restore_signals", "close_fds", "shell"):
            self.all_same(lambda m, v: m.run("true", **{name: v}).returncode,
                          (None, "x", [], 2, 0.0))

    def test_timeouts(self):
        def wait(m, timeout):
            with m.Popen(["cat"], stdin=PIPE, stdout=PIPE) as p:
                try:
                    return p.wait(timeout)
                finally:
                    p.stdin.close()
                    p.stdout.close()
        self.all_same(wait, (-1, -1e9, 0, 0.01))
        for timeout in ("x", b"x", []):
            self.all_of_one_class(wait, (timeout,), TypeError)
        self.all_of_one_class(wait, (10**400,), OverflowError)
        self.all_same(lambda m, v: m.Popen(["true"]).wait(v),
                      (None, float("nan"), float("inf"), 1e300, True))
        self.all_same(lambda m, v: m.run(["echo", "x"], stdout=PIPE, timeout=v).stdout,
                      (None, float("inf"), 1e300, 10**400, "x"))

    def test_pipe_sizes(self):
        import fcntl

        def size(m, wanted):
            with m.Popen(["true"], stdout=PIPE, pipesize=wanted) as p:
                return fcntl.fcntl(p.stdout, fcntl.F_GETPIPE_SZ)
        self.all_same(size, (0, -1, -5, 10, 4096, 65537, 10**9, 2**40, "x", 1.5, None, True))

    def test_text_options(self):
        for name in ("bufsize", "encoding", "errors", "text", "universal_newlines",
                     "creationflags", "startupinfo", "nonsense"):
            self.all_same(lambda m, v: m.run(["echo", "x"], stdout=PIPE, **{name: v}).stdout,
                          ("x", 5, None, 1.5, 0))


class Patched(unittest.TestCase):
    def test_a_popen_put_in_place_of_ours_is_used(self):
        from unittest import mock

        class Recorded(ours.Popen):
            made = []

            def __init__(self, *args, **options):
                super().__init__(*args, **options)
                self.made.append(self.args)
        with mock.patch.object(ours, "Popen", Recorded):
            ours.run(["true"])
            ours.call(["true", "2"])
            ours.check_output(["true", "3"])
        self.assertEqual(Recorded.made, [["true"], ["true", "2"], ["true", "3"]])
        with mock.patch("cleanfork.subprocess.run", return_value=mock.Mock(stdout=b"mocked")):
            self.assertEqual(ours.check_output(["true"]), b"mocked")

    def test_other_names_are_the_standard_modules(self):
        import subprocess
        for name in ("list2cmdline", "_args_from_interpreter_flags", "_USE_POSIX_SPAWN",
                     "_cleanup", "TimeoutExpired", "CalledProcessError", "SubprocessError",
                     "CompletedProcess", "PIPE", "STDOUT", "DEVNULL"):
            self.assertIs(getattr(ours, name), getattr(subprocess, name))
        with self.assertRaisesRegex(AttributeError, "cleanfork.subprocess"):
            ours.no_such_name


if __name__ == "__main__":
    unittest.main()
