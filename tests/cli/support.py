"""What the tests of the command share: real binaries, a real forkserver, and waiting for events."""

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../helpers"))
from patience import PATIENCE as DEADLINE  # seconds: how long an event may take

BIN = os.environ.get(
    "CLEANFORK_BIN",
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/release/bin"))
CLEANFORK = os.path.join(os.path.abspath(BIN), "cleanfork")


def wait_for_end(pidfd):
    """Waits until the process of `pidfd` has ended, and closes it."""
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(DEADLINE * 1000):
            raise AssertionError("the process is still there")
    finally:
        os.close(pidfd)


def state_of(pid):
    """The state letter of /proc/PID/stat."""
    with open(f"/proc/{pid}/stat", "rb") as stat:
        return stat.read().rpartition(b")")[2].split()[0].decode()


def await_state(pid, letter):
    """Stops have no event for a process that is not the parent: looks, yields, looks again."""
    deadline = time.monotonic() + DEADLINE
    while state_of(pid) != letter:
        if time.monotonic() > deadline:
            raise AssertionError(f"process {pid} is {state_of(pid)}, not {letter}")
        os.sched_yield()


def await_true(condition):
    """For what has no event: looks, yields, looks again."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come to that")
        os.sched_yield()


def read_line(stream):
    """The next line of an unbuffered pipe, without waiting for ever."""
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([stream], [], [], DEADLINE)[0]:
            raise AssertionError(f"no line came, only {line!r}")
        byte = os.read(stream.fileno(), 1)
        if not byte:
            break
        line += byte
    return line.decode().rstrip("\n")


class Server:
    """A forkserver of `cleanfork serve`, at a socket in a directory of its own."""

    def __init__(self, *options, under=(), log=None):
        self.process = None
        self.directory = tempfile.mkdtemp(prefix="cleanfork-test-")
        self.socket = os.path.join(self.directory, "socket")
        notify_path = os.path.join(self.directory, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(notify_path)
            notify.settimeout(DEADLINE)
            try:
                self.process = subprocess.Popen(
                    [*under, CLEANFORK, "serve", "--socket", self.socket,
                     *(() if "--log-level" in options else ("--log-level", "error")), *options],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                    env={**os.environ, "NOTIFY_SOCKET": notify_path})
                while b"READY=1" not in notify.recv(4096):
                    pass
            except OSError:
                self.close()
                raise

    def close(self):
        if self.process is not None:
            if self.process.poll() is None:
                self.process.terminate()
            self.process.wait(DEADLINE)
        shutil.rmtree(self.directory, ignore_errors=True)


class CommandTest(unittest.TestCase):
    """Runs the command where no other forkserver answers, so that `spawn` uses a private one."""

    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.mkdtemp(prefix="cleanfork-test-")
        cls.addClassCleanup(shutil.rmtree, cls.home, True)
        cls.environment = {**os.environ,
                           "CLEANFORK_SOCKET": os.path.join(cls.home, "no-forkserver")}

    def cleanfork(self, *args, **options):
        """The command to its end; stdin is empty, stdout and stderr are text."""
        options.setdefault("env", self.environment)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("timeout", DEADLINE)
        options.setdefault("encoding", "utf-8")
        options.setdefault("errors", "surrogateescape")
        return subprocess.run([CLEANFORK, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False, **options)

    def spawn(self, *args, **options):
        return self.cleanfork("spawn", *args, **options)

    def output(self, *args, stderr_is="", **options):
        """Standard output of a spawn that has to succeed and to say nothing itself."""
        done = self.spawn(*args, **options)
        self.assertEqual((done.returncode, done.stderr), (0, stderr_is), done)
        return done.stdout

    def start(self, *args, **options):
        """A spawn that goes on, with unbuffered pipes; ended at the end of the test."""
        options.setdefault("env", self.environment)
        options.setdefault("stdin", subprocess.PIPE)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen([CLEANFORK, "spawn", *args], bufsize=0, **options)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def serve(self, *options):
        server = Server(*options)
        self.addCleanup(server.close)
        return server
