"""The table of differences in docs/python.md, for subprocesses: each row is tried by both modules."""

import ctypes
import gc
import os
import resource
import signal
import subprocess
import sys
import tempfile
import unittest
import warnings

import cleanfork
import cleanfork.subprocess as ours
import tables
from support import SameAsStandard, run_python, wait_readable

PIPE = -1
LIBC = ctypes.CDLL(None, use_errno=True)
SH = "/bin/sh"
BUSY = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"

ROWS = {
    "`preexec_fn`": ["test_preexec_fn"],
    "signals": ["test_no_signal_is_blocked",
                "test_subprocess_state.Signals.test_what_the_program_ignores_is_ignored"],
    "process group": ["test_process_groups.Groups.test_of_a_job_it_is_the_program_s"],
    "parent": ["test_parent_and_waitpid"],
    "SIGCHLD, `os.wait()`": ["test_no_signal_and_no_child"],
    "`RUSAGE_CHILDREN`, `os.times()`": ["test_usage"],
    "a Popen that is dropped while its program runs": ["test_a_dropped_one_leaves_no_zombie"],
    "environment, directory, umask": [
        "test_subprocess_state.Environment.test_changed_environment",
        "test_subprocess_state.Places.test_changed_directory",
        "test_subprocess_state.Places.test_umask"],
    "user, groups, capabilities, no_new_privs, limits, nice, scheduling policy, affinity, "
    "oom_score_adj": [
        "test_subprocess_state.Places.test_limits", "test_subprocess_state.Places.test_priority",
        "test_subprocess_state.Places.test_processors", "test_scheduling",
        "test_identity.Identity.test_root_that_was_given_up_nobody_gets_back",
        "test_identity.Identity.test_the_groups_alone",
        "test_identity.Identity.test_no_new_privs",
        "test_identity.Identity.test_the_bounding_set"],
    "another root directory, namespace, or one more seccomp filter than when the forkserver began":
        ["test_identity.Identity.test_another_root_directory_is_told",
         "test_identity.Identity.test_another_namespace_is_told"],
    "cgroup": ["test_cgroup"],
    "attributes that no option has (I/O priority, timer slack, personality, core dump filter, "
    "memory policy, session keyring, Landlock, security label)": ["test_attributes_without_an_option"],
    "`close_fds=False`": ["test_subprocess_state.Descriptors.test_close_fds_false"],
    "`pass_fds` and standard streams": ["test_number_of_descriptors"],
    "an undefined status": [
        "test_a_status_that_another_took",
        "test_lost_forkserver.Lost.test_no_status_is_ever_made_up_under_fire"],
    "`user=`": ["test_directory_of_another_user"],
    "a user or group of 2³² - 1": ["test_subprocess_values.Values.test_users_and_groups"],
    "a variable without a name": ["test_subprocess_values.Values.test_variables"],
}
# What the last row but one says, by /proc: what a program changes after the start of its forkserver.
ATTRIBUTES = """
import ctypes, os, sys, importlib
LIBC = ctypes.CDLL(None)
m = importlib.import_module(sys.argv[1])
m.run(["true"])
PRCTL_TIMERSLACK, IOPRIO_SET, BEST_EFFORT, NO_RANDOMIZE = 29, 251, 2 << 13, 0x0040000
KEYCTL, JOIN, MEMPOLICY, INTERLEAVE = 250, 1, 238, 3
LIBC.prctl(PRCTL_TIMERSLACK, 123456, 0, 0, 0)
LIBC.syscall(IOPRIO_SET, 1, 0, BEST_EFFORT | 7)
LIBC.personality(NO_RANDOMIZE)
open("/proc/self/coredump_filter", "w").write("0x7f")
LIBC.syscall(MEMPOLICY, INTERLEAVE, ctypes.byref(ctypes.c_ulong(1)), 2)
LIBC.syscall(KEYCTL, JOIN, None)
sys.stdout.write(m.run([sys.executable, "-c", sys.argv[2]], stdout=m.PIPE, text=True).stdout)
print(LIBC.syscall(KEYCTL, 0, -3, 0))
"""
FOUND = """
import ctypes, re
LIBC = ctypes.CDLL(None)
mode = ctypes.c_int()
LIBC.syscall(239, ctypes.byref(mode), None, 0, None, 0)
print(LIBC.prctl(30, 0, 0, 0, 0), LIBC.syscall(252, 1, 0), LIBC.personality(0xffffffff) & 0x0040000,
      open("/proc/self/coredump_filter").read().strip(), mode.value)
print(LIBC.syscall(250, 0, -3, 0))
"""


class Differences(SameAsStandard):
    def test_each_row_of_the_table_has_its_tests(self):
        tables.check(self, "| | standard module | here |", ROWS)

    def test_preexec_fn(self):
        with self.assertRaisesRegex(ValueError, "preexec_fn is not supported"):
            ours.run(["true"], preexec_fn=lambda: None)

    def test_no_signal_is_blocked(self):
        def blocked(m):
            return m.run(["grep", "SigBlk", "/proc/self/status"], stdout=PIPE).stdout.split()[1]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        try:
            self.assertEqual(int(blocked(subprocess), 16), 1 << signal.SIGUSR2 - 1)
            self.assertEqual(int(blocked(ours), 16), 0)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def test_parent_and_waitpid(self):
        def parent(m):
            return int(m.run([SH, "-c", "echo $PPID"], stdout=PIPE).stdout)
        self.assertEqual(parent(subprocess), os.getpid())
        self.assertEqual(parent(ours), cleanfork.client().server["pid"])
        for m, works in ((subprocess, True), (ours, False)):
            p = m.Popen([SH, "-c", "exit 3"])
            if works:
                self.assertEqual(os.waitpid(p.pid, 0)[1], 3 << 8)
                self.assertEqual(p.wait(), 0)  # made up
            else:
                with self.assertRaises(ChildProcessError):
                    os.waitpid(p.pid, 0)
                self.assertEqual(p.wait(), 3)

    def test_no_signal_and_no_child(self):
        for m, comes in ((subprocess, True), (ours, False)):
            came = []
            before = signal.signal(signal.SIGCHLD, lambda *_: came.append(1))
            try:
                m.run(["true"])
                self.assertEqual(bool(came), comes)
                with self.assertRaises(ChildProcessError):
                    os.wait()
            finally:
                signal.signal(signal.SIGCHLD, before)

    def test_usage(self):
        def used():
            usage, times = resource.getrusage(resource.RUSAGE_CHILDREN), os.times()
            return (usage.ru_utime + usage.ru_stime, times.children_user + times.children_system)
        for m, counts in ((subprocess, True), (ours, False)):
            before = used()
            with m.Popen([sys.executable, "-c", BUSY]) as p:
                pass
            self.assertEqual([b - a > 0.2 for a, b in zip(before, used())], [counts] * 2)
        self.assertGreater(p.rusage.ru_utime + p.rusage.ru_stime, 0.2)

    def test_a_dropped_one_leaves_no_zombie(self):
        for m, zombie in ((subprocess, True), (ours, False)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                p = m.Popen(["cat"], stdin=PIPE)
                pid, stdin, pidfd = p.pid, p.stdin, os.pidfd_open(p.pid)
                del p
                gc.collect()
            self.assertEqual([(w.category, str(w.message)) for w in caught],
                             [(ResourceWarning, f"subprocess {pid} is still running")])
            stdin.close()
            wait_readable(pidfd)
            if zombie:
                with open(f"/proc/{pid}/stat") as file:
                    self.assertEqual(file.read().rpartition(")")[2].split()[0], "Z")
                m.run(["true"])  # reaps those in its list
            else:
                cleanfork.client().stats()  # it has reaped before it answers
            self.assertFalse(os.path.exists(f"/proc/{pid}"), m)
            os.close(pidfd)

    @unittest.skipIf(os.geteuid() != 0, "needs root")
    def test_scheduling(self):
        code = ("import importlib, os, sys; m = importlib.import_module(sys.argv[1]); m.run('true');"
                "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0));"
                "open('/proc/self/oom_score_adj', 'w').write('500');"
                "m.run([sys.executable, '-c', 'import os; print(os.sched_getscheduler(0),"
                " open(\"/proc/self/oom_score_adj\").read())'])")
        for module in ("subprocess", ours.__name__):
            self.assertEqual(run_python(code, module).stdout.split(), [str(os.SCHED_BATCH), "500"])

    def test_cgroup(self):
        with open("/proc/self/cgroup") as file:
            own = next((line[3:-1] for line in file if line.startswith("0::")), None)
        place = f"/sys/fs/cgroup{own}/cleanfork-test-{os.getpid()}"
        try:
            os.mkdir(place)
            self.addCleanup(os.rmdir, place)
            if not os.path.exists(f"{place}/cgroup.procs"):
                raise OSError("no cgroup2 there")
        except OSError as e:
            self.skipTest(f"no cgroup can be made: {e}")
        code = ("import importlib, os, sys; m = importlib.import_module(sys.argv[1]); m.run('true');"
                "open(sys.argv[2] + '/cgroup.procs', 'w').write(str(os.getpid()));"
                "m.run(['cat', '/proc/self/cgroup'])")
        found = {}
        for module in ("subprocess", ours.__name__):
            found[module] = run_python(code, module, place).stdout
        self.assertIn(f"{own}/cleanfork-test".replace("//", "/"), found["subprocess"])
        self.assertNotIn("cleanfork-test", found[ours.__name__])

    @unittest.skipIf(os.uname().machine != "x86_64", "the numbers of system calls are x86-64's")
    def test_attributes_without_an_option(self):
        found = {}
        for m in (subprocess, ours):
            p = run_python(ATTRIBUTES, m.__name__, FOUND)
            attributes, keyring, programs_keyring = p.stdout.splitlines()
            found[m] = attributes.split(), keyring == programs_keyring
        *usual, _ = run_python(FOUND).stdout.splitlines()
        self.assertEqual(found[subprocess],
                         (["123456", str(2 << 13 | 7), str(0x0040000), "0000007f", "3"], True))
        self.assertEqual(found[ours], (usual[0].split(), False))

    def test_number_of_descriptors(self):
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(64)]
        try:
            self.same_result(lambda m: m.run(["true"], pass_fds=fds[:61]).returncode)
            self.assertEqual(subprocess.run(["true"], pass_fds=fds).returncode, 0)
            with self.assertRaises(cleanfork.SpawnError) as caught:
                ours.run(["true"], pass_fds=fds)
            self.assertEqual(caught.exception.step, "request")
        finally:
            for fd in fds:
                os.close(fd)

    def test_a_status_that_another_took(self):
        code = ("import importlib, signal, sys; m = importlib.import_module(sys.argv[1]);"
                "signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
                "print(m.run(['sh', '-c', 'exit 3']).returncode)")
        self.assertEqual(run_python(code, "subprocess").stdout, "0\n")
        self.assertEqual(run_python(code, ours.__name__).stdout, "3\n")

    @unittest.skipIf(os.geteuid() != 0, "needs root")
    def test_directory_of_another_user(self):
        with tempfile.TemporaryDirectory() as private:
            self.assertEqual(subprocess.run(["true"], cwd=private, user="nobody").returncode, 0)
            with self.assertRaises(PermissionError) as caught:
                ours.run(["true"], cwd=private, user="nobody")
            self.assertEqual(caught.exception.filename, private)


if __name__ == "__main__":
    unittest.main()
