"""Each behaviour by both modules, for the same call: failures to start, and Popen."""

import os
import pathlib
import signal
import sys
import tempfile
import unittest

from support import SameAsStandard, wait_readable

PIPE, DEVNULL = -1, -3
SH = "/bin/sh"


class Failures(SameAsStandard):
    def test_no_such_program(self):
        self.same_error(FileNotFoundError, lambda m: m.run(["no-such-program"]))
        self.same_error(FileNotFoundError, lambda m: m.run(["/no/such/program"]))
        self.same_error(FileNotFoundError, lambda m: m.run(["./relative"]))
        self.same_error(FileNotFoundError, lambda m: m.run([b"bytes"]))

    def test_not_executable(self):
        with tempfile.NamedTemporaryFile() as f:
            self.same_error(PermissionError, lambda m: m.run([f.name]))
        self.same_error(PermissionError, lambda m: m.run(["/"]))

    def test_part_of_the_path_is_a_file(self):
        self.same_error(NotADirectoryError, lambda m: m.run(["/bin/true/x"]))

    def test_no_format(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "script")
            with open(path, "w") as f:
                f.write("echo no interpreter\n")
            os.chmod(path, 0o700)
            self.same_error(OSError, lambda m: m.run([path]))

    def test_missing_interpreter(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "script")
            with open(path, "w") as f:
                f.write("#!/no/such/interpreter\n")
            os.chmod(path, 0o700)
            self.same_error(FileNotFoundError, lambda m: m.run([path]))

    def test_not_executable_in_path(self):
        with tempfile.TemporaryDirectory() as d:
            open(os.path.join(d, "prog"), "w").close()
            self.same_error(PermissionError, lambda m: m.run(
                ["prog"], env={"PATH": f"{d}:/nonexistent"}))

    def test_no_such_directory(self):
        self.same_error(FileNotFoundError, lambda m: m.run(["true"], cwd="/no/such"))
        self.same_error(FileNotFoundError, lambda m: m.run(["true"], cwd=""))
        self.same_error(NotADirectoryError, lambda m: m.run(["true"], cwd="/bin/true"))
        self.same_error(FileNotFoundError, lambda m: m.run(["true"], cwd=pathlib.Path("/no")))

    def test_directory_and_program_missing(self):
        self.same_error(FileNotFoundError, lambda m: m.run(["/no/program"], cwd="/no/dir"))

    def test_closed_descriptor(self):
        self.same_error(OSError, lambda m: m.run(["true"], pass_fds=[900]))

    def test_negative_descriptor(self):
        self.same_error(ValueError, lambda m: m.run(["true"], pass_fds=[-7]))

    def test_a_failure_closes_the_pipes(self):
        def call(m):
            m.run(["true"])  # what is made once is there from now on
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                try:
                    m.Popen(["/no/such"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
                except FileNotFoundError:
                    pass
            return len(os.listdir("/proc/self/fd")) - before
        self.assertEqual(self.same_result(call), 0)

    def test_startupinfo(self):
        self.same_error(ValueError, lambda m: m.run(["true"], startupinfo=object()))
        self.same_error(ValueError, lambda m: m.run(["true"], creationflags=1))


class Handle(SameAsStandard):
    def test_poll_and_wait(self):
        def call(m):
            with m.Popen(["cat"], stdin=PIPE) as p:
                first = p.poll()
                p.stdin.close()
                return first, p.wait(), p.poll(), p.returncode, p.wait(timeout=0)
        self.same_result(call)

    def test_wait_timeout(self):
        def call(m):
            with m.Popen(["cat"], stdin=PIPE) as p:
                p.wait(timeout=0.02)
        self.same_error(Exception, call)

    def test_negative_timeout(self):
        def call(m):
            with m.Popen(["cat"], stdin=PIPE) as p:
                p.wait(timeout=-1)
        self.same_error(Exception, call)

    def test_signals(self):
        def call(m, act):
            with m.Popen(["sleep", "infinity"]) as p:
                act(p)
                return p.wait()
        self.same_result(lambda m: call(m, lambda p: p.kill()))
        self.same_result(lambda m: call(m, lambda p: p.terminate()))
        self.same_result(lambda m: call(m, lambda p: p.send_signal(signal.SIGUSR2)))

    def test_signal_after_the_end(self):
        def call(m):
            p = m.Popen(["true"])
            p.wait()
            return p.kill(), p.terminate(), p.send_signal(signal.SIGINT)
        self.same_result(call)

    def test_signal_of_no_number(self):
        def call(m):
            with m.Popen(["cat"], stdin=PIPE) as p:
                p.send_signal(1000)
        self.same_error(OSError, call)

    def test_signal_to_one_that_ended_unnoticed(self):
        def call(m):
            with m.Popen(["cat"], stdin=PIPE, stdout=PIPE) as p:
                p.stdin.close()
                p.stdout.read()
                wait_readable(os.pidfd_open(p.pid)) if m.__name__ == "subprocess" else \
                    wait_readable(p.pidfd)
                p.send_signal(signal.SIGKILL)
                return p.returncode
        self.same_result(call)

    def test_context_manager_waits_and_closes(self):
        def call(m):
            with m.Popen(["cat"], stdin=PIPE, stdout=PIPE, stderr=PIPE) as p:
                pass
            return p.returncode, p.stdin.closed, p.stdout.closed, p.stderr.closed
        self.same_result(call)

    def test_communicate(self):
        def call(m):
            p = m.Popen([SH, "-c", "cat; echo err >&2"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
            return p.communicate(b"in"), p.returncode
        self.same_result(call)

    def test_communicate_again_after_a_timeout(self):
        def call(m):
            r, w = os.pipe()
            p = m.Popen([SH, "-c", "echo a; read line; echo b"], stdin=r, stdout=PIPE)
            os.close(r)
            seen = None
            while seen is None:
                try:
                    p.communicate(timeout=0.1)
                except m.TimeoutExpired as e:
                    seen = e.stdout
            os.close(w)
            return seen, p.communicate(), p.returncode
        self.same_result(call)

    def test_input_after_communication_began(self):
        def call(m):
            with m.Popen(["sleep", "infinity"], stdin=PIPE, stdout=PIPE) as p:
                try:
                    p.communicate(b"x", timeout=0.02)
                except m.TimeoutExpired:
                    pass
                try:
                    p.communicate(b"more")
                finally:
                    p.kill()
        self.same_error(ValueError, call)

    def test_attributes(self):
        def call(m):
            with m.Popen(["true"], stdin=PIPE, encoding="utf-8") as p:
                p.wait()
                return (p.args, p.encoding, p.errors, p.pipesize, p.stdout, p.stderr,
                        p.universal_newlines, p.pid > 1, repr(p))
        self.same_result(call)

    def test_long_repr(self):
        def call(m):
            with m.Popen(["true", "x" * 100]) as p:
                p.wait()
                return repr(p)
        self.same_result(call)

    def test_generic_alias(self):
        self.same_result(lambda m: m.Popen[bytes].__args__)

    def test_pipesize(self):
        import fcntl

        def call(m):
            with m.Popen(["cat"], stdin=PIPE, stdout=PIPE, pipesize=8192) as p:
                return [fcntl.fcntl(f, fcntl.F_GETPIPE_SZ) for f in (p.stdin, p.stdout)]
        self.same_result(call)

    def test_signature(self):
        import inspect
        import subprocess as stock

        from cleanfork import subprocess

        for name in ("run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"):
            self.same_result(lambda m: str(inspect.signature(getattr(m, name))))
        expected = str(inspect.signature(stock.Popen)).removesuffix(")") + ", pty=False)"
        self.assertEqual(str(inspect.signature(subprocess.Popen)), expected)

        class Other(subprocess.Popen):
            def __init__(self, one):
                pass
        self.assertEqual(str(inspect.signature(Other)), "(one)")

    def test_public_names(self):
        self.same_result(lambda m: sorted(m.__all__))
        self.same_result(lambda m: [getattr(m, name) for name in (
            "PIPE", "STDOUT", "DEVNULL", "CalledProcessError", "SubprocessError",
            "TimeoutExpired", "CompletedProcess")])

    def test_running_one_that_is_dropped_warns(self):
        def call(m):
            with self.assertWarns(ResourceWarning) as caught:
                p = m.Popen(["cat"], stdin=PIPE)
                pid, stdin = str(p.pid), p.stdin
                p.stdin = None
                del p
            stdin.close()
            return str(caught.warning).replace(pid, "PID")
        self.same_result(call)

    def test_audit_event(self):
        seen = []
        sys.addaudithook(lambda event, args: event == "subprocess.Popen" and seen.append(args))

        def call(m):
            del seen[:]
            m.run(["echo", "x"], cwd="/", env={"A": "b"}, stdout=DEVNULL)
            return list(seen)
        self.same_result(call)


if __name__ == "__main__":
    unittest.main()
