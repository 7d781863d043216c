"""What the Python cases share; scene.hpp says how they are made.

Each py_*.py is a program: CASE [--with fork|cleanfork] [--tries N], or --list. It prints a
line for each try, "ok" or "damaged KIND: what was seen", and "done".
"""

import argparse
import multiprocessing
import os
import select
import signal
import sys
import threading
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../helpers"))
from patience import scaled

HANG = 1.5  # seconds; a target here takes milliseconds
OTHERWISE = scaled(20)
impatient = False  # copied by a fork, and not otherwise


def bound(short_one=HANG):
    """How long to wait for what a fork may have made impossible: short there, and long
    enough otherwise that a busy machine is not taken for a hang. In parent and child."""
    return short_one if impatient else max(short_one, OTHERWISE)

CASES = {}


class Damage:
    def __init__(self, kind, evidence):
        self.kind, self.evidence = kind, evidence


def case(group, name, title, quick, full):
    """Registers a function that takes a scene."""

    def add(function):
        CASES[name] = (group, name, "Python", title, quick, full, function)
        return function

    return add


class Ending:
    def __init__(self, code):
        self.code = code  # None: it hung, and was killed

    @property
    def hung(self):
        return self.code is None

    def __str__(self):
        if self.hung:
            return "hung"
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name}"
        return f"exited {self.code}"


def finish(process, deadline):
    """Waits for a multiprocessing process; one that hangs is killed."""
    process.join(max(0, deadline - time.monotonic()))
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    process.close()
    return Ending(code)


def nothing():
    pass


class Scene:
    def __init__(self, way, tries, results):
        self.way, self.tries, self._results = way, tries, results
        self.forks = way == "fork"
        global impatient
        impatient = self.forks
        if self.forks:
            self.context = multiprocessing.get_context("fork")
        else:
            import cleanfork

            self.context = cleanfork.get_context()
            # What multiprocessing starts once (its resource tracker) keeps the standard
            # streams of that moment.
            self.run(nothing)

    def start(self, target, *args, **options):
        process = self.context.Process(target=target, args=args, **options)
        process.start()
        return process

    def run(self, target, *args):
        return finish(self.start(target, *args), time.monotonic() + bound())

    def fork(self, target, *args, leave="sys.exit"):
        """os.fork() and what most programs do then; by cleanfork a Process."""
        if not self.forks:
            return self.run(target, *args)
        pid = os.fork()
        if pid == 0:
            target(*args)
            if leave == "sys.exit":
                sys.exit(0)
            os._exit(0)
        return wait_for(pid)

    def tell(self, damage):
        line = f"damaged {damage.kind}: {damage.evidence}" if damage else "ok"
        os.write(self._results, line.replace("\n", "|").encode() + b"\n")

    def figure(self, name, value):
        os.write(self._results, f"figure {name} {value}\n".encode())

    def end_here(self):
        """Ends this process as it is, when what is in it may not end by itself any more."""
        os.write(self._results, b"done\n")
        if not self.forks:
            import cleanfork

            cleanfork.stop()
        os._exit(0)

    def each(self, once):
        for i in range(self.tries):
            self.tell(once(i))

    def all(self, target, *args):
        """Many at a time: those that hang only sleep."""
        left, at_once = self.tries, 100 if self.forks else 20
        while left > 0:
            batch = [self.start(target, *args) for _ in range(min(left, at_once))]
            deadline = time.monotonic() + bound()
            for process in batch:
                end = finish(process, deadline)
                self.tell(None if end.code == 0 else
                          Damage("hung" if end.hung else "failed", f"the child {end}"))
            left -= len(batch)


def wait_for(pid):
    pidfd = os.pidfd_open(pid)
    hung = not select.select([pidfd], [], [], bound())[0]
    os.close(pidfd)
    if hung:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ending(None if hung else code)


class Busy:
    """Threads that do something over and over, meanwhile."""

    def __init__(self, count, again):
        self._again, self._stop = again, False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def _work(self):
        while not self._stop:
            self._again()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop = True
        for thread in self._threads:
            thread.join()


def read_all(fd, limit=None):
    """What there is until the end, or until the limit."""
    deadline, content = time.monotonic() + (bound() if limit is None else limit), b""
    while select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]:
        block = os.read(fd, 65536)
        if not block:
            break
        content += block
    return content


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--with", dest="way", choices=("fork", "posix_spawn", "cleanfork"),
                        default="fork")
    parser.add_argument("--tries", type=int, default=0)
    parser.add_argument("name", nargs="?")
    options = parser.parse_args()
    if options.list:
        for *columns, _ in CASES.values():
            print(*columns, sep="\t")
        return
    *_, quick, _, function = CASES[options.name]
    # Standard output is what some of the cases are about.
    results = os.dup(1)
    os.dup2(2, 1)
    function(Scene(options.way, options.tries or quick, results))
    os.write(results, b"done\n")
