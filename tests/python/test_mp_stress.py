"""Many processes, deep ones, and the worst moments: nothing lost, nothing left, nothing made up."""

import os
import signal
import subprocess
import sys
import threading
import time
import unittest

import cleanfork
from mp_support import NothingLeft, Program, Programs, ask, ctx, nothing, running
from support import DEADLINE, wait_readable
from shards import load_tests  # in several entries of ctest

SOAK = os.environ.get("CLEANFORK_SOAK") == "1"
IN_A_ROW = 5_000 if SOAK else 500
PATIENCE = DEADLINE * (10 if SOAK else 3)


def end_with(code):
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


def ended(pid):
    """Waits for a process that is on its way out."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    wait_readable(pidfd)
    os.close(pidfd)


def level(depth, answer):
    """A process of each level starts that of the next."""
    if depth == 0:
        answer.send((cleanfork.client().server["pid"], len(cleanfork.client().templates())))
        return
    p = ctx.Process(target=level, args=(depth - 1, answer))
    p.start()
    p.join()
    sys.exit(p.exitcode + 1)


class Many(NothingLeft):
    def test_200_from_8_threads_at_once(self):
        codes, begin = {}, threading.Barrier(8)

        def work(thread):
            begin.wait()
            expected = [(thread * 25 + i) % 256 for i in range(25)]
            ps = [ctx.Process(target=end_with, args=(code,)) for code in expected]
            for p in ps:
                p.start()
            for p in ps:
                p.join(DEADLINE)
            codes[thread] = ([p.exitcode for p in ps], expected)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(codes), 8)
        for got, expected in codes.values():
            self.assertEqual(got, expected)

    def test_the_first_start_by_8_threads_makes_one_template(self):
        fresh = cleanfork.get_context(preload=["colorsys"])
        known = {t["name"] for t in cleanfork.client().templates()}
        threads = [threading.Thread(target=ask, args=(os.getpid,), kwargs={"context": fresh})
                   for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        made = [t for t in cleanfork.client().templates() if t["name"] not in known]
        self.assertEqual([t["generation"] for t in made], [1])

    def test_20_levels(self):
        ours, theirs = ctx.Pipe()
        p = ctx.Process(target=level, args=(20, theirs))
        p.start()
        p.join(PATIENCE)
        self.assertEqual(p.exitcode, 20)
        # One forkserver for all of them.
        self.assertEqual(ours.recv()[0], cleanfork.client().server["pid"])

    def test_in_a_row(self):
        server = cleanfork.client().server["pid"]

        def counts():
            stats = cleanfork.client().stats()
            return stats["descriptors"], len(os.listdir(f"/proc/{server}/task"))
        before = counts()
        for i in range(IN_A_ROW):
            p = ctx.Process(target=end_with, args=(i % 256,))
            p.start()
            p.join()
            self.assertEqual(p.exitcode, i % 256)
            p.close()
        self.assertEqual(running(), [])
        # The forkserver may still be at what an earlier process, or the last, has left to it; each
        # question waits for its turn there.
        give_up = time.monotonic() + DEADLINE
        while counts() > before and time.monotonic() < give_up:
            pass
        self.assertLessEqual(counts(), before)

    def test_1100_at_a_time(self):
        if not SOAK:
            self.skipTest("needs 8 GB of address space; CLEANFORK_SOAK=1 runs it")
        event = ctx.Event()
        ps = [ctx.Process(target=event.wait) for _ in range(1100)]
        for p in ps:
            p.start()
        event.set()
        for p in ps:
            p.join()
            self.assertEqual(p.exitcode, 0)
            p.close()


class Interrupted(NothingLeft):
    def test_keyboard_interrupt_in_the_middle(self):
        interrupts = 0
        old = signal.signal(signal.SIGALRM, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGALRM, old)
        r, w = os.pipe()
        started = 0
        for i in range(60):
            p = ctx.Process(target=os.write, args=(9, b"x"), fds={9: w}, stderr=subprocess.DEVNULL)
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.0002 * (i % 30))
            try:
                try:
                    p.start()
                    p.join()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupts += 1
            if p._popen is not None:
                p.join()
                self.assertEqual(p.exitcode, 0)
                started += 1
        os.close(w)
        self.assertGreater(interrupts, 0)
        # One whose start() was interrupted was taken back or has run: once.
        ran = 0
        while chunk := os.read(r, 1000):
            ran += len(chunk)
        os.close(r)
        for pid in running():  # of a start() whose answer was not awaited
            ended(pid)
        # The template tells of ends in their order: once this one is known, so are those.
        ask(os.getpid)
        self.assertGreaterEqual(ran, started)
        self.assertLessEqual(ran, 60)


# Starts processes while something is killed. Each tells that it ran, by its number; what is
# known of each is its exact status, or that it is unknown, or that its start() failed.
KILLING = """
import cleanfork, os, signal, sys, threading
import ctypes
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
from support import open_descriptors
ctx = cleanfork.get_context()

def work(i):
    os.write(9, b"%3d " % i)
    sys.exit(i)

def victims():
    client = cleanfork.client()
    if sys.argv[1] == "daemon":
        return [client.server["pid"]]
    # One that has ended has no pid, and is listed while it has children.
    return [g["pid"] for t in client.templates() for g in t["generations"] if g["pid"]]

def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended meanwhile

def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

if __name__ == "__main__":
    r, w = os.pipe()
    ctx.start()
    p = ctx.Process(target=work, args=(0,), fds={9: w})
    p.start(); p.join(); p.close()
    before = None
    exact = unknown = failed = 0
    for i in range(1, 201):
        if i % 20 == 0:
            kill(victims())
        p = ctx.Process(target=work, args=(i,), fds={9: w})
        if i % 20 == 10:  # while it is being started, or runs
            timer = threading.Timer(0.0003 * (i // 20), kill, (victims(),))
            timer.start()
        else:
            timer = None
        try:
            p.start()
        except OSError as e:
            failed += 1
            print(e, file=sys.stderr)
        else:
            while True:
                try:
                    p.join(0.1)
                    reap()
                    if p.exitcode is None:
                        continue
                    assert p.exitcode == i, (p.exitcode, i)
                    exact += 1
                except cleanfork.StatusUnknown as e:
                    assert e.pid == p.pid and e.why
                    unknown += 1
                break
        if timer:
            timer.join()
        reap()
    del p
    os.close(w)
    ran = b""
    while chunk := os.read(r, 10000):
        ran += chunk
    ran = [int(n) for n in ran.split()][1:]
    assert len(ran) == len(set(ran)), "one ran twice"
    assert len(ran) >= exact, (len(ran), exact)
    left = [v for v in open_descriptors().values()]
    print(exact, unknown, failed, len(ran), len(left))
"""


class Killed(unittest.TestCase):
    def run_while_killing(self, what):
        with Program(KILLING) as program:
            p = program.run(program.path, what, timeout=PATIENCE, env={
                "PYTHONPATH": os.pathsep.join([os.path.dirname(os.path.abspath(__file__)),
                                               os.environ["PYTHONPATH"]])})
        self.assertEqual(p.returncode, 0, p.stdout + p.stderr)
        exact, unknown, failed, ran, descriptors = map(int, p.stdout.split())
        print(f"{what} killed: {exact} exact, {unknown} unknown, {failed} not started", end=" ",
              file=sys.stderr, flush=True)
        self.assertEqual((exact + unknown, failed), (200, 0))
        self.assertGreaterEqual(exact, 150)
        self.assertLess(descriptors, 15)

    def test_the_template(self):
        self.run_while_killing("template")

    def test_the_forkserver(self):
        self.run_while_killing("daemon")


class Unknown(Programs):
    def test_an_unknown_status_is_raised_to_who_asks_and_to_nobody_else(self):
        for start_method in ("cleanfork", "forkserver"):
            with self.subTest(start_method):
                self.prints(f"""
                    import cleanfork, multiprocessing, os, signal
                    from multiprocessing.connection import wait
                    cleanfork.install()
                    ctx = multiprocessing.get_context("{start_method}")
                    def nothing():
                        pass
                    def end(c):
                        c.recv()
                    if __name__ == "__main__":
                        ours, theirs = ctx.Pipe()
                        p = ctx.Process(target=end, args=(theirs,))
                        p.start()
                        os.kill(cleanfork.client().server["pid"], signal.SIGKILL)
                        ours.send(1)
                        wait([p.sentinel])
                        q = ctx.Process(target=nothing)
                        q.start()
                        q.join()
                        print(p.is_alive(), q.exitcode, "stopped" in repr(p))
                        for ask in (lambda: p.exitcode, p.join):
                            try:
                                ask()
                            except cleanfork.StatusUnknown as e:
                                print(e.pid == p.pid)
                        p.close()
                """, "False 0 True True True", env={"CLEANFORK_DISABLE_FEATURES": "pidfd_exit_info"})


if __name__ == "__main__":
    unittest.main()
