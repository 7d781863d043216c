"""What state the child starts with, by both modules: environment, places, descriptors, ids."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import unittest

from support import DEADLINE, SameAsStandard, with_process_group

PIPE = -1
SH = "/bin/sh"


def output(m, command, **options):
    """The output and code of a shell command."""
    p = m.run([SH, "-c", command], stdout=PIPE, **options)
    return p.stdout, p.returncode


class Environment(SameAsStandard):
    def test_current_environment(self):
        self.same_result(lambda m: output(m, "env | grep -v '^_=' | sort"))

    def test_changed_environment(self):
        os.environ["CLEANFORK_TEST_CHANGED"] = "now"
        try:
            result = self.same_result(lambda m: output(m, "echo $CLEANFORK_TEST_CHANGED"))
        finally:
            del os.environ["CLEANFORK_TEST_CHANGED"]
        self.assertEqual(result[0], b"now\n")
        self.same_result(lambda m: output(m, "env | grep CLEANFORK_TEST_CHANGED"))

    def test_putenv(self):
        os.putenv("CLEANFORK_TEST_PUT", "by putenv")
        try:
            self.same_result(lambda m: output(m, "echo $CLEANFORK_TEST_PUT"))
        finally:
            os.unsetenv("CLEANFORK_TEST_PUT")

    def test_given_environment(self):
        self.same_result(lambda m: output(m, "/usr/bin/env", env={"A": "1", "B": "x=y"}))
        self.same_result(lambda m: m.run(["/usr/bin/env"], env={}, stdout=PIPE).stdout)
        self.same_result(lambda m: m.run(["/usr/bin/env"], env={b"A": b"\xff"},
                                         stdout=PIPE).stdout)

    def test_bad_names_and_values(self):
        self.same_error(ValueError, lambda m: m.run(["true"], env={"A=B": "1"}))
        self.same_error(TypeError, lambda m: m.run(["true"], env={"A": 1}))

    def test_path_of_the_given_environment(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "only-here")
            with open(path, "w") as f:
                f.write("#!/bin/sh\necho found\n")
            os.chmod(path, 0o700)
            self.same_result(lambda m: m.run(["only-here"], env={"PATH": d}, stdout=PIPE).stdout)
            self.same_error(FileNotFoundError, lambda m: m.run(["only-here"]))

    def test_no_path(self):
        self.same_result(lambda m: m.run(["true"], env={}).returncode)

    def test_empty_path(self):
        self.same_error(FileNotFoundError, lambda m: m.run(["true"], env={"PATH": ""}))
        self.same_result(lambda m: m.run(["true"], env={"PATH": ""}, cwd="/bin").returncode)


class Signals(SameAsStandard):
    def ignored(self, expected=None, **options):
        got, code = self.same_result(lambda m: output(m, "grep SigIgn /proc/self/status", **options))
        self.assertEqual(code, 0)
        if expected is not None:
            numbers = {n for n in signal.valid_signals() if int(got.split()[1], 16) >> n - 1 & 1}
            self.assertEqual(numbers, expected)

    def test_what_the_program_ignores_is_ignored(self):
        self.ignored(set())
        self.ignored({signal.SIGPIPE, signal.SIGXFSZ}, restore_signals=False)
        changed = {signal.SIGHUP: signal.SIG_IGN, signal.SIGINT: signal.SIG_IGN,
                   signal.SIGRTMAX: signal.SIG_IGN, signal.SIGPIPE: signal.SIG_DFL,
                   signal.SIGUSR1: lambda *_: None}
        before = {number: signal.signal(number, to) for number, to in changed.items()}
        try:
            usual = {signal.SIGHUP, signal.SIGINT, signal.SIGRTMAX}
            self.ignored(usual)
            self.ignored(usual | {signal.SIGXFSZ}, restore_signals=False)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Namespaces(unittest.TestCase):
    @unittest.skipIf(os.geteuid() != 0, "needs a PID namespace")
    def test_a_process_group_without_a_number_is_no_error(self):
        program = ("import os, cleanfork, cleanfork.subprocess as s\n"
                   "if __name__ == '__main__':\n"
                   "    p = cleanfork.get_context().Process(target=os._exit, args=(3,))\n"
                   "    p.start(); p.join()\n"
                   "    print(os.getpgrp(), s.run(['true']).returncode, p.exitcode)\n")
        with tempfile.NamedTemporaryFile("w", suffix=".py") as f:
            f.write(program)
            f.flush()
            p = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", sys.executable, f.name],
                               capture_output=True, text=True, timeout=DEADLINE)
        self.assertEqual(p.stdout, "0 0 3\n", p.stderr)


class Places(SameAsStandard):
    def test_directory(self):
        for cwd in ("/", "/usr", b"/usr/bin"):
            self.same_result(lambda m: output(m, "pwd", cwd=cwd))

    def test_changed_directory(self):
        before = os.getcwd()
        with tempfile.TemporaryDirectory() as d:
            os.mkdir(os.path.join(d, "below"))
            try:
                os.chdir(d)
                self.assertEqual(self.same_result(lambda m: output(m, "pwd -P"))[0].strip(),
                                 os.fsencode(os.path.realpath(d)))
                self.same_result(lambda m: output(m, "pwd", cwd="below"))
                self.same_result(lambda m: output(m, "pwd", cwd="."))
                self.same_error(FileNotFoundError, lambda m: m.run(["true"], cwd="missing"))
                self.same_error(FileNotFoundError, lambda m: m.run(["./x"], cwd="below"))
            finally:
                os.chdir(before)
        self.same_result(lambda m: output(m, "pwd"))

    def test_program_relative_to_the_new_directory(self):
        self.same_result(lambda m: m.run(["./true"], cwd="/bin").returncode)

    def test_umask(self):
        self.same_result(lambda m: output(m, "umask"))
        self.same_result(lambda m: output(m, "umask", umask=0o137))
        self.same_result(lambda m: output(m, "umask", umask=0))
        before = os.umask(0o27)
        try:
            self.assertEqual(self.same_result(lambda m: output(m, "umask"))[0], b"0027\n")
        finally:
            os.umask(before)

    def test_limits(self):
        self.same_result(lambda m: output(m, "ulimit -a"))
        before = resource.getrlimit(resource.RLIMIT_CORE)
        soft = 1024 * 512
        resource.setrlimit(resource.RLIMIT_CORE, (soft, before[1]))
        try:
            self.same_result(lambda m: output(m, "ulimit -a"))
        finally:
            resource.setrlimit(resource.RLIMIT_CORE, before)
        self.same_result(lambda m: output(m, "ulimit -a"))

    def test_processors(self):
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(before)})
        try:
            self.same_result(lambda m: output(m, "grep Cpus_allowed_list /proc/self/status"))
        finally:
            os.sched_setaffinity(0, before)

    def test_priority(self):
        code = ("import os, importlib, sys; m = importlib.import_module(sys.argv[1]);"
                "m.run(['true']); os.nice(3); m.run(['nice'])")
        result = self.same_result(lambda m: m.run(
            [sys.executable, "-c", code, m.__name__], stdout=PIPE).stdout)
        self.assertTrue(result.strip().isdigit())


class Descriptors(SameAsStandard):
    def numbers(self, m, **options):
        # That of the listing is the lowest free one.
        return output(m, "ls /proc/self/fd | sort -n", **options)

    def test_only_the_standard_ones(self):
        self.same_result(lambda m: self.numbers(m))

    def test_pass_fds(self):
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
        try:
            result = self.same_result(lambda m: self.numbers(m, pass_fds=fds[1:]))
            self.assertIn(b"%d" % fds[2], result[0])
        finally:
            for fd in fds:
                os.close(fd)

    def test_pass_fds_that_are_not_inheritable_stay_so(self):
        r, w = os.pipe()
        try:
            self.same_result(lambda m: (
                m.run([SH, "-c", f"echo x >&{w}"], pass_fds=(w,)).returncode,
                os.read(r, 10), os.get_inheritable(w)))
        finally:
            os.close(r)
            os.close(w)

    def test_close_fds_false(self):
        r, w = os.pipe()
        os.set_inheritable(w, True)
        try:
            self.same_result(lambda m: (
                m.run([SH, "-c", f"echo x >&{w}"], close_fds=False).returncode, os.read(r, 10)))
            self.same_result(lambda m: self.numbers(m, close_fds=False))
        finally:
            os.close(r)
            os.close(w)

    def test_pass_fds_and_close_fds_false(self):
        def call(m):
            with self.assertWarns(RuntimeWarning) as caught:
                m.run(["true"], pass_fds=[1], close_fds=False)
            return str(caught.warning)
        self.same_result(call)

    def test_standard_streams_swapped(self):
        self.same_result(lambda m: m.run(
            [sys.executable, "-c",
             "import importlib, sys; m = importlib.import_module(sys.argv[1]);"
             "m.run(['sh', '-c', 'echo to1; echo to2 >&2'], stdout=2, stderr=1)", m.__name__],
            capture_output=True).__dict__ | {"args": None})

    def test_closed_standard_input(self):
        code = ("import importlib, os, sys; m = importlib.import_module(sys.argv[1]);"
                "os.close(0); p = m.run(['sh', '-c', 'echo x'], stdout=m.PIPE);"
                "print(p.stdout, p.returncode)")
        self.same_result(lambda m: m.run([sys.executable, "-c", code, m.__name__],
                                         stdout=PIPE).stdout)

    def test_inherited_standard_streams(self):
        code = ("import importlib, sys; m = importlib.import_module(sys.argv[1]);"
                "m.run(['sh', '-c', 'cat; echo err >&2'])")
        self.same_result(lambda m: m.run(
            [sys.executable, "-c", code, m.__name__], input=b"through", capture_output=True
        ).__dict__ | {"args": None})


class Groups(SameAsStandard):
    def test_new_session(self):
        def call(m):
            p = m.run([SH, "-c", "cut -d' ' -f6 /proc/$$/stat; echo $$"], stdout=PIPE,
                      start_new_session=True)
            sid, pid = p.stdout.split()
            return sid == pid
        self.assertTrue(self.same_result(call))

    @with_process_group
    def test_own_group(self):
        def call(m):
            pgid, pid = m.run([SH, "-c", "cut -d' ' -f5 /proc/$$/stat; echo $$"], stdout=PIPE,
                              process_group=0).stdout.split()
            return pgid == pid
        self.assertTrue(self.same_result(call))

    @with_process_group
    def test_group_of_another_child(self):
        def call(m):
            with m.Popen(["cat"], stdin=PIPE, process_group=0) as first:
                with m.Popen(["cat"], stdin=PIPE, process_group=first.pid) as second:
                    return os.getpgid(second.pid) == first.pid
        self.assertTrue(self.same_result(call))

    @with_process_group
    def test_no_such_group(self):
        self.same_error(PermissionError, lambda m: m.run(["true"], process_group=2**22 - 1))

    @with_process_group
    def test_session_and_group(self):
        self.same_error(PermissionError, lambda m: m.run(
            ["true"], start_new_session=True, process_group=0))


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Credentials(SameAsStandard):
    def test_user(self):
        self.same_result(lambda m: output(m, "id", user="nobody", cwd="/"))
        self.same_result(lambda m: output(m, "id -u", user=65534, cwd="/"))

    def test_group(self):
        self.same_result(lambda m: output(m, "id", group="nogroup"))
        self.same_result(lambda m: output(m, "id", group=65534, user=65534, cwd="/"))

    def test_extra_groups(self):
        self.same_result(lambda m: output(m, "id", extra_groups=[1, "daemon", 5]))
        self.same_result(lambda m: output(m, "id", extra_groups=[]))

    def test_unknown_names(self):
        self.same_error(KeyError, lambda m: m.run(["true"], user="no-such-user"))
        self.same_error(KeyError, lambda m: m.run(["true"], group="no-such-group"))
        self.same_error(ValueError, lambda m: m.run(["true"], user=-5))
        self.same_error(TypeError, lambda m: m.run(["true"], user=1.5))


if __name__ == "__main__":
    unittest.main()
