"""Many threads at once, with the interpreter's lock and, where it can be off, without it."""

import os
import sysconfig
import threading
import unittest

import cleanfork
from mp_support import run_program
from support import DEADLINE, open_descriptors, run_python

THREADS = 8


def in_threads(work, count=THREADS):
    """What each of the threads, which begin at once, made of work(number)."""
    results, begin = {}, threading.Barrier(count)

    def run(number):
        begin.wait(DEADLINE)
        results[number] = work(number)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [results.get(i) for i in range(count)]


class FreeThreaded(unittest.TestCase):
    @unittest.skipUnless(sysconfig.get_config_var("Py_GIL_DISABLED"),
                         "the interpreter has its lock in any case")
    def test_the_lock_stays_off(self):
        p = run_python("import sys, cleanfork._cleanfork; print(sys._is_gil_enabled())")
        self.assertEqual((p.stdout, p.stderr), ("False\n", ""))


class Handles(unittest.TestCase):
    def test_an_end_is_taken_by_one_thread(self):
        for _ in range(20):
            p = cleanfork.client().spawn("true", stdout=-1)
            taken = [fd for fd in in_threads(lambda _: p.take_stdout()) if fd != -1]
            self.assertEqual(len(taken), 1)
            os.close(taken[0])
            p.wait()

    def test_a_status_is_the_same_for_all_that_wait(self):
        p = cleanfork.client().spawn("sh", ["-c", "exit 7"])
        codes = in_threads(lambda number: p.wait(*([DEADLINE] * (number % 2))).code)
        self.assertEqual(codes, [7] * THREADS)

    def test_a_client_is_closed_once(self):
        before = open_descriptors()
        for _ in range(5):
            c = cleanfork.launch()
            self.assertEqual(in_threads(lambda _: c.close()), [None] * THREADS)
            self.assertFalse(c.connected)
        self.assertEqual(open_descriptors().keys(), before.keys())

    def test_the_first_client_is_the_only_one(self):
        p = run_python("""
import threading, cleanfork
begin, pids = threading.Barrier(8), []
def work():
    begin.wait()
    pids.append(cleanfork.client().server["pid"])
threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(len(pids), len(set(pids)))
""")
        self.assertEqual((p.stdout, p.stderr), ("8 1\n", ""))


class Environment(unittest.TestCase):
    def test_variables_that_other_threads_change(self):
        """Each child has those that stay; of the others, what there was at a moment."""
        p = run_python("""
import os, threading
import cleanfork.subprocess as subprocess

os.environ["KEPT_FIRST"] = "1"
done, wrong = threading.Event(), []

def change(number):
    i = 0
    while not done.is_set():
        os.environ[f"CHANGED_{number}_{i % 50}"] = "x" * (i % 600)
        if i >= 25:
            os.environ.pop(f"CHANGED_{number}_{(i - 25) % 50}", None)
        i += 1

def start(number):
    for i in range(25):
        lines = subprocess.run(["env", "-0"], capture_output=True).stdout.split(b"\\0")[:-1]
        names = [line.partition(b"=")[0] for line in lines]
        if b"KEPT_FIRST=1" not in lines or len(set(names)) != len(names):
            wrong.append(lines)
        for name, _, value in (line.partition(b"=") for line in lines):
            if name.startswith(b"CHANGED_") and value.strip(b"x"):
                wrong.append(value)

changing = [threading.Thread(target=change, args=(i,)) for i in range(3)]
starting = [threading.Thread(target=start, args=(i,)) for i in range(5)]
for t in changing + starting: t.start()
for t in starting: t.join()
done.set()
for t in changing: t.join()
print(wrong)
""")
        self.assertEqual((p.returncode, p.stdout, p.stderr), (0, "[]\n", ""))


# Each of 8 threads does another of these, until all have done enough.
EVERYTHING = """
import gc, os, threading, traceback
import cleanfork
import cleanfork.subprocess as subprocess

ctx = cleanfork.get_context()
failed = []
joined = []  # closed at the end: before Python 3.12 no start() beside close() is safe, in _cleanup()

def add(queue, n):
    queue.put(n + 1)

def processes():
    queue = ctx.SimpleQueue()
    p = ctx.Process(target=add, args=(queue, 1))
    p.start()
    assert queue.get() == 2
    p.join()
    assert p.exitcode == 0, p.exitcode
    joined.append(p)

def ended_processes():
    p = ctx.Process(target=os._exit, args=(5,))
    p.start()
    while p.is_alive():
        pass
    assert p.exitcode == 5, p.exitcode

def programs():
    assert subprocess.run(["cat"], input=b"x", capture_output=True).stdout == b"x"

def reports():
    c = cleanfork.client()
    assert c.stats()["pid"] == c.server["pid"]
    c.list()
    c.templates()

def closed_clients():
    c = cleanfork.launch()
    p = c.spawn("true")
    other = threading.Thread(target=c.close)
    other.start()
    try:
        while True:
            c.stats()
    except cleanfork.SpawnError:
        other.join()

def variables():
    for i in range(100):
        os.environ[f"CHANGED_{i}"] = "x" * i
    for i in range(100):
        del os.environ[f"CHANGED_{i}"]

def contexts():
    fresh = cleanfork.get_context(nice=1)
    p = fresh.Process(target=gc.collect)
    p.start()
    p.join()
    assert p.exitcode == 0, p.exitcode

def many_handles():
    ps = [cleanfork.client().spawn("true") for _ in range(5)]
    for p in ps:
        p.wait()
    del ps
    gc.collect()

WORK = (processes, ended_processes, programs, reports, closed_clients, variables, contexts,
        many_handles)

def run(work, begin, times):
    begin.wait()
    try:
        for _ in range(times):
            work()
    except BaseException:
        failed.append(work.__name__)
        traceback.print_exc()

if __name__ == "__main__":
    begin = threading.Barrier(len(WORK))
    threads = [threading.Thread(target=run, args=(work, begin, 20)) for work in WORK]
    for t in threads: t.start()
    for t in threads: t.join()
    for p in joined: p.close()
    print(failed)
"""


class Everything(unittest.TestCase):
    maxDiff = None

    def test_at_once_by_8_threads(self):
        p = run_program(EVERYTHING)
        self.assertEqual((p.returncode, p.stdout, p.stderr), (0, "[]\n", ""))


if __name__ == "__main__":
    unittest.main()
