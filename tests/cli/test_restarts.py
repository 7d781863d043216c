"""Detached children that are started anew when they have ended."""

import json
import os
import signal
import sys
import unittest

from support import DEADLINE, CommandTest, Server, await_true, read_line, wait_for_end


class RestartTest(CommandTest):
    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.close)

    def ask(self, *arguments, **options):
        return self.cleanfork(arguments[0], "--socket", self.server.socket, *arguments[1:],
                              **options)

    def start(self, *arguments):
        """The number of a child whose standard output is the pipe that is given back."""
        read_end, write_end = os.pipe()
        said = os.fdopen(read_end, "rb", 0)
        self.addCleanup(said.close)
        done = self.ask("spawn", "-d", "--fd", f"{write_end}:1", *arguments,
                        pass_fds=[write_end])
        os.close(write_end)
        self.assertEqual(done.returncode, 0, done)
        return done.stderr.split()[0], said

    def only(self):
        listed = json.loads(self.ask("ps", "--json").stdout)
        self.assertEqual(len(listed), 1, listed)
        return listed[0]

    def wait(self, child, code):
        done = self.ask("wait", child)
        self.assertEqual(done.returncode, code, done)


class Restarts(RestartTest):
    def test_one_that_fails_is_started_anew_until_it_does_well(self):
        child, said = self.start(
            "--restart", "on-failure", "--restart-delay", "1ms", "-C", self.server.directory,
            "sh", "-c", "printf x >>count; echo $$; [ $(wc -c <count) -ge 3 ] || exit 4")
        self.wait(child, 0)
        pids = said.read().split()
        self.assertEqual(len(pids), 3)
        self.assertEqual(len(set(pids)), 3)

    def test_the_same_child_has_another_pid_and_tells_how_it_ended_before(self):
        child, said = self.start("--restart", "on-failure", "--restart-delay", "1ms",
                                 "sh", "-c", "echo $$; exec sleep 100000")
        first = int(read_line(said))
        end = os.pidfd_open(first)
        os.kill(first, signal.SIGKILL)
        wait_for_end(end)
        second = int(read_line(said))
        listed = self.only()
        self.assertEqual((listed["child"], listed["pid"], listed["restarts"], listed["restart"]),
                         (int(child), second, 1, "on-failure"))
        self.assertEqual(listed["last-status"]["signal"], signal.SIGKILL)
        self.assertIn("running, restarts: 1, last killed by SIGKILL", self.ask("ps").stdout)
        self.assertEqual(self.ask("kill", "-9", child).returncode, 0)
        self.wait(child, 128 + signal.SIGKILL)
        self.assertEqual(said.read(), b"")  # what was kept for the next start is let go

    def test_a_clean_end_is_no_failure(self):
        for command in ("exit 0", "kill -TERM $$", "kill -PIPE $$"):
            with self.subTest(command):
                child, said = self.start("--restart", "on-failure", "--restart-delay", "1ms",
                                         "sh", "-c", "echo once; " + command)
                self.ask("wait", child)
                self.assertEqual(said.read(), b"once\n")

    def test_always_means_after_a_clean_end_too_and_the_limit_of_starts_ends_it(self):
        child, said = self.start("--restart", "always", "--restart-delay", "1ms",
                                 "--restart-max", "4", "sh", "-c", "echo once")
        self.wait(child, 0)
        self.assertEqual(said.read(), b"once\n" * 4)

    def test_signals_that_ask_for_the_end_end_the_restarts(self):
        for name in ("TERM", "INT", "QUIT", "KILL"):
            with self.subTest(name):
                child, said = self.start("--restart", "always", "--restart-delay", "1ms",
                                         "sh", "-c", "echo $$; exec sleep 100000")
                read_line(said)
                self.assertEqual(self.ask("kill", "-s", name, child).returncode, 0)
                self.wait(child, 128 + getattr(signal, "SIG" + name))
                self.assertEqual(said.read(), b"")

    def test_other_signals_do_not(self):
        child, said = self.start("--restart", "always", "--restart-delay", "1ms",
                                 "sh", "-c", "echo $$; exec sleep 100000")
        read_line(said)
        self.assertEqual(self.ask("kill", "-s", "HUP", child).returncode, 0)
        read_line(said)
        self.assertEqual(self.only()["restarts"], 1)
        self.ask("kill", "-9", child)
        self.wait(child, 128 + signal.SIGKILL)

    def test_kill_ends_one_that_waits_for_its_start(self):
        child, said = self.start("--restart", "always", "--restart-delay", "1h",
                                 "sh", "-c", "echo once; exit 6")
        read_line(said)
        await_true(lambda: not self.only()["running"])
        listed = self.only()
        self.assertGreater(listed["restart-in-seconds"], 3000)
        self.assertIn("restarts in", self.ask("ps").stdout)
        done = self.ask("kill", "-s", "HUP", child)
        self.assertIn("waits for its restart", done.stderr)
        self.assertEqual(self.ask("kill", child).returncode, 0)
        self.wait(child, 6)
        self.assertEqual(said.read(), b"")

    def test_shutdown_ends_the_restarts_and_leaves_the_process(self):
        child, said = self.start("--restart", "always", "--restart-delay", "1ms",
                                 "sh", "-c", "echo $$; exec sleep 100000")
        pid = int(read_line(said))
        end = os.pidfd_open(pid)
        self.assertEqual(self.ask("shutdown").returncode, 0)
        self.server.process.wait(DEADLINE)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(end)
        self.assertEqual(said.read(), b"")

    def test_a_program_that_is_gone_by_then_is_told_with_the_reason(self):
        program = os.path.join(self.server.directory, "program")
        with open(program, "w", encoding="utf-8") as script:
            script.write("#!/bin/sh\nrm \"$0\"\nexit 1\n")
        os.chmod(program, 0o755)
        child, _ = self.start("--restart", "on-failure", "--restart-delay", "1ms",
                              "--restart-max", "3", program)
        done = self.ask("wait", child)
        self.assertEqual(done.returncode, 125, done)
        self.assertIn("could not be started again: exec", done.stdout)
        self.assertIn("ENOENT", done.stdout)

    def test_what_is_left_of_a_tree_is_ended_before_the_next_start(self):
        child, said = self.start("--tree", "--restart", "always", "--restart-delay", "300ms",
                                 "sh", "-c", "setsid sleep 100000 & echo $!; wait")
        first = os.pidfd_open(int(read_line(said)))
        os.kill(self.only()["pid"], signal.SIGKILL)
        wait_for_end(first)
        second = os.pidfd_open(int(read_line(said)))
        self.assertEqual(self.ask("kill", "-9", "--tree", child).returncode, 0)
        wait_for_end(second)
        self.wait(child, 128 + signal.SIGKILL)


class Refused(RestartTest):
    def test_options_that_cannot_be_meant(self):
        for arguments, why in (
                (("--restart", "always", "true"), "--detach"),
                (("-d", "--restart", "sometimes", "true"), "restart policy"),
                (("-d", "--restart-delay", "1s", "true"), "need --restart"),
                (("-d", "--restart", "no", "--restart-max", "1", "true"), "need --restart"),
                (("-d", "--restart", "always", "--restart-delay", "2d", "true"), "at most a day"),
        ):
            with self.subTest(arguments):
                done = self.ask("spawn", *arguments)
                self.assertEqual(done.returncode, 125, done)
                self.assertIn(why, done.stderr)


if __name__ == "__main__":
    unittest.main()
