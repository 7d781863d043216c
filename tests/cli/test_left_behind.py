"""What a child leaves running when it has ended, and what becomes of clocks that differ."""

import os
import shutil
import signal
import subprocess
import unittest

from support import CLEANFORK, CommandTest, read_line, wait_for_end


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", "rb") as stat:
        return stat.read().rpartition(b")")[2].split()[0] != b"Z"


class LeftBehind(CommandTest):
    LEAVES = ("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")

    def left(self, *words):
        done = subprocess.run([*words, *self.LEAVES], env=self.environment, check=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        return int(done.stdout)

    def test_a_daemon_that_a_command_has_started_lives_on_as_after_env(self):
        server = self.serve()
        for words in (("env",), ("timeout", "60"), (CLEANFORK, "spawn", "--private", "--"),
                      (CLEANFORK, "spawn", "--timeout", "60", "--"),
                      (CLEANFORK, "spawn", "--socket", server.socket, "--")):
            with self.subTest(words):
                left = self.left(*words)
                # Sessions end in turn: that of this one after that of the command.
                self.cleanfork("stats", "--socket", server.socket)
                self.assertTrue(is_running(left))
                os.kill(left, signal.SIGKILL)

    def test_it_is_no_child_of_the_forkserver_any_more(self):
        server = self.serve()
        left = self.left(CLEANFORK, "spawn", "--socket", server.socket, "--")
        self.assertEqual(self.cleanfork("ps", "--json", "--socket", server.socket).stdout, "[]\n")
        os.kill(left, signal.SIGKILL)

    def test_a_command_that_is_killed_still_ends_all_of_its_group(self):
        process = self.start("sh", "-c", "sleep 1000 & echo $!; wait")
        end = os.pidfd_open(int(read_line(process.stdout)))
        process.kill()
        wait_for_end(end)


class DieWithParent(CommandTest):
    def test_a_set_user_id_program_dies_with_the_forkserver_as_well(self):
        if os.geteuid() != 0:
            self.skipTest("only root can make a program that is another user's")
        path = os.path.join(self.home, "sleep-as-another")
        shutil.copy("/bin/sleep", path)
        os.chown(path, 64322, 64322)
        os.chmod(path, 0o4755)
        os.chmod(self.home, 0o755)
        server = self.serve()
        process = self.start("--socket", server.socket, "--die-with-parent", "sh", "-c",
                             'echo $$; exec "$0" 1000', path)
        pid = int(read_line(process.stdout))
        end = os.pidfd_open(pid)
        while os.readlink(f"/proc/{pid}/exe") != path:
            os.sched_yield()
        server.process.kill()
        wait_for_end(end)


class Clocks(CommandTest):
    """In a container with a time namespace CLOCK_MONOTONIC and CLOCK_BOOTTIME are elsewhere."""

    def test_a_client_whose_clocks_differ_is_served_as_any_other(self):
        server = self.serve()
        at = ("--socket", server.socket)
        for ahead in (100_000, -60):
            elsewhere = ["unshare", "--time", "--fork", "--monotonic", str(ahead), "--boottime",
                         str(ahead)]
            tried = subprocess.run([*elsewhere, "true"], stderr=subprocess.PIPE, check=False)
            if tried.returncode != 0:
                self.skipTest(f"no time namespace here: {tried.stderr.decode()}")

            def tell(*words, elsewhere=elsewhere):
                return subprocess.run([*elsewhere, CLEANFORK, *words], env=self.environment,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, check=False, encoding="utf-8")
            self.assertEqual(tell("spawn", *at, "--timeout", "60", "echo", "x").stdout, "x\n")
            child = tell("spawn", "-d", *at, "sleep", "1000").stdout.split()[0]
            age = tell("ps", *at).stdout.splitlines()[1].split()[3]
            self.assertRegex(age, r"\A\d+s\Z")
            late = tell("wait", "--timeout", "10ms", *at, child)
            self.assertEqual(late.returncode, 124)
            self.assertEqual(tell("kill", "-9", *at, child).returncode, 0)
            self.assertEqual(tell("wait", *at, child).returncode, 128 + signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
