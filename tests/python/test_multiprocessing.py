"""multiprocessing over templates: its objects, and how processes end."""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import multiprocessing.spawn
import os
import resource
import select
import signal
import subprocess
import sys
import unittest
import unittest.mock
from multiprocessing import shared_memory

from mp_support import NothingLeft, Program, ask, ctx, nothing, running
from support import DEADLINE, PYTHON, wait_readable


def double(x):
    return 2 * x


def end_by(how):
    how = how if isinstance(how, tuple) else (how,)
    {"exit": sys.exit, "_exit": os._exit, "raise": lambda: 1 / 0, "abort": os.abort,
     "kill": lambda s: os.kill(os.getpid(), s), "return": nothing}[how[0]](*how[1:])


def wait_for(event, told=None):
    if told is not None:
        told.set()
    event.wait(DEADLINE)


def wait_for_ever(connection):
    connection.send(os.getpid())
    while True:
        signal.pause()


def increment(value, lock, times):
    for _ in range(times):
        with lock:
            value.value += 1


def reverse(name, size):
    memory = shared_memory.SharedMemory(name)
    memory.buf[:size] = bytes(reversed(memory.buf[:size]))
    memory.close()


def produce(queue, count):
    for i in range(count):
        queue.put((i, "x" * i))


def pids_of_pool(_):
    return os.getpid()


def raises(x):
    raise ValueError(x)


def work_a_little(size):
    memory = bytearray(size)
    return sum(i * i for i in range(300_000)) + len(memory)


def write_everywhere():
    print("to stdout")
    print("to stderr", file=sys.stderr)


class Objects(NothingLeft):
    def test_process(self):
        self.assertEqual(ask(double, 21), 42)
        self.assertEqual(ask(double, 21, name="a name", daemon=True), 42)

    def test_subclass_with_a_state_of_its_own(self):
        p = Subclass("x")
        p.start()
        p.join()
        self.assertEqual(p.exitcode, 7)
        p.close()

    def test_pool(self):
        with ctx.Pool(3) as pool:
            self.assertEqual(pool.map(double, range(100)), [2 * i for i in range(100)])
            with self.assertRaisesRegex(ValueError, "no"):
                pool.apply(raises, ("no",))
            self.assertNotIn(os.getpid(), pool.map(pids_of_pool, range(10)))
            pool.close()
            pool.join()

    def test_pool_replaces_a_worker_that_dies(self):
        with ctx.Pool(1) as pool:
            first = pool.apply(os.getpid)
            pool.apply_async(end_by, (("kill", 9),))  # not while it holds the lock of the queue
            self.assertNotEqual(pool.apply_async(os.getpid).get(DEADLINE), first)

    def test_process_pool_executor(self):
        with concurrent.futures.ProcessPoolExecutor(3, mp_context=ctx) as pool:
            self.assertEqual(list(pool.map(double, range(50))), [2 * i for i in range(50)])
            with self.assertRaises(ZeroDivisionError):
                pool.submit(end_by, "raise").result(DEADLINE)

    def test_process_pool_executor_with_a_worker_that_dies(self):
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=ctx) as pool:
            with self.assertRaises(concurrent.futures.process.BrokenProcessPool):
                pool.submit(end_by, ("kill", 9)).result(DEADLINE)

    def test_queue(self):
        queue = ctx.Queue()
        p = ctx.Process(target=produce, args=(queue, 50))
        p.start()
        self.assertEqual([queue.get(timeout=DEADLINE) for _ in range(50)],
                         [(i, "x" * i) for i in range(50)])
        p.join()
        queue.close()
        queue.join_thread()

    def test_manager(self):
        with ctx.Manager() as manager:
            shared = manager.dict()
            p = ctx.Process(target=shared.__setitem__, args=("key", [1, 2]))
            p.start()
            p.join()
            self.assertEqual(dict(shared), {"key": [1, 2]})

    def test_lock_and_value(self):
        value, lock = ctx.Value("i", 0, lock=False), ctx.Lock()
        ps = [ctx.Process(target=increment, args=(value, lock, 200)) for _ in range(4)]
        for p in ps:
            p.start()
        for p in ps:
            p.join()
        self.assertEqual(value.value, 800)

    def test_event_semaphore_condition_barrier(self):
        event, told, barrier = ctx.Event(), ctx.Event(), ctx.Barrier(3)
        ps = [ctx.Process(target=wait_for, args=(event, told)),
              *(ctx.Process(target=barrier.wait, args=(DEADLINE,)) for _ in range(2))]
        for p in ps:
            p.start()
        self.assertTrue(told.wait(DEADLINE))
        self.assertTrue(ps[0].is_alive())
        event.set()
        barrier.wait(DEADLINE)
        for p in ps:
            p.join()
            self.assertEqual(p.exitcode, 0)

    def test_shared_memory(self):
        memory = shared_memory.SharedMemory(create=True, size=5)
        memory.buf[:5] = b"abcde"
        p = ctx.Process(target=reverse, args=(memory.name, 5))
        p.start()
        p.join()
        self.assertEqual(bytes(memory.buf[:5]), b"edcba")
        memory.close()
        memory.unlink()

    def test_a_payload_of_any_size_and_descriptors_of_any_number(self):
        big = os.urandom(20_000_000)
        self.assertEqual(ask(len, big), len(big))
        pipes = [ctx.Pipe() for _ in range(200)]
        p = ctx.Process(target=answer_all, args=([theirs for _, theirs in pipes],))
        p.start()
        for i, (ours, theirs) in enumerate(pipes):
            theirs.close()
            self.assertEqual(ours.recv(), i)
            ours.close()
        p.join()
        self.assertEqual(p.exitcode, 0)

    def test_what_a_child_prepares_is_gathered_once_for_a_start(self):
        gather = multiprocessing.spawn.get_preparation_data
        with unittest.mock.patch("multiprocessing.spawn.get_preparation_data", wraps=gather) as made:
            p = ctx.Process(target=nothing)
            p.start()
        p.join()
        p.close()
        made.assert_called_once()


def answer_all(connections):
    for i, c in enumerate(connections):
        c.send(i)


class Subclass(ctx.Process):
    def __init__(self, text):
        super().__init__()
        self.text = text
        self.unpicklable = lambda: None

    def __getstate__(self):
        return {**self.__dict__, "unpicklable": 7}

    def run(self):
        sys.exit(self.unpicklable)


class Ends(NothingLeft):
    def ended(self, *how, **options):
        p = ctx.Process(target=end_by, args=how, stderr=subprocess.DEVNULL, **options)
        p.start()
        p.join()
        self.assertFalse(p.is_alive())
        return p

    def test_exit_codes_are_exact(self):
        for how, code in (("return", 0), (("exit", 0), 0), (("exit", 3), 3), (("_exit", 255), 255),
                          (("exit", None), 0), (("exit", "text"), 1), ("raise", 1),
                          ("abort", -signal.SIGABRT), (("kill", 9), -9), (("kill", 15), -15),
                          (("kill", 35), -35)):
            with self.subTest(how):
                self.assertEqual(self.ended(how).exitcode, code)

    def test_terminate_and_kill(self):
        for end, code in (("terminate", -15), ("kill", -9)):
            event = ctx.Event()
            p = ctx.Process(target=wait_for, args=(event,))
            p.start()
            getattr(p, end)()
            p.join()
            self.assertEqual(p.exitcode, code)

    def test_join_with_a_timeout(self):
        event = ctx.Event()
        p = ctx.Process(target=wait_for, args=(event,))
        p.start()
        p.join(0.01)
        self.assertIsNone(p.exitcode)
        self.assertTrue(p.is_alive())
        event.set()
        p.join(DEADLINE)
        self.assertEqual(p.exitcode, 0)

    def test_the_sentinel_is_a_pidfd(self):
        event = ctx.Event()
        p = ctx.Process(target=wait_for, args=(event,))
        p.start()
        self.assertIn("[pidfd]", os.readlink(f"/proc/self/fd/{p.sentinel}"))
        self.assertEqual(select.select([p.sentinel], [], [], 0)[0], [])
        signal.pidfd_send_signal(p.sentinel, signal.SIGKILL)
        self.assertEqual(multiprocessing.connection.wait([p.sentinel], DEADLINE), [p.sentinel])
        p.join()
        self.assertEqual(p.exitcode, -9)

    def test_rusage_and_spawn_timing(self):
        p = ctx.Process(target=work_a_little, args=(50 << 20,))
        self.assertEqual((p.rusage, p.spawn_timing), (None, {}))
        p.start()
        p.join()
        self.assertIsInstance(p.rusage, resource.struct_rusage)
        self.assertGreater(p.rusage.ru_utime, 0)
        self.assertGreater(p.rusage.ru_maxrss, 50 << 10)
        self.assertEqual(p.spawn_timing.keys(), {"pickle", "start"})
        self.assertTrue(all(0 < t < DEADLINE for t in p.spawn_timing.values()))

    def test_active_children(self):
        event = ctx.Event()
        p = ctx.Process(target=wait_for, args=(event,))
        p.start()
        self.assertIn(p, ctx.active_children())
        self.assertIn(p.pid, running())
        event.set()
        p.join()
        self.assertNotIn(p, ctx.active_children())

    def test_output_reaches_the_parents_stdio(self):
        with Program("""
            import cleanfork, test_multiprocessing as t
            if __name__ == "__main__":
                p = cleanfork.get_context().Process(target=t.write_everywhere)
                p.start()
                p.join()
            """) as program:
            p = program.run(env={"PYTHONPATH": os.pathsep.join(
                [os.path.dirname(__file__), os.environ["PYTHONPATH"]])})
        self.assertEqual((p.stdout, p.stderr), ("to stdout\n", "to stderr\n"))


KILLED = """
import cleanfork, os, signal, sys
import test_multiprocessing as t
if __name__ == "__main__":
    ctx = cleanfork.get_context({options})
    ours, theirs = ctx.Pipe()
    p = ctx.Process(target=t.wait_for_ever, args=(theirs,), daemon={daemon})
    p.start()
    print(ours.recv(), flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


class ParentIsKilled(unittest.TestCase):
    def pid_of_a_child(self, daemon, options=""):
        with Program(KILLED.format(daemon=daemon, options=options)) as program:
            p = program.start(stdin=subprocess.PIPE, env={
                "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__),
                                               os.environ["PYTHONPATH"]])})
            pidfd = os.pidfd_open(int(p.stdout.readline()))
            p.communicate("\n", timeout=DEADLINE)
            self.assertEqual(p.returncode, -9)
        self.addCleanup(os.close, pidfd)
        return pidfd

    def test_daemonic_children_end_with_it(self):
        wait_readable(self.pid_of_a_child(True))

    def test_others_by_choice(self):
        wait_readable(self.pid_of_a_child(False, "die_with_parent=True"))

    def test_a_process_of_its_own_choice(self):
        wait_readable(self.pid_of_a_child(False, "lifetime=cleanfork.Lifetime(signal=9)"))

    IDLE = """
        import os, signal, sys
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing
        if __name__ == "__main__":
            if "cleanfork._mp.drop_in" in sys.modules:  # by the runner
                e = ProcessPoolExecutor(1)
            else:
                import cleanfork
                {install}
                e = ProcessPoolExecutor(1, mp_context={context})
            print(e.submit(os.getpid).result(), flush=True)
            sys.stdin.readline()
            os.kill(os.getpid(), signal.SIGKILL)
        """

    def idle_worker_ends(self, *before, install="", context="None"):
        with Program(self.IDLE.format(install=install, context=context)) as program:
            p = subprocess.Popen([PYTHON, *before, program.path],
                                 **program.options({"stdin": subprocess.PIPE}))
            pidfd = os.pidfd_open(int(p.stdout.readline()))
            self.addCleanup(os.close, pidfd)
            p.communicate("\n", timeout=DEADLINE)
            self.assertEqual(p.returncode, -9)
            wait_readable(pidfd)

    def test_idle_workers_of_an_executor_end_with_it(self):
        self.idle_worker_ends(context="cleanfork.get_context()")

    def test_those_of_one_that_asked_for_forkserver_too(self):
        self.idle_worker_ends(install="cleanfork.install()",
                              context="multiprocessing.get_context('forkserver')")

    def test_those_of_an_unchanged_program_too(self):
        self.idle_worker_ends("-m", "cleanfork")

    def test_other_processes_of_an_unchanged_program_by_choice(self):
        with Program("""
            import multiprocessing, os, signal, sys
            def wait(connection):
                connection.send(os.getpid())
                signal.pause()
            if __name__ == "__main__":
                ours, theirs = multiprocessing.Pipe()
                multiprocessing.Process(target=wait, args=(theirs,)).start()
                print(ours.recv(), flush=True)
                sys.stdin.readline()
                os.kill(os.getpid(), signal.SIGKILL)
            """) as program:
            p = subprocess.Popen([PYTHON, "-m", "cleanfork", "--die-with-parent", program.path],
                                 **program.options({"stdin": subprocess.PIPE}))
            pidfd = os.pidfd_open(int(p.stdout.readline()))
            self.addCleanup(os.close, pidfd)
            p.communicate("\n", timeout=DEADLINE)
            wait_readable(pidfd)


if __name__ == "__main__":
    unittest.main()
