"""A parent with a live grpcio server, an open channel and busy calls starts processes that talk to it."""

import concurrent.futures
import os
import re
import subprocess
import sys
import threading
import unittest

import cleanfork
from mp_support import Program, Programs, ask, ctx, running
from support import DEADLINE, open_descriptors
from shards import load_tests  # in several entries of ctest

try:
    import grpc
except ImportError:
    grpc = None

SOAK = os.environ.get("CLEANFORK_SOAK") == "1"
PROCESSES = 1_000 if SOAK else 200
AT_A_TIME = 8
CALLS_OF_WORKERS = 80
PARTNERS, CALLS_OF_EACH = (8, 420) if SOAK else (4, 25)


def end_with(code):
    sys.exit(code)


def call_parent(port, text):
    """In a worker: its own channel, made at the first call and kept."""
    global echo
    if "echo" not in globals():
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        echo = channel.unary_unary("/test/echo")
    return echo(text, timeout=DEADLINE), os.getpid()


def echo_often(port, calls):
    """Through a channel of its own; how many answers were right."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo = channel.unary_unary("/test/echo")
        return sum(echo(b"%d" % i, timeout=DEADLINE, wait_for_ready=True) == b"%d" % i
                   for i in range(calls))


def serve_and_call(port, calls, parent):
    """In a worker: a server of its own, while it calls that of its parent."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[Echo()])
    parent.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    parent.send(echo_often(port, calls))
    parent.recv()
    server.stop(None).wait()


class Echo(grpc.GenericRpcHandler if grpc else object):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


class Busy:
    """A server, a channel to it, and threads that call it all the time."""

    def __enter__(self):
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=[Echo()])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}")
        self.echo = self.channel.unary_unary("/test/echo")
        self.echo(b"first", timeout=DEADLINE, wait_for_ready=True)
        self.done = threading.Event()
        self.failures, self.calls = [], 0
        self.threads = [threading.Thread(target=self.call) for _ in range(2)]
        for t in self.threads:
            t.start()
        return self

    def call(self):
        while not self.done.is_set():
            try:
                if self.echo(b"x" * 1000, timeout=DEADLINE) != b"x" * 1000:
                    self.failures.append("a wrong answer")
                self.calls += 1
            except grpc.RpcError as e:
                self.failures.append(e)

    def __exit__(self, *_):
        self.done.set()
        for t in self.threads:
            t.join()
        self.channel.close()
        self.server.stop(None).wait()


def start_many(context, count, deadline=DEADLINE):
    """Starts processes, some at a time; how many hang, and the pairs of a code and a wrong one."""
    hung, wrong, batch = 0, [], []
    for i in range(count):
        p = context.Process(target=end_with, args=(i % 256,))
        p.start()
        batch.append((p, i % 256))
        if len(batch) == AT_A_TIME or i == count - 1:
            for p, code in batch:
                p.join(deadline)
                if p.exitcode is None:
                    hung += 1
                    p.kill()
                    p.join()
                elif p.exitcode != code:
                    wrong.append((code, p.exitcode))
                p.close()
            batch = []
    return hung, wrong


# The same under fork, which may do anything: bounded, told, and not a failure.
UNDER_FORK = """
import multiprocessing, sys
import test_mp_grpc as t
if __name__ == "__main__":
    with t.Busy() as busy:
        ctx = multiprocessing.get_context("fork")
        total_hung, total_wrong = 0, 0
        for _ in range(3):
            hung, wrong = t.start_many(ctx, 40, deadline=2)
            total_hung += hung
            total_wrong += len(wrong)
            print("fork", total_hung, total_wrong, len(busy.failures), flush=True)
        pool = t.concurrent.futures.ProcessPoolExecutor(8, mp_context=ctx)
        answers = [pool.submit(t.call_parent, busy.port, b"%d" % i) for i in range(40)]
        done, _ = t.concurrent.futures.wait(answers, timeout=5)
        print("answers", len([a for a in done if a.exception() is None]), flush=True)
        t.os._exit(0)
"""


@unittest.skipIf(grpc is None, "grpcio is not installed")
class LiveServer(unittest.TestCase):
    def setUp(self):
        # First gRPC with its threads and sockets; only then the forkserver.
        cleanfork.stop()
        self.busy = self.enterContext(Busy())

    def tearDown(self):
        self.assertEqual(self.busy.failures, [])
        self.assertGreater(self.busy.calls, 0)
        self.assertEqual(running(), [])

    def test_processes(self):
        self.assertEqual(start_many(ctx, 16), (0, []))
        before = len(open_descriptors())
        self.assertEqual(start_many(ctx, PROCESSES), (0, []))
        # gRPC opens and closes some meanwhile.
        self.assertLessEqual(len(open_descriptors()), before + 2)

    def test_executor_whose_workers_call_the_parent(self):
        with concurrent.futures.ProcessPoolExecutor(8, mp_context=ctx) as pool:
            answers = [pool.submit(call_parent, self.busy.port, b"%d" % i)
                       for i in range(CALLS_OF_WORKERS)]
            got = [each.result(DEADLINE) for each in answers]
        self.assertEqual([text for text, _ in got], [b"%d" % i for i in range(CALLS_OF_WORKERS)])
        self.assertNotIn(os.getpid(), {pid for _, pid in got})

    def talk_to(self, ours):
        """The parent's thread for one worker: calls it, and its own server by the old channel."""
        answered = echo_often(ours.recv(), CALLS_OF_EACH)
        for i in range(CALLS_OF_EACH):
            answered += self.busy.echo(b"%d" % i, timeout=DEADLINE) == b"%d" % i
        answered += ours.recv()
        ours.send("end")
        return answered

    def test_parent_and_workers_serve_and_call_each_other(self):
        with concurrent.futures.ThreadPoolExecutor(PARTNERS) as threads:
            workers, answered = [], []
            for _ in range(PARTNERS):
                ours, theirs = ctx.Pipe()
                workers.append(ctx.Process(target=serve_and_call,
                                           args=(self.busy.port, CALLS_OF_EACH, theirs)))
                workers[-1].start()
                theirs.close()
                self.addCleanup(ours.close)
                answered.append(threads.submit(self.talk_to, ours))
            total = sum(each.result(10 * DEADLINE) for each in answered)
        self.assertEqual(total, 3 * PARTNERS * CALLS_OF_EACH)
        for p in workers:
            p.join(DEADLINE)
            self.assertEqual(p.exitcode, 0)
            p.close()

    def test_a_process_finds_nothing_of_it(self):
        self.assertEqual(ask(threads_and_sockets), (1, 2))  # a session, and the answer


def threads_and_sockets():
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass  # that of the listing
    return len(os.listdir("/proc/self/task")), sum(link.startswith("socket:") for link in links)


def forks_with_a_channel():
    """Debian 13's 1.51 waits in its handler of forks for a thread that waits for it."""
    program = "import grpc, os; channel = grpc.insecure_channel('127.0.0.1:1'); os.fork() or os._exit(0)"
    try:
        subprocess.run([sys.executable, "-c", program], timeout=DEADLINE, check=True,
                       stderr=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return False
    return True


@unittest.skipIf(grpc is None, "grpcio is not installed")
class InATemplate(Programs):
    PROGRAM = """
        import grpc, cleanfork
        {before}
        def work():
            pass
        if __name__ == "__main__":
            p = cleanfork.get_context(preload=["grpc"]).Process(target=work)
            p.start()
            p.join()
            print(p.exitcode)
        """

    def test_the_import_alone_is_fine(self):
        self.prints(self.PROGRAM.format(before=""), "0")

    def test_a_channel_is_refused(self):
        if not forks_with_a_channel():
            self.skipTest("this grpcio hangs at any fork once there is a channel")
        self.fails(self.PROGRAM.format(before="channel = grpc.insecure_channel('127.0.0.1:1')"),
                   # Its threads end at a fork by its own handlers, its descriptors do not.
                   "not clean", "epoll", "if __name__ == '__main__'")


@unittest.skipIf(grpc is None, "grpcio is not installed")
class ForComparison(unittest.TestCase):
    def test_under_fork(self):
        with Program(UNDER_FORK) as program:
            p = program.start(start_new_session=True, env={"PYTHONPATH": os.pathsep.join(
                [os.path.dirname(os.path.abspath(__file__)), os.environ["PYTHONPATH"]])})
            try:
                p.wait(DEADLINE)
                end = f"it ended with {p.returncode}"
            except Exception:
                end = f"it was killed after {DEADLINE} s"
            try:
                os.killpg(p.pid, 9)
            except ProcessLookupError:
                pass
            out, _ = p.communicate()
        told = re.findall(r"fork (\d+) (\d+) (\d+)", out) or [("?", "?", "?")]
        answers = re.findall(r"answers (\d+)", out) or ["no"]
        print("under fork: {} of 120 hung, {} wrong codes, {} calls of the parent failed;".format(
            *told[-1]), f"{answers[0]} of 40 answers to workers;", end, file=sys.stderr)


if __name__ == "__main__":
    unittest.main()
