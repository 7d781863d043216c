"""The tables of differences in docs/python.md, for processes: each row is tried by all methods.

One program is run by each start method of the standard module and by ours. It starts a process,
changes all that a program can change, and compares what two further processes find.
"""

import functools
import json
import os
import unittest

import tables
from mp_support import Program
from support import DEADLINE

METHODS = ("fork", "forkserver", "spawn", "cleanfork")

PROGRAM = """
import ctypes, faulthandler, json, multiprocessing, os, random, resource, signal, sys, threading
import time, tracemalloc, uuid, warnings
import preloaded

METHOD = sys.argv[1]
DRAWN = uuid.uuid4().hex
CHANGED = "as imported"
LOCK = threading.Lock()
RUNS = os.environ["RUNS"]
with open(RUNS, "a") as file:
    print(os.getpid(), file=file)

def c_variable(name):
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    return (getenv(name.encode()) or b"").decode()

def facts():
    return {
        "drawn by the main module": DRAWN,
        "drawn by a preload": preloaded.DRAWN,
        "random": random.random(),
        "uuid4": uuid.uuid4().hex,
        "module": CHANGED,
        "lock": LOCK.acquire(timeout=0),
        "hash": hash("text"),
        "parent": os.getppid(),
        "pid of the program": multiprocessing.parent_process() and multiprocessing.parent_process().pid,
        "environment": os.environ.get("SET_LATER"),
        "put": c_variable("PUT_LATER"),
        "directory": os.getcwd(),
        "arguments": sys.argv[1:],
        "umask": os.umask(0o22),
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "faulthandler": faulthandler.is_enabled(),
        "tracemalloc": tracemalloc.is_tracing(),
        "trace": sys.gettrace() is not None,
        "digits": sys.get_int_max_str_digits(),
        "recursion": sys.getrecursionlimit(),
        "warnings": any(f[2] is UnicodeWarning for f in warnings.filters),
        "handler": signal.getsignal(signal.SIGUSR1) not in (signal.SIG_DFL, signal.SIG_IGN),
        "ignored": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN,
        "blocked": signal.SIGUSR2 in signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "timer": signal.getitimer(signal.ITIMER_REAL)[0] > 0,
        "threads": threading.active_count(),
    }

def tell(connection):
    connection.send(facts())

def burn(_):
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass

def nothing():
    pass

def context():
    if METHOD == "cleanfork":
        import cleanfork
        return cleanfork.get_context(preload=["preloaded"])
    ctx = multiprocessing.get_context(METHOD)
    ctx.set_forkserver_preload(["preloaded"])
    return ctx

def asked(ctx):
    ours, theirs = ctx.Pipe()
    p = ctx.Process(target=tell, args=(theirs,))
    p.start()
    theirs.close()
    found = ours.recv()
    p.join()
    return found

def can_be_waited_for(ctx):
    p = ctx.Process(target=nothing)
    p.start()
    try:
        os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
        return True
    except ChildProcessError:
        return False
    finally:
        p.join()

def children_time():
    usage, times = resource.getrusage(resource.RUSAGE_CHILDREN), os.times()
    return usage.ru_utime + usage.ru_stime, times.children_user + times.children_system

def counted(ctx):
    before = children_time()
    p = ctx.Process(target=burn, args=(0,))
    p.start()
    p.join()
    own = getattr(p, "rusage", None)
    return [b - a > 0.2 for a, b in zip(before, children_time())] + [
        own is not None and own.ru_utime + own.ru_stime > 0.2]

if __name__ == "__main__":
    ctx = context()
    asked(ctx)                            # what serves processes is there
    LOCK.acquire()
    CHANGED = "changed"
    os.environ["SET_LATER"] = "set"
    os.environ["PYTHONINTMAXSTRDIGITS"] = "5000"  # of the start of an interpreter
    os.putenv("PUT_LATER", "put")
    os.mkdir("below")
    os.chdir("below")
    sys.argv.append("later")
    os.umask(0o27)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[0] - 1, limit[1]))
    faulthandler.enable()
    sys.setrecursionlimit(1234)
    warnings.filterwarnings("ignore", category=UnicodeWarning)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR2,))
    signal.setitimer(signal.ITIMER_REAL, 1000)
    chlds = []
    signal.signal(signal.SIGCHLD, lambda *_: chlds.append(1))
    tracemalloc.start()
    sys.settrace(lambda *_: None)
    first, second = asked(ctx), asked(ctx)
    sys.settrace(None)
    told = {"SIGCHLD": bool(chlds), "wait": can_be_waited_for(ctx), "usage": counted(ctx)}
    with open(RUNS) as file:
        told["runs of the main module"] = len(set(file)) - 1
    LOCK.release()
    here = facts()
    if METHOD == "cleanfork":
        ctx.reload()
        told["digits after reload()"] = asked(ctx)["digits"]
    print(json.dumps([here, first, second, told, os.getpid()]))
"""


@functools.cache
def results(method):
    with Program(PROGRAM) as program:
        with open(os.path.join(program.directory.name, "preloaded.py"), "w") as file:
            file.write("import uuid\nDRAWN = uuid.uuid4().hex\n")
        environment = {"RUNS": os.path.join(program.directory.name, "runs")}
        environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        p = program.run(program.path, method, env=environment, timeout=4 * DEADLINE)
        if p.returncode != 0:
            raise AssertionError(f"{method}: {p.stderr}")
        return json.loads(p.stdout)


def whose(fact, method):
    """The program's, each process's own, or one that processes share."""
    here, first, second, *_ = results(method)
    if first[fact] == here[fact] == second[fact]:
        return "program's"
    return "own" if first[fact] != second[fact] else "shared"


def found(fact, method):
    _, first, second, told, _ = results(method)
    if fact in told:
        return told[fact]
    assert first[fact] == second[fact], (fact, method, first[fact], second[fact])
    return first[fact]


# Each row of the table, and the tests that hold what it says.
ROWS = {
    "from a program with threads or gRPC": ["test_locks_of_the_program"],
    "the main module is run": ["test_runs_of_the_main_module"],
    "what the program changed in its modules": ["test_what_the_program_changed_in_its_modules"],
    "environment": ["test_environment"],
    "what an interpreter or the loader reads of it at the start (PYTHONUTF8, LD_PRELOAD ...)": [
        "test_what_an_interpreter_reads_at_its_start"],
    "directory, `sys.argv`, umask, limits": ["test_directory_and_arguments", "test_umask_and_limits"],
    "other values that imports draw (`uuid4()`, a time, a token)": ["test_values_drawn_at_import"],
    "random states that imports seeded (`random.seed(42)`, `numpy.random.seed(42)`)": [
        "test_mp_seeds.Seeds.test_a_seed_of_the_main_module_stays",
        "test_mp_seeds.Seeds.test_numpy_alike"],
    "random states that imports drew from the system: `random`, numpy's, `random.Random()`, "
    "`default_rng()`": [
        "test_stock_faults.Faults.test_numpy_draws_the_same_in_each_child",
        "test_mp_seeds.Seeds.test_what_came_from_the_system_is_drawn_anew"],
    "workers of an executor of a killed program": [
        "test_multiprocessing.ParentIsKilled.test_idle_workers_of_an_executor_end_with_it"],
    "`hash()` of strings": ["test_hash_of_a_string"],
    "`start()` with more than a pipe holds": [
        "test_stock_faults.Faults.test_a_large_payload_makes_start_wait_for_the_child"],
    "daemonic children of a killed program": [
        "test_stock_faults.Faults.test_daemonic_children_outlive_a_killed_parent"],
    "a preload that raises": ["test_stock_faults.Faults.test_a_failed_preload_is_silent"],
    "a preload that starts threads": [
        "test_mp_programs.WhatIsSaid.test_threads_and_sockets_of_a_template"],
    "exit status after the server was killed": [
        "test_stock_faults.Faults.test_exit_statuses_become_255_when_it_dies"],
    "children of children": ["test_stock_faults.Faults.test_every_level_starts_another"],
    "`os.getppid()`": ["test_parent"],
    "`os.wait()`, SIGCHLD": ["test_wait_and_sigchld"],
    "`RUSAGE_CHILDREN`, `os.times()`": ["test_usage"],
    "process group": ["test_process_groups.Groups.test_of_a_job_it_is_the_program_s"],
    "signals": ["test_signals"],
    "warning filters, `faulthandler.enable()`": ["test_interpreter"],
    "`tracemalloc.start()`, `sys.settrace()`, recursion limit": ["test_interpreter"],
    "what it registered with `atexit`": [
        "test_mp_imports.ItsEnd.test_what_the_process_registered_is_done"],
    "a file that imports left open": [
        "test_mp_imports.FilesOfTheImports.test_each_child_reads_from_where_the_imports_stood"],
    "what imports set up (handlers of signals, variables)": [
        "test_mp_imports.WhatImportsSetUp.test_handlers_and_what_is_ignored",
        "test_mp_imports.WhatImportsSetUp.test_variables_unless_the_program_has_changed_them_since"],
}


class Differences(unittest.TestCase):
    maxDiff = None

    def test_each_row_of_the_table_has_its_tests(self):
        tables.check(self, "| | fork | forkserver | spawn | cleanfork |", ROWS)

    def row(self, question, fact, *expected):
        self.assertEqual(dict(zip(METHODS, (question(fact, m) for m in METHODS))),
                         dict(zip(METHODS, expected)), fact)

    def test_locks_of_the_program(self):
        self.row(found, "lock", False, True, True, True)
        self.row(found, "threads", 1, 1, 1, 1)

    def test_runs_of_the_main_module(self):
        # One in the template; otherwise one for each of the 5 processes, or none.
        self.row(found, "runs of the main module", 0, 5, 5, 1)

    def test_what_the_program_changed_in_its_modules(self):
        self.row(found, "module", "changed", *["as imported"] * 3)

    def test_environment(self):
        self.row(found, "environment", "set", None, "set", "set")
        self.row(found, "put", "put", "", "put", "put")

    def test_what_an_interpreter_reads_at_its_start(self):
        self.row(found, "digits", 4300, 4300, 5000, 4300)
        self.assertEqual(results("cleanfork")[3]["digits after reload()"], 5000)

    def test_directory_and_arguments(self):
        self.row(whose, "directory", *["program's"] * 4)
        self.row(whose, "arguments", *["program's"] * 4)

    def test_umask_and_limits(self):
        self.row(found, "umask", 0o27, 0o22, 0o27, 0o27)
        self.row(whose, "limit", "program's", "shared", "program's", "program's")

    def test_values_drawn_at_import(self):
        self.row(whose, "drawn by the main module", "program's", "own", "own", "shared")
        self.row(whose, "drawn by a preload", "program's", "shared", "own", "shared")
        self.row(whose, "random", "own", "own", "own", "own")
        self.row(whose, "uuid4", "own", "own", "own", "own")

    def test_hash_of_a_string(self):
        self.row(whose, "hash", "program's", "shared", "own", "shared")

    def test_parent(self):
        def parent(fact, method):
            here, first, *_, pid = results(method)
            return "program" if first["parent"] == pid else "another"
        self.row(parent, "parent", "program", "another", "program", "another")
        for method in METHODS:
            _, first, *_, pid = results(method)
            self.assertEqual(first["pid of the program"], pid)

    def test_wait_and_sigchld(self):
        self.row(found, "wait", True, False, True, False)
        self.row(found, "SIGCHLD", True, False, True, False)

    def test_usage(self):
        self.row(found, "usage", [True, True, False], [False, False, False], [True, True, False],
                 [False, False, True])

    def test_signals(self):
        self.row(found, "handler", True, False, False, False)
        self.row(found, "ignored", True, False, True, True)
        self.row(found, "blocked", True, False, True, False)
        self.row(found, "timer", False, False, False, False)

    def test_interpreter(self):
        self.row(found, "faulthandler", True, False, False, True)
        self.row(found, "tracemalloc", True, False, False, False)
        self.row(found, "trace", True, False, False, False)
        self.row(whose, "recursion", "program's", "shared", "shared", "shared")
        self.row(found, "warnings", True, False, False, True)


if __name__ == "__main__":
    unittest.main()
