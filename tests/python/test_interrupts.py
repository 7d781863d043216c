"""Signals of Python while it waits: KeyboardInterrupt and handlers."""

import os
import pty
import signal
import statistics
import subprocess
import time
import unittest

import cleanfork
import cleanfork.subprocess
from mp_support import Program
from patience import scaled
from support import DEADLINE, MODULES, PYTHON, NothingLeft, wait_readable

PIPE = -1


class Interrupts(NothingLeft):
    def interrupted(self, function, after=0.3):
        """Calls it, with SIGINT on the way; how long it took to come out."""
        begun = time.monotonic()
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        signal.setitimer(signal.ITIMER_REAL, after)
        try:
            with self.assertRaises(KeyboardInterrupt):
                function()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return time.monotonic() - begun - after

    def setUp(self):
        super().setUp()
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, previous)
        self.addCleanup(signal.signal, signal.SIGALRM, signal.SIG_DFL)

    def test_in_wait(self):
        for m in MODULES:
            with self.subTest(m.__name__):
                p = m.Popen(["sleep", "infinity"])
                self.interrupted(p.wait)
                self.assertIsNone(p.returncode)
                p.kill()
                self.assertEqual(p.wait(), -signal.SIGKILL)

    def test_in_communicate(self):
        for m in MODULES:
            with self.subTest(m.__name__):
                p = m.Popen(["sleep", "infinity"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
                self.interrupted(lambda: p.communicate(b"x"))
                p.kill()
                p.wait()
                for f in (p.stdin, p.stdout, p.stderr):
                    f.close()

    def test_in_run_the_child_is_killed(self):
        for m in MODULES:
            with self.subTest(m.__name__):
                r, w = os.pipe()
                self.interrupted(lambda: m.run(["sleep", "infinity"], pass_fds=[w], stdout=PIPE))
                os.close(w)
                wait_readable(r)  # the only writer is gone
                self.assertEqual(os.read(r, 1), b"")
                os.close(r)

    def test_a_wait_is_punctual(self):
        ours = cleanfork.client().spawn("sleep", ["infinity"])
        stock = subprocess.Popen(["sleep", "infinity"])
        delays = {p: [] for p in (ours, stock)}
        for _ in range(5):
            for p in delays:
                delays[p].append(self.interrupted(p.wait, 0.05))
        # A slice of such a wait is 20 ms; the standard one has none.
        usual = statistics.median(delays[stock])
        self.assertLess(statistics.median(delays[ours]), scaled(0.2) + 10 * usual)
        stock.kill()
        stock.wait()
        ours.signal(9)
        ours.wait()

    def test_handlers_run_while_it_waits(self):
        p = cleanfork.client().spawn("sleep", ["infinity"])
        seen = []

        def see(*_):
            seen.append(p.poll())
            if len(seen) == 3:
                p.signal(9)
        signal.signal(signal.SIGALRM, see)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        self.assertEqual(p.wait().signal, 9)
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.assertEqual(seen[:3], [None] * 3)

    def test_a_spawn_that_hangs_is_taken_back(self):
        c = cleanfork.launch()
        pid = c.server["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            self.interrupted(lambda: c.spawn("sleep", ["infinity"]))
        finally:
            os.kill(pid, signal.SIGCONT)
        deadline = time.monotonic() + DEADLINE
        while c.list() != [] and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual([each for each in c.list() if each["status"] is None], [])
        c.close()

    def strike(self, command, expected):
        """Ctrl-C once the program has written "up" to its terminal; until it writes `expected`."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(PYTHON, [PYTHON, *command])
        seen = b""
        struck = False
        try:
            while expected not in seen:
                wait_readable(terminal)
                seen += os.read(terminal, 1000)
                if b"up\r\n" in seen and not struck:
                    os.write(terminal, b"\x03")
                    struck = True
            while True:  # until the program has tidied up: a closed terminal would kill it
                wait_readable(terminal)
                seen += os.read(terminal, 1000)
        except OSError:  # hung up
            self.assertIn(expected, seen)
        finally:
            os.close(terminal)
            os.waitpid(pid, 0)

    def test_control_c_at_a_terminal_reaches_the_child(self):
        # The child's handler and then the program's stand before the key is struck.
        self.strike(["-c", """
import cleanfork.subprocess as s
p = s.Popen(['sh', '-c', 'trap "exit 7" INT; echo; while :; do sleep 0.05; done'], stdout=s.PIPE)
p.stdout.readline()
try:
    print('up', flush=True)
    p.wait()
except KeyboardInterrupt:
    print('code', p.wait())
"""], b"code 7")

    def test_control_c_at_a_terminal_reaches_processes_and_not_the_forkserver(self):
        # So a pool that is waited for ends at once, as with the standard methods.
        text = """
import multiprocessing, os, sys, time
import cleanfork
def work(w):
    try:
        w.send(os.getpgrp())
        time.sleep(3600)
    except KeyboardInterrupt:
        os._exit(7)
def nothing():
    pass
if __name__ == "__main__":
    ctx = multiprocessing.get_context(sys.argv[1])
    r, w = ctx.Pipe(False)
    p = ctx.Process(target=work, args=(w,))
    p.start()
    assert r.recv() == os.getpgrp()
    try:
        print("up", flush=True)
        time.sleep(3600)
    except KeyboardInterrupt:
        p.join()
    q = ctx.Process(target=nothing)
    q.start()
    q.join()
    print("codes", p.exitcode, q.exitcode)
"""
        for method in ("forkserver", "cleanfork"):
            with self.subTest(method), Program(text) as program:
                self.strike([program.path, method], b"codes 7 0")



class TheProgramsEnd(unittest.TestCase):
    PROGRAM = """
        import cleanfork, cleanfork.subprocess, sys, threading
        def waits():
            p = cleanfork.subprocess.Popen(["sleep", "60"], stdout=-3, stderr=-3)
            begun.release()
            while True:
                try: p.wait(0.0005)
                except cleanfork.subprocess.TimeoutExpired: pass
        def runs():
            while True:
                cleanfork.subprocess.run(["true"], capture_output=True)
                begun.release()
        def starts():
            while True:
                p = cleanfork.get_context().Process(target=int, daemon=True)
                p.start(); p.join(); begun.release()
        if __name__ == "__main__":
            # They live on with the standard module; here the test has to look to its own.
            cleanfork.subprocess.Popen.lifetime = cleanfork.Lifetime()
            begun = threading.Semaphore(0)
            for _ in range(4): threading.Thread(target=globals()[sys.argv[1]], daemon=True).start()
            for _ in range(4): begun.acquire()
        """

    def test_finds_daemon_threads_of_it_in_the_library(self):
        with Program(self.PROGRAM) as program:
            for does in ("waits", "runs", "starts"):
                with self.subTest(does):
                    ended = [program.run(program.path, does) for _ in range(6)]
                    self.assertEqual([p.returncode for p in ended], [0] * 6, ended[0].stderr)


class Handlers(unittest.TestCase):
    """A signal at each line of what a first start goes through, with a handler that starts too."""

    PROGRAM = """
        import signal, sys
        import cleanfork, cleanfork._server, cleanfork.subprocess
        from cleanfork._mp import popen, templates

        def nothing():
            pass

        def run():
            assert cleanfork.subprocess.run(["true"]).returncode == 0

        def start():
            p = cleanfork.get_context(warm=0).Process(target=nothing)
            p.start()
            p.join()
            assert p.exitcode == 0

        def interrupt(function, begins):
            # The n-th line, for all n: the forkserver is a new one each time.
            number = 0
            while True:
                cleanfork.stop()
                left = number
                def of_line(frame, event, argument):
                    nonlocal left
                    if left == 0:  # nothing is traced in here
                        signal.raise_signal(signal.SIGALRM)
                    left -= 1
                    return of_line
                sys.settrace(lambda frame, *_: of_line if frame.f_code in begins else None)
                function()
                sys.settrace(None)
                first = cleanfork.client()
                function()
                assert cleanfork.client() is first
                if left >= 0:
                    return print(number > 8)
                number += 1

        if __name__ == "__main__":
            signal.signal(signal.SIGALRM, lambda *_: function())
            server, mp = cleanfork._server, templates
            function, begins = {
                "run": (run, (server.start, server._begin)),
                "start": (start, (mp.ensure, mp._ensure, popen.Popen._dump)),
            }[sys.argv[1]]
            interrupt(function, [each.__code__ for each in begins])
        """

    def test_that_start_a_process_during_a_start(self):
        with Program(self.PROGRAM) as program:
            for function in ("run", "start"):
                with self.subTest(function):
                    p = program.run(program.path, function)
                    self.assertEqual(p.stdout, "True\n", p.stderr)


if __name__ == "__main__":
    unittest.main()
