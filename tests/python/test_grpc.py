"""A live grpcio server and busy calls in the parent, while subprocesses run."""

import asyncio
import concurrent.futures
import threading
import unittest

import cleanfork
import cleanfork.asyncio
import cleanfork.subprocess as subprocess
from support import DEADLINE, open_descriptors

try:
    import grpc
except ImportError:
    grpc = None

CALLERS = 3
PROCESSES = 150


class Echo(grpc.GenericRpcHandler if grpc else object):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)


@unittest.skipIf(grpc is None, "grpcio is not installed")
class Busy(unittest.TestCase):
    def setUp(self):
        # First grpc, its threads and sockets; only then the forkserver.
        cleanfork.stop()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(2),
                                  handlers=[Echo()])
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.addCleanup(lambda: self.server.stop(None).wait())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.addCleanup(self.channel.close)
        self.echo = self.channel.unary_unary("/test/echo")
        self.echo(b"warm", timeout=DEADLINE)
        self.done = threading.Event()
        self.calls = 0
        self.failures = []
        self.threads = [threading.Thread(target=self.call) for _ in range(CALLERS)]
        for t in self.threads:
            t.start()
        self.addCleanup(self.finish)

    def call(self):
        while not self.done.is_set():
            try:
                if self.echo(b"x" * 1000, timeout=DEADLINE) != b"x" * 1000:
                    self.failures.append("a wrong answer")
                self.calls += 1
            except grpc.RpcError as e:
                self.failures.append(e)

    def finish(self):
        self.done.set()
        for t in self.threads:
            t.join()

    def check(self):
        before = self.calls
        self.echo(b"still there", timeout=DEADLINE)
        self.finish()
        self.assertEqual(self.failures, [])
        self.assertGreater(before, 0)

    def test_run(self):
        for i in range(PROCESSES):
            p = subprocess.run(["sh", "-c", f"cat; exit {i % 256}"], input=b"%d" % i,
                               stdout=subprocess.PIPE, timeout=DEADLINE)
            self.assertEqual((p.returncode, p.stdout), (i % 256, b"%d" % i))
        self.check()

    def test_popen_from_threads(self):
        def work(i):
            return subprocess.call(["sh", "-c", f"exit {i % 256}"])
        before = open_descriptors()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            codes = list(pool.map(work, range(PROCESSES)))
        self.assertEqual(codes, [i % 256 for i in range(PROCESSES)])
        # The session, and the process between this one and the forkserver.
        self.assertLessEqual(len(open_descriptors()), len(before) + 2)
        self.check()

    def test_asyncio(self):
        async def one(i):
            p = await cleanfork.asyncio.create_subprocess_shell(
                f"echo {i}; exit {i % 256}", stdout=subprocess.PIPE)
            return (await p.communicate())[0], p.returncode

        async def main():
            return await asyncio.gather(*(one(i) for i in range(50)))
        self.assertEqual(asyncio.run(main()), [(b"%d\n" % i, i % 256) for i in range(50)])
        self.check()

    def test_no_descriptor_of_grpc_reaches_a_child(self):
        out = subprocess.check_output(["ls", "/proc/self/fd"])
        self.assertEqual(out.split(), [b"0", b"1", b"2", b"3"])
        self.check()


if __name__ == "__main__":
    unittest.main()
