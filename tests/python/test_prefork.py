"""cleanfork.prefork: what becomes of its workers, whatever happens to them."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import threading
import time
import unittest
from unittest import mock

import cleanfork
import cleanfork.prefork
from mp_support import Program, running
from support import DEADLINE, open_descriptors

WORKER = re.compile(r"worker (\d+), pid (\d+), generation (\d+): (.*)")


def serve(worker):
    worker.ready()
    worker.wait()


def serve_in_a_loop(worker):
    async def serving():
        # Which takes the descriptor that the interpreter tells signals by.
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)
        worker.ready()
        await worker.wait_async()

    asyncio.run(serving())


def end_at_once(worker):
    sys.exit(7)


def ready_then_end(worker):
    worker.ready()
    worker.wait(0.05)
    os.kill(os.getpid(), signal.SIGSEGV)


def never_ready(worker):
    worker.wait()
    time.sleep(DEADLINE)


def never_ends(worker):
    worker.ready()
    time.sleep(DEADLINE)


def report(worker, path):
    """Ready, and writes how it ended."""
    worker.ready()
    woken = worker.wait(DEADLINE)
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {woken}\n")


class Running:
    """A supervisor in a thread, with what it told."""

    def __init__(self, target, workers=2, **options):
        self.lines, self.changed = [], threading.Condition()
        self.supervisor = cleanfork.prefork.Supervisor(target, workers, tell=self.tell, **options)
        self.thread = threading.Thread(target=self.supervisor.run)

    def tell(self, line):
        with self.changed:
            self.lines.append((time.monotonic(), line))
            self.changed.notify_all()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.supervisor.stop()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()

    def said(self, pattern):
        with self.changed:
            return [line for _, line in self.lines if re.fullmatch(pattern, line)]

    def wait(self, pattern, count=1):
        """The lines that match, once there are so many."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.said(pattern)) >= count, DEADLINE)
        lines = self.said(pattern)
        if len(lines) < count:
            raise AssertionError(f"{pattern!r} was not said: {self.lines}")
        return lines

    def serving(self):
        """The pids of those that serve, by their numbers."""
        found = {}
        for _, line in self.lines:
            if match := WORKER.fullmatch(line):
                number, pid, _, what = match.groups()
                found.pop(int(number), None)
                if what == "serves":
                    found[int(number)] = int(pid)
        return found

    def ends(self):
        return sorted(match[4] for _, line in self.lines
                      if (match := WORKER.fullmatch(line)) and match[4] != "serves")


class Workers(unittest.TestCase):
    def setUp(self):
        cleanfork.get_context().start()
        # What is made once: a pidfd of this process, the resource tracker.
        with Running(serve) as r:
            r.wait("2 workers serve, generation 1")
        before = open_descriptors()
        self.addCleanup(lambda: self.assertEqual(open_descriptors().keys(), before.keys()))
        self.addCleanup(lambda: self.assertEqual(running(), []))

    def test_they_drain_when_it_stops(self):
        with Running(serve, 3) as r:
            r.wait("3 workers serve, generation 1")
            self.assertEqual(len(set(r.serving().values())), 3)
        self.assertEqual(r.ends(), ["exited 0"] * 3)

    def test_those_with_an_event_loop_drain(self):
        with Running(serve_in_a_loop, 2, limits=cleanfork.prefork.Limits(hang=0.4)) as r:
            r.wait("2 workers serve, generation 1")
            os.kill(r.serving()[1], signal.SIGTERM)
            r.wait("worker 1, .*: exited 0")
            r.wait("2 workers serve, generation 1", 2)
        self.assertEqual(r.ends(), ["exited 0"] * 3)

    def test_one_that_is_killed_is_replaced_and_its_signal_told(self):
        with Running(serve) as r:
            for n in range(3):
                r.wait("2 workers serve, generation 1", n + 1)
                number, pid = min(r.serving().items())
                os.kill(pid, signal.SIGKILL)
                r.wait(f"worker {number}, pid {pid}, generation 1: killed by SIGKILL")
            r.wait("2 workers serve, generation 1", 4)
        self.assertEqual(r.ends(), ["exited 0"] * 2 + ["killed by SIGKILL"] * 3)

    def test_one_that_gets_sigterm_drains_and_is_replaced(self):
        with Running(serve) as r:
            r.wait("2 workers serve, generation 1")
            os.kill(r.serving()[1], signal.SIGTERM)
            r.wait("worker 1, .*: exited 0")
            r.wait("2 workers serve, generation 1", 2)
        self.assertEqual(r.ends(), ["exited 0"] * 3)

    def test_those_that_never_serve_are_started_ever_more_slowly(self):
        with Running(end_at_once, 1, backoff=0.05, backoff_limit=0.2) as r:
            r.wait("worker .*: exited 7", 6)
        times = [at for at, line in r.lines if line.endswith("exited 7")]
        pauses = [after - before for before, after in zip(times, times[1:])]
        for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.2, 0.2)):
            self.assertGreaterEqual(pause, least)

    def test_one_that_served_too_short_counts_as_one_that_failed(self):
        with Running(ready_then_end, 1, backoff=0.05, stable=DEADLINE) as r:
            r.wait(r"worker .*: killed by SIGSEGV", 4)
        times = [at for at, line in r.lines if line.endswith("SIGSEGV")]
        for pause, least in zip((b - a for a, b in zip(times, times[1:])), (0.05, 0.1, 0.2)):
            self.assertGreaterEqual(pause, least)

    def test_there_are_as_many_as_are_wanted(self):
        with Running(serve) as r:
            r.wait("2 workers serve, generation 1")
            r.supervisor.resize(8)
            r.wait("8 workers serve, generation 1")
            r.supervisor.resize(3)
            r.wait("3 workers serve, generation 1")
            self.assertEqual(len(r.serving()), 3)
            r.supervisor.resize(0)
            r.wait("1 workers serve, generation 1")
        self.assertEqual(r.ends(), ["exited 0"] * 8)

    def test_a_reload_replaces_each_by_one_that_serves(self):
        with Running(serve, 3) as r:
            r.wait("3 workers serve, generation 1")
            old = set(r.serving().values())
            r.supervisor.reload()
            r.supervisor.reload()  # while the first is on: one more after it
            r.wait("3 workers serve, generation 3")
            self.assertFalse(old & set(r.serving().values()))
        lines = [line for _, line in r.lines]
        for generation in (1, 2, 3):
            # Never fewer than three: the n-th of the old ends after the n-th new serves.
            ready = [i for i, line in enumerate(lines)
                     if line.endswith(f"generation {generation + 1}: serves")]
            gone = [i for i, line in enumerate(lines)
                    if re.fullmatch(f".*generation {generation}: exited 0", line)]
            for first, then in zip(ready, gone):
                self.assertLess(first, then)

    def test_those_that_do_not_do_what_they_should_are_killed(self):
        with mock.patch("cleanfork._supervisor._AFTER_GRACE", 0.1):
            with Running(never_ready, 1, start_timeout=0.2) as r:
                r.wait("worker 1, .*: killed, since it is starting for too long")
                r.wait("worker 1, .*: killed by SIGKILL")
            with Running(never_ends, 1, grace=0.1) as r:
                r.wait("1 workers serve, generation 1")
            r.wait("worker 1, .*: killed, since it is draining for too long")
            self.assertIn("killed by SIGKILL", r.ends())

    def test_a_second_stop_kills(self):
        with Running(never_ends, 2) as r:
            r.wait("2 workers serve, generation 1")
            r.supervisor.stop()
        self.assertEqual(r.ends(), ["killed by SIGKILL"] * 2)


PROGRAM = """
import sys, cleanfork.prefork
import broken_later, test_prefork
if __name__ == "__main__":
    cleanfork.prefork.Supervisor(test_prefork.report, 2, args=(sys.argv[1],)).run()
"""


class Signals(unittest.TestCase):
    """A program of its own, whose main thread runs the supervisor."""

    def setUp(self):
        self.program = self.enterContext(Program(PROGRAM))
        self.module = os.path.join(self.program.directory.name, "broken_later.py")
        self.ended = os.path.join(self.program.directory.name, "ended")
        with open(self.module, "w"):
            pass
        here = os.path.dirname(os.path.abspath(__file__))
        # In a process group of its own, as from a terminal.
        self.p = self.program.start(self.ended, start_new_session=True, env={"PYTHONPATH": os.pathsep.join(
            [here, os.environ["PYTHONPATH"]])})
        self.addCleanup(self.close)
        self.wait("2 workers serve, generation 1")

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            self.p.kill()
        self.p.communicate()

    def wait(self, pattern):
        """Reads up to the line that matches."""
        for line in self.p.stdout:
            if re.fullmatch(pattern, line.rstrip("\n")):
                return line
        raise AssertionError(f"{pattern!r} was not said")

    def workers_that_drained(self):
        with open(self.ended) as file:
            return file.read().count(" True\n")

    def test_each_does_what_it_says(self):
        self.p.send_signal(signal.SIGTTIN)
        self.wait("3 workers serve, generation 1")
        self.p.send_signal(signal.SIGTTOU)
        self.wait("2 workers serve, generation 1")
        self.p.send_signal(signal.SIGHUP)
        self.wait("2 workers serve, generation 2")
        self.p.send_signal(signal.SIGTERM)
        out, _ = self.p.communicate(timeout=DEADLINE)
        self.assertEqual((self.p.returncode, out.count("exited 0")), (0, 2))
        self.assertEqual(self.workers_that_drained(), 5)

    def test_a_reload_whose_imports_fail_leaves_the_old_ones(self):
        with open(self.module, "w") as file:
            file.write("raise RuntimeError('broken by now')")
        self.p.send_signal(signal.SIGHUP)
        self.wait("generation 1 stays: .*")
        self.wait(".*broken by now.*")
        os.killpg(self.p.pid, signal.SIGINT)  # a Ctrl-C at the terminal
        out, _ = self.p.communicate(timeout=DEADLINE)
        self.assertEqual((self.p.returncode, out.count("exited 0")), (0, 2))

    def test_workers_drain_when_it_is_killed(self):
        self.p.kill()
        self.p.stdout.read()  # its end is that of the workers, who have it, too
        self.assertEqual(self.workers_that_drained(), 2)


if __name__ == "__main__":
    unittest.main()
