"""What the tests of the start method share."""

import gc
import os
import subprocess
import tempfile
import textwrap
import unittest

import cleanfork
from support import DEADLINE, PYTHON, open_descriptors

ctx = cleanfork.get_context()


def nothing():
    pass


def send(connection, function, *arguments):
    """Target of a process: sends what `function` returns."""
    connection.send(function(*arguments))


def ask(function, *arguments, context=ctx, **options):
    """What `function` returns in a new process."""
    ours, theirs = context.Pipe()
    p = context.Process(target=send, args=(theirs, function, *arguments), **options)
    p.start()
    theirs.close()
    try:
        with ours:
            if not ours.poll(DEADLINE):
                raise AssertionError("no answer")
            return ours.recv()
    finally:
        p.join(DEADLINE)
        assert p.exitcode == 0, p.exitcode
        p.close()


def running():
    """The processes of this program that have not ended."""
    return [child["pid"] for child in cleanfork.client().list() if child["status"] is None]


class NothingLeft(unittest.TestCase):
    """Each test leaves the descriptors and the processes as it found them."""

    def setUp(self):
        # What is made once is there from now on: shared memory of Value, a tracker, and the
        # descriptor that a libffi keeps from its import on.
        import ctypes  # noqa: F401
        p = ctx.Process(target=nothing)
        ctx.Barrier(2)
        p.start()
        p.join()
        p.close()
        self.before = open_descriptors()
        self.assertEqual(running(), [])
        self.addCleanup(self.check_nothing_left)

    def check_nothing_left(self):
        gc.collect()
        self.assertEqual(running(), [])
        now = open_descriptors()
        self.assertEqual({fd: now[fd] for fd in now.keys() - self.before.keys()}, {})
        self.assertEqual(self.before.keys() - now.keys(), set())


class Program:
    """A program in a directory of its own: run(), or start() for one that is watched."""

    def __init__(self, text, name="program.py"):
        self.directory = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, name)
        self.write(text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.directory.cleanup()

    def write(self, text):
        with open(self.path, "w") as file:
            file.write(textwrap.dedent(text))

    def options(self, options):
        env = {**os.environ, **options.pop("env", {})}
        return {"cwd": self.directory.name, "text": True, "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE, "env": env, **options}

    def run(self, *command, timeout=DEADLINE, **options):
        command = command or (self.path,)
        return subprocess.run([PYTHON, *command], timeout=timeout, **self.options(options))

    def start(self, *arguments, **options):
        return subprocess.Popen([PYTHON, self.path, *arguments], **self.options(options))


def run_program(text, **options):
    with Program(text) as program:
        return program.run(**options)


class Programs(unittest.TestCase):
    def prints(self, text, expected, **options):
        """The program prints this and ends with 0."""
        p = run_program(text, **options)
        self.assertEqual((p.returncode, p.stdout.split()), (0, expected.split()), p.stderr)
        return p

    def fails(self, text, *expected, **options):
        """The program ends with an exception whose text has all of `expected`."""
        p = run_program(text, **options)
        self.assertEqual(p.returncode, 1, p.stdout + p.stderr)
        for each in expected:
            self.assertIn(each, p.stderr)
        return p
