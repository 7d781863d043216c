"""A terminal of a test's own, with a program on it."""

import fcntl
import os
import re
import select
import signal
import struct
import termios

from support import CLEANFORK, DEADLINE, CommandTest


class Terminal:
    """A terminal with the command, or another, on it, as the leader of its session."""

    def __init__(self, environment, *args, rows=33, columns=99, prelude=(), command=None):
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.modes = termios.tcgetattr(self.slave)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
                for fd in (0, 1, 2):
                    os.dup2(self.slave, fd)
                os.closerange(3, 256)
                words = command or [*prelude, CLEANFORK, *args]
                os.execve(words[0], words, environment)
            finally:
                os._exit(99)
        self.seen = b""
        self.status = None

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self.master, keys)

    def await_output(self, text):
        """Reads until `text` was shown, and returns what was shown up to it."""
        while text not in self.seen:
            if not select.select([self.master], [], [], DEADLINE)[0]:
                raise AssertionError(f"{text!r} was not shown, only {self.seen!r}")
            self.seen += os.read(self.master, 4096)
        shown, _, self.seen = self.seen.partition(text)
        return shown + text

    def await_match(self, pattern):
        """The same until `pattern`, of bytes, matches; returns the match."""
        while not (match := re.search(pattern, self.seen)):
            if not select.select([self.master], [], [], DEADLINE)[0]:
                raise AssertionError(f"{pattern!r} was not shown, only {self.seen!r}")
            self.seen += os.read(self.master, 4096)
        self.seen = self.seen[match.end():]
        return match

    def hang_up(self):
        """As when the window is closed or the connection lost."""
        os.close(self.slave)
        os.close(self.master)
        self.master = self.slave = os.open("/dev/null", os.O_RDWR)

    def wait(self, options=0):
        """The wait status of the command; its output is read on meanwhile."""
        pidfd = os.pidfd_open(self.pid)
        try:
            while options == 0 and pidfd not in select.select([self.master, pidfd], [], [],
                                                              DEADLINE)[0]:
                self.seen += os.read(self.master, 65536)
        finally:
            os.close(pidfd)
        status = os.waitpid(self.pid, options)[1]
        if not os.WIFSTOPPED(status):
            self.status = status
        return status

    def exit_code(self):
        code = os.waitstatus_to_exitcode(self.wait())
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)
        return code

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def is_as_before(self):
        return termios.tcgetattr(self.slave) == self.modes

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.status = os.waitpid(self.pid, 0)[1]
        for fd in {self.master, self.slave} - {-1}:
            os.close(fd)
        self.master = self.slave = -1


class PtyTest(CommandTest):
    def terminal(self, *args, **options):
        terminal = Terminal(self.environment, *args, **options)
        self.addCleanup(terminal.close)
        return terminal
