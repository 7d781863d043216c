"""`cleanfork spawn --pty`, and the terminal of the person in front of it."""

import contextlib
import os
import signal
import unittest

from support import DEADLINE, await_state
from terminal_support import PtyTest


class WithTerminal(PtyTest):
    def test_the_child_is_on_a_terminal_of_its_own(self):
        terminal = self.terminal("spawn", "-t", "sh", "-c",
                                 "tty; tty </dev/tty; test -t 1 && test -t 2 && echo both")
        self.assertEqual(terminal.exit_code(), 0)
        shown = terminal.seen.decode().split()
        self.assertRegex(shown[0], r"\A/dev/pts/\d+\Z")
        self.assertNotEqual(shown[0], os.ttyname(terminal.slave))
        self.assertEqual(shown[2], "both")

    def test_the_window_size_is_kept_and_follows(self):
        terminal = self.terminal("spawn", "-t", "sh", "-c",
                                 "trap 'stty size; exit 0' WINCH; stty size; "
                                 "while :; do sleep 0.01; done")
        terminal.await_output(b"33 99\r\n")
        terminal.resize(44, 111)
        os.kill(terminal.pid, signal.SIGWINCH)
        terminal.await_output(b"44 111\r\n")
        self.assertEqual(terminal.exit_code(), 0)

    def test_the_modes_are_raw_while_it_runs_and_restored_after(self):
        terminal = self.terminal("spawn", "-t", "sh", "-c", "stty -echo; echo ready; read x; exit 5")
        terminal.await_output(b"ready")
        self.assertTrue(terminal.is_raw())
        terminal.type(b"\r")
        self.assertEqual(terminal.exit_code(), 5)
        self.assertTrue(terminal.is_as_before())

    def test_ctrl_c_ends_the_foreground_program_of_the_pty(self):
        # The inner shell says it: a signal before its sleep has begun ends it too.
        terminal = self.terminal("spawn", "-t", "sh", "-c",
                                 "trap 'echo; echo shell goes on' INT; "
                                 "sh -c 'echo ready; exec sleep 1000'; exit 9")
        terminal.await_output(b"ready")
        terminal.type(b"\x03")
        terminal.await_output(b"shell goes on")
        self.assertEqual(terminal.exit_code(), 9)
        self.assertTrue(terminal.is_as_before())

    def test_end_of_file_can_be_typed(self):
        terminal = self.terminal("spawn", "-t", "cat")
        terminal.type(b"hello\r")
        terminal.await_output(b"hello\r\nhello\r\n")
        terminal.type(b"\x04")
        self.assertEqual(terminal.exit_code(), 0)

    def test_the_modes_are_restored_when_the_command_is_ended_by_a_signal(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with self.subTest(number):
                terminal = self.terminal("spawn", "-t", "sh", "-c", "echo ready; exec sleep 1000")
                terminal.await_output(b"ready")
                self.assertTrue(terminal.is_raw())
                os.kill(terminal.pid, number)
                self.assertEqual(terminal.exit_code(),
                                 -number if number == signal.SIGINT else 128 + number)
                self.assertTrue(terminal.is_as_before())

    def test_the_modes_are_restored_when_the_command_itself_crashes(self):
        terminal = self.terminal("spawn", "-t", "sh", "-c", "echo ready; exec sleep 1000")
        terminal.await_output(b"ready")
        os.kill(terminal.pid, signal.SIGXCPU)
        self.assertEqual(os.WTERMSIG(terminal.wait()), signal.SIGXCPU)
        self.assertTrue(terminal.is_as_before())

    def test_a_stop_restores_the_modes_and_continuing_makes_them_raw_again(self):
        terminal = self.terminal("spawn", "-t", "sh", "-c", "echo $$.; exec cat")
        child = int(terminal.await_output(b".").rstrip(b"."))
        os.kill(terminal.pid, signal.SIGTSTP)
        self.assertTrue(os.WIFSTOPPED(terminal.wait(os.WUNTRACED)))
        self.assertTrue(terminal.is_as_before())
        await_state(child, "T")
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.type(b"awake\r")
        terminal.await_output(b"awake\r\nawake\r\n")
        self.assertTrue(terminal.is_raw())
        terminal.type(b"\x04")
        self.assertEqual(terminal.exit_code(), 0)
        self.assertTrue(terminal.is_as_before())

    def test_a_spawn_that_fails_leaves_the_terminal_as_it_was(self):
        terminal = self.terminal("spawn", "-t", "no-such-program-here")
        self.assertEqual(terminal.exit_code(), 127)
        self.assertTrue(terminal.is_as_before())

    def test_without_pty_the_child_can_read_the_terminal_and_ctrl_c_reaches_it(self):
        terminal = self.terminal("spawn", "sh", "-c", "read line; echo got $line; exec sleep 1000")
        terminal.type(b"something\r")
        terminal.await_output(b"got something")
        terminal.type(b"\x03")
        self.assertEqual(terminal.exit_code(), -signal.SIGINT)

    def test_with_a_forkserver_of_the_same_terminal_the_child_can_read_it_too(self):
        terminal = self.terminal(
            prelude=("/bin/sh", "-c", '"$0" serve --log-level error & '
                     'until "$0" stats >/dev/null 2>&1; do :; done; '
                     '"$0" spawn -v sh -c "read line; echo got \\$line"; "$0" shutdown'))
        terminal.type(b"something\r")
        shown = terminal.await_output(b"got something")
        self.assertIn(b"cleanfork: forkserver at ", shown)
        self.assertEqual(terminal.exit_code(), 0)


class WithoutTerminal(PtyTest):
    def bytes_of(self, *args, **options):
        """Output on a pty as it is: text mode would take the carriage returns away."""
        return self.output("-t", *args, encoding=None, errors=None, stderr_is=b"", **options)

    def test_input_that_ends_is_end_of_file_and_nothing_is_echoed(self):
        for text in ("one\ntwo\n", "no newline at the end", ""):
            with self.subTest(text):
                self.assertEqual(self.bytes_of("cat", input=text.encode()),
                                 text.replace("\n", "\r\n").encode())

    def test_a_file_can_be_the_input(self):
        path = os.path.join(self.home, "input")
        with open(path, "w", encoding="ascii") as file:
            file.writelines(f"line {i}\n" for i in range(5000))
        with open(path, encoding="ascii") as file:
            shown = self.output("-t", "wc", "-l", stdin=file)
        self.assertEqual(shown.split(), ["5000"])

    def test_all_output_arrives_before_the_exit(self):
        expected = b"".join(b"%d\r\n" % i for i in range(1, 50_001))
        for _ in range(20):
            self.assertEqual(self.bytes_of("seq", "50000"), expected)

    def test_short_output_of_a_short_program_is_never_lost(self):
        server = self.serve()
        for _ in range(200):
            self.assertEqual(self.bytes_of("--socket", server.socket, "echo", "x"), b"x\r\n")

    def test_a_descendant_that_keeps_the_terminal_does_not_hold_the_command(self):
        process = self.start("-t", "sh", "-c",
                             "trap '' HUP; sleep 1000 & echo $!; exit 4", stdin=None)
        out, _ = process.communicate(timeout=DEADLINE)
        # The end of the session has it as well: who is first is open.
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(out), signal.SIGKILL)
        self.assertEqual(process.returncode, 4)

    def test_a_reader_that_goes_away_ends_the_child(self):
        read_end, write_end = os.pipe()
        process = self.start("-t", "yes", stdout=write_end)
        os.close(write_end)
        os.read(read_end, 10)
        os.close(read_end)
        self.assertEqual(process.wait(DEADLINE), 128 + signal.SIGHUP)


if __name__ == "__main__":
    unittest.main()
