"""The wrapper of each test: what hangs is told, and nothing of it is left."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest

from patience import PATIENCE

LEFTOVERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "leftovers.py")
# A child of its own session, which has a child; a file; and then it hangs.
HANGS = """
import os, signal, sys, time
open(os.path.join(os.environ["TMPDIR"], "left"), "w").close()
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() != 0:
        os.write(w, b"x")
else:
    os.read(r, 1)
    signal.signal(signal.SIGABRT, lambda *_: (print("last words", flush=True), os._exit(3)))
    print("hangs", flush=True)
while True:
    time.sleep(1000)
"""


class Wrapper(unittest.TestCase):
    def setUp(self):
        self.directory = self.enterContext(tempfile.TemporaryDirectory())
        self.env = {**os.environ, "TMPDIR": self.directory}

    def start(self, *arguments):
        """With a pipe that all of its processes have."""
        self.readable, self.writable = os.pipe()
        self.addCleanup(os.close, self.readable)
        p = subprocess.Popen([sys.executable, LEFTOVERS, *arguments], env=self.env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             pass_fds=[self.writable])
        os.close(self.writable)
        self.addCleanup(p.wait)
        self.addCleanup(p.stdout.close)
        return p

    def run_to_end(self, *arguments):
        p = self.start(*arguments)
        out, _ = p.communicate(timeout=PATIENCE)
        self.assertEqual(os.read(self.readable, 1), b"")  # all who had its other end are gone
        self.assertEqual(os.listdir(self.directory), [])
        return p.returncode, out

    def test_what_hangs_is_told_and_ended_with_its_files_and_processes(self):
        for limit in ("1", "10", "100"):
            code, out = self.run_to_end("--limit", limit, sys.executable, "-c", HANGS)
            if "hangs\n" in out:  # and not still about to begin
                break
        self.assertEqual(code, 124)
        self.assertRegex(out, r"(?m)^hung: .*: over its limit after \d+ s$")
        self.assertEqual(len(re.findall(r"(?m)^hung: process \d+ ", out)), 3)
        self.assertIn("last words\n", out)
        self.assertRegex(out, r"(?m)^removed: file .*/left$")

    def test_so_is_what_is_ended_from_outside(self):
        p = self.start(sys.executable, "-c", HANGS)
        self.assertEqual(p.stdout.readline(), "hangs\n")
        p.send_signal(signal.SIGTERM)
        self.assertRegex(p.stdout.read(), r"ended from outside after [\s\S]*removed: file .*/left")
        self.assertEqual(p.wait(PATIENCE), 124)
        self.assertEqual(os.read(self.readable, 1), b"")
        self.assertEqual(os.listdir(self.directory), [])

    def test_the_limit_follows_the_machine(self):
        self.env["CLEANFORK_TEST_SLOWNESS"] = "1000"
        code, out = self.run_to_end("--limit", "0.1", "sleep", "0.5")
        self.assertEqual((code, out), (0, ""))

    def test_what_is_left_behind_is_told_and_a_failure(self):
        self.env["CLEANFORK_TEST_SLOWNESS"] = "1"
        code, out = self.run_to_end(
            "--grace", "0.1", "sh", "-c", "touch $TMPDIR/left; sleep 1000 & exit 0")
        self.assertEqual(code, 1)
        self.assertRegex(out, r"\Aleft behind: process \d+ .*\nleft behind: file .*/left\n\Z")

    def test_a_clean_run_has_the_status_of_its_command(self):
        self.assertEqual(self.run_to_end("--limit", "100", "sh", "-c", "exit 7"), (7, ""))


# One that is stopped, in the group of this; and one that ends as the last with a parent outside.
STOPPED = """
import os, signal
group, stopped = os.getpgrp(), os.fork()
if stopped == 0:
    signal.pause()
os.kill(stopped, signal.SIGSTOP)
os.waitpid(stopped, os.WUNTRACED)
stranger = os.fork()
if stranger == 0:
    os.setpgid(0, 0)
    if (child := os.fork()) == 0:
        os.setpgid(0, group)
        os._exit(0)
    os.waitpid(child, 0)
    os._exit(0)
os.waitpid(stranger, 0)
os.kill(stopped, signal.SIGKILL)
os.waitpid(stopped, 0)
print("survived")
"""


class Groups(Wrapper):
    def test_a_stopped_process_of_a_test_ends_nobody_where_the_group_is_orphaned(self):
        p = subprocess.run([sys.executable, LEFTOVERS, sys.executable, "-c", STOPPED], env=self.env,
                           text=True, stdout=subprocess.PIPE, start_new_session=True)
        self.assertEqual((p.returncode, p.stdout), (0, "survived\n"))

    def test_what_the_shell_ignores_in_the_background_is_not_ignored_in_a_test(self):
        told = "import signal as s; print([n for n in s.valid_signals() if s.getsignal(n) == s.SIG_IGN])"
        out = subprocess.check_output(
            ["sh", "-c", 'trap "" INT QUIT HUP; exec "$@"', "sh", sys.executable, LEFTOVERS,
             "--limit", "100", sys.executable, "-c", told], env=self.env, text=True)
        self.assertEqual(out.splitlines()[0], "[<Signals.SIGPIPE: 13>, <Signals.SIGXFSZ: 25>]")

    def test_a_ctrl_c_reaches_the_command(self):
        p = self.start(sys.executable, "-c", "import signal\n"
                       "signal.signal(signal.SIGINT, lambda *_: exit(7))\n"
                       "print('ready', flush=True)\nsignal.pause()")
        self.assertEqual(p.stdout.readline(), "ready\n")
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(PATIENCE), 7)


if __name__ == "__main__":
    unittest.main()
