"""Children at a pseudo terminal: cleanfork.subprocess.Popen(..., pty=True), and asyncio's."""

import asyncio
import fcntl
import os
import select
import signal
import subprocess as stock
import sys
import unittest

import cleanfork
import cleanfork.asyncio
import cleanfork.subprocess as subprocess
from cleanfork.subprocess import DEVNULL, PIPE, Pty
from support import DEADLINE, open_descriptors

SH = "/bin/sh"


def read_to(file, word):
    """What comes from the terminal up to and with `word`; all, when it comes to its end first."""
    text = b""
    while word not in text:
        if not select.select([file], [], [], DEADLINE)[0]:
            raise AssertionError(f"{word!r} did not come, but {text!r}")
        part = file.read(4096)
        if not part:
            break
        text += part
    return text


class AtTerminal(unittest.TestCase):
    def test_python_sees_a_terminal_that_is_its_own(self):
        code = ("import os, sys; print([os.isatty(n) for n in range(3)], os.get_terminal_size(),"
                "os.getsid(0) == os.getpid() == os.tcgetpgrp(0), os.ttyname(0)[:9])")
        p = subprocess.run([sys.executable, "-c", code], pty=Pty(rows=5, columns=77), text=True)
        self.assertEqual(p.stdout, "[True, True, True] os.terminal_size(columns=77, lines=5) "
                                   "True /dev/pts/\n")
        self.assertEqual(p.returncode, 0)
        self.assertIsNone(p.stderr)

    def test_only_streams_that_are_not_given_are_the_terminal(self):
        script = "for n in 0 1 2; do test -t $n && echo $n >/dev/tty; done; true"
        for given, expected in (({}, b"0\r\n1\r\n2\r\n"), ({"stdin": DEVNULL}, b"1\r\n2\r\n"),
                                ({"stderr": PIPE}, b"0\r\n1\r\n")):
            with self.subTest(given=given):
                self.assertEqual(subprocess.run([SH, "-c", script], pty=True, **given).stdout,
                                 expected)
        with subprocess.Popen([SH, "-c", script], stdout=PIPE, stderr=PIPE, pty=True) as p:
            self.assertEqual(read_to(p.pty, b"\n"), b"0\r\n")
            self.assertEqual(p.stdout.read(), b"")

    def test_input_is_typed_and_ends(self):
        p = subprocess.run(["cat"], input="a\nb", pty=True, text=True)
        self.assertEqual(p.stdout, "a\nb")  # input= is a pipe, as ever
        with subprocess.Popen(["cat"], pty=Pty(echo=False), text=True) as p:
            self.assertEqual(p.communicate("a\nb", timeout=DEADLINE)[0], "a\nb")
        self.assertEqual(p.returncode, 0)
        with subprocess.Popen(["cat"], pty=True) as p:
            self.assertEqual(p.communicate(b"a\n")[0], b"a\r\na\r\n")
        # Without input it is at its end.
        self.assertEqual(subprocess.run(["cat"], pty=True).stdout, b"")

    def test_raw_bytes_pass_as_they_are(self):
        every = bytes(range(256))
        with subprocess.Popen(["head", "-c", "256"], pty=Pty(raw=True)) as p:
            p.pty.write(every)
            self.assertEqual(p.pty.read(), every)
            self.assertEqual(p.wait(), 0)

    def test_all_output_comes_before_the_end(self):
        expected = b"".join(b"%d\r\n" % n for n in range(1, 30001))
        self.assertEqual(subprocess.run(["seq", "30000"], pty=True).stdout, expected)
        self.assertEqual(subprocess.run(["seq", "30000"], pty=True, timeout=DEADLINE,
                                        stdin=DEVNULL).stdout, expected)
        with subprocess.Popen(["seq", "30000"], pty=True) as p:
            self.assertEqual(p.pty.readall(), expected)
            self.assertEqual(p.pty.read(), b"")
            self.assertEqual(p.pty.readinto(bytearray(5)), 0)

    def test_a_new_size_is_told(self):
        script = "trap 'stty size; exit 4' WINCH; echo ready; while :; do read -t 1; done"
        with subprocess.Popen(["/bin/bash", "-c", script], pty=True) as p:
            self.assertIn(b"ready", read_to(p.pty, b"ready"))
            p.resize(rows=50, columns=132)
            self.assertIn(b"50 132", read_to(p.pty, b"132"))
            self.assertEqual(p.wait(), 4)
        with subprocess.Popen(["true"]) as p, self.assertRaisesRegex(ValueError, "without pty"):
            p.resize(1, 2)

    def test_ctrl_c_interrupts_and_closing_hangs_up(self):
        with subprocess.Popen([SH, "-c", "echo ready; sleep 1000 | sleep 1000"], pty=True) as p:
            read_to(p.pty, b"ready")
            p.pty.write(b"\x03")
            self.assertEqual(p.wait(DEADLINE), -signal.SIGINT)
        script = "trap 'exit 9' HUP; echo ready; while :; do read x; done"
        with subprocess.Popen([SH, "-c", script], pty=True) as p:
            read_to(p.pty, b"ready")
        self.assertEqual(p.returncode, 9)

    def test_an_interactive_shell_controls_its_jobs(self):
        with subprocess.Popen(["/bin/bash", "--norc", "-i"], pty=Pty(echo=False),
                              env={"PS1": "prompt> ", "PATH": "/usr/bin:/bin"}) as p:
            self.assertNotIn(b"no job control", read_to(p.pty, b"prompt> "))
            p.pty.write(b"sh -c 'echo running; exec sleep 1000'\n")
            read_to(p.pty, b"running")
            p.pty.write(b"\x1a")  # Ctrl-Z
            read_to(p.pty, b"Stopped")
            p.pty.write(b"kill %1; fg\n")
            read_to(p.pty, b"Terminated")
            p.pty.write(b"exit 5\n")
            self.assertEqual(p.wait(DEADLINE), 5)

    def test_what_cannot_be_is_refused(self):
        with self.assertRaisesRegex(ValueError, "none is left"):
            subprocess.Popen(["true"], stdin=PIPE, stdout=PIPE, stderr=PIPE, pty=True)
        with self.assertRaisesRegex(ValueError, "session of its own"):
            subprocess.Popen(["true"], process_group=0, pty=True)
        with self.assertRaisesRegex(TypeError, "True, False or a Pty"):
            subprocess.Popen(["true"], pty=5)
        for size in ({"rows": 65536}, {"columns": -1}):
            with self.assertRaisesRegex(ValueError, "from 0 to 65535"):
                subprocess.Popen(["true"], pty=Pty(**size))
        with self.assertRaises(TypeError):
            stock.Popen(["true"], pty=True)
        with subprocess.Popen(["true"]) as p:
            self.assertIsNone(p.pty)

    def test_no_descriptor_is_left(self):
        subprocess.run(["true"], pty=True)
        before = open_descriptors()
        subprocess.run(["true"], pty=True)
        with self.assertRaises(FileNotFoundError):
            subprocess.run(["/no/such/program"], pty=True)
        with subprocess.Popen(["true"], pty=True) as p:
            self.assertTrue(fcntl.fcntl(p.pty, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
        del p
        self.assertEqual(open_descriptors(), before)


class Asynchronous(unittest.TestCase):
    def run_coroutine(self, coroutine):
        return asyncio.run(asyncio.wait_for(coroutine, DEADLINE))

    def test_streams_of_a_terminal(self):
        async def talk():
            p = await cleanfork.asyncio.create_subprocess_exec(
                SH, "-c", "read x; echo got $x; read -r y; stty size; exit 3",
                pty=Pty(echo=False))
            p.stdin.write(b"word\n")
            first = await p.stdout.readline()
            cleanfork.asyncio.resize(p, 11, 22)
            p.stdin.write(b"more\n")
            rest = await p.stdout.read()
            return first, rest, await p.wait()

        self.assertEqual(self.run_coroutine(talk()), (b"got word\r\n", b"11 22\r\n", 3))

    def test_communicate(self):
        async def talk():
            p = await cleanfork.asyncio.create_subprocess_exec("cat", pty=Pty(echo=False))
            out, err = await p.communicate(b"a\nb\n")
            return out, err, p.returncode

        self.assertEqual(self.run_coroutine(talk()), (b"a\r\nb\r\n", None, 0))


class Descriptors(unittest.TestCase):
    def test_a_terminal_by_descriptor(self):
        from cleanfork import _cleanfork

        master, terminal = _cleanfork.open_pty(rows=3, columns=4)
        try:
            self.assertEqual(os.get_terminal_size(terminal), (4, 3))
            p = cleanfork.client().spawn("stty", ["size"], stdin=terminal, stdout=terminal)
            self.assertTrue(p.wait())
            self.assertEqual(os.read(master, 100), b"3 4\r\n")
        finally:
            os.close(master)
            os.close(terminal)


if __name__ == "__main__":
    unittest.main()
