"""asyncio's subprocesses: the same as the standard ones, without a watcher or a thread."""

import asyncio
import asyncio.subprocess
import os
import signal
import threading
import unittest

import cleanfork
import cleanfork.asyncio
from support import NothingLeft, SameAsStandard, hidden_threads

PIPE, STDOUT, DEVNULL = -1, -2, -3
SH = "/bin/sh"


class Same(SameAsStandard):
    """`function` is a coroutine function of the module with create_subprocess_exec()."""

    def same(self, function):
        standard, ours = asyncio.subprocess, cleanfork.asyncio
        return super().same(
            lambda m: asyncio.run(function(ours if m.__name__.startswith("clean") else standard)))

    def test_communicate(self):
        async def call(m):
            p = await m.create_subprocess_exec("sort", stdin=PIPE, stdout=PIPE, stderr=PIPE)
            return await p.communicate(b"b\na\n"), p.returncode
        self.same_result(call)

    def test_shell(self):
        async def call(m):
            p = await m.create_subprocess_shell("echo $((1+1)); exit 3", stdout=PIPE)
            return await p.communicate(), p.returncode
        self.same_result(call)

    def test_wait_and_returncode(self):
        async def call(m):
            p = await m.create_subprocess_exec("cat", stdin=PIPE)
            before = p.returncode
            p.stdin.close()
            return before, await p.wait(), p.returncode, await p.wait()
        self.same_result(call)

    def test_signals(self):
        async def call(m, act):
            p = await m.create_subprocess_exec("sleep", "infinity")
            act(p)
            return await p.wait()
        self.same_result(lambda m: call(m, lambda p: p.kill()))
        self.same_result(lambda m: call(m, lambda p: p.terminate()))
        self.same_result(lambda m: call(m, lambda p: p.send_signal(signal.SIGUSR1)))

    def test_signal_after_the_end(self):
        async def call(m):
            p = await m.create_subprocess_exec("true")
            await p.wait()
            await asyncio.sleep(0)  # the end of the transport is among the loop's callbacks by now
            p.kill()
        self.same_error(ProcessLookupError, call)

    def test_streams(self):
        async def call(m):
            p = await m.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            p.stdin.write(b"first\nsecond")
            await p.stdin.drain()
            first = await p.stdout.readline()
            p.stdin.write_eof()
            return first, await p.stdout.read(), await p.wait()
        self.same_result(call)

    def test_large_data(self):
        data = os.urandom(1 << 20)

        async def call(m):
            p = await m.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            return (await p.communicate(data))[0] == data
        self.assertTrue(self.same_result(call))

    def test_limit(self):
        async def call(m):
            p = await m.create_subprocess_exec("printf", "0123456789", stdout=PIPE, limit=6)
            try:
                await p.stdout.readuntil(b"x")
            finally:
                await p.wait()
        self.same_error(asyncio.LimitOverrunError, call)

    def test_stderr_to_stdout(self):
        async def call(m):
            p = await m.create_subprocess_shell("echo o; echo e >&2", stdout=PIPE, stderr=STDOUT)
            return await p.communicate()
        self.same_result(call)

    def test_devnull_and_options(self):
        async def call(m):
            p = await m.create_subprocess_exec("pwd", stdin=DEVNULL, stdout=PIPE, cwd="/usr",
                                               env={"A": "b"}, start_new_session=True)
            return await p.communicate()
        self.same_result(call)

    def test_text_is_refused(self):
        for options in ({"text": True}, {"universal_newlines": True}, {"encoding": "utf-8"},
                        {"errors": "strict"}, {"bufsize": 1}, {"shell": True}):
            self.same_error(ValueError, lambda m: m.create_subprocess_exec("true", **options))
        self.same_error(ValueError, lambda m: m.create_subprocess_shell(["true"]))

    def test_no_such_program(self):
        self.same_error(FileNotFoundError, lambda m: m.create_subprocess_exec("no-such-program"))
        self.same_error(FileNotFoundError, lambda m: m.create_subprocess_exec("true", cwd="/no"))

    def test_cancelled_wait(self):
        async def call(m):
            p = await m.create_subprocess_exec("sleep", "infinity")
            try:
                await asyncio.wait_for(p.wait(), 0.05)
            except asyncio.TimeoutError:
                p.kill()
            return await p.wait()
        self.same_result(call)

    def test_many_at_once(self):
        async def one(m, i):
            p = await m.create_subprocess_shell(f"echo {i}; exit {i}", stdout=PIPE)
            return await p.communicate(), p.returncode

        async def call(m):
            return await asyncio.gather(*(one(m, i) for i in range(40)))
        self.same_result(call)


class OwnLoop(NothingLeft):
    def test_no_thread_and_no_watcher(self):
        async def main():
            p = await cleanfork.asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
            during = threading.active_count(), hidden_threads()
            await p.communicate(b"x")
            return during
        self.assertEqual(asyncio.run(main()), (1, 0))

    def test_loop_of_another_thread(self):
        codes = []

        async def main():
            p = await cleanfork.asyncio.create_subprocess_shell("exit 4")
            codes.append(await p.wait())
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        thread.join()
        self.assertEqual(codes, [4])

    def test_descriptors_after_many(self):
        async def main():
            for _ in range(20):
                p = await cleanfork.asyncio.create_subprocess_exec(
                    "true", stdin=PIPE, stdout=PIPE, stderr=PIPE)
                await p.communicate()
        asyncio.run(main())

    def test_a_transport_with_a_protocol_of_the_program(self):
        class Protocol(asyncio.SubprocessProtocol):
            def __init__(self):
                self.events, self.ended = [], asyncio.get_running_loop().create_future()

            def connection_made(self, transport):
                self.events.append("made")

            def pipe_data_received(self, fd, data):
                self.events.append((fd, data))

            def pipe_connection_lost(self, fd, exc):
                self.events.append((fd, "lost"))

            def process_exited(self):
                self.events.append("exited")

            def connection_lost(self, exc):
                self.ended.set_result(None)

        async def outcome(begin, *words):
            transport, protocol = await begin(Protocol, *words)
            transport.get_pipe_transport(0).write(b"in")
            transport.get_pipe_transport(0).write_eof()
            await protocol.ended
            self.assertEqual(protocol.events[0], "made")
            transport.close()
            return sorted(map(str, protocol.events)), transport.get_returncode()

        async def main():
            loop, command = asyncio.get_running_loop(), "cat; echo err >&2; exit 3"
            expected = await outcome(loop.subprocess_shell, command)
            self.assertEqual(await outcome(cleanfork.asyncio.subprocess_shell, command), expected)
            self.assertEqual(await outcome(cleanfork.asyncio.subprocess_exec, "sh", "-c", command),
                             expected)
            with self.assertRaises(ValueError):
                await cleanfork.asyncio.subprocess_shell(Protocol, ["true"])
            with self.assertRaises(FileNotFoundError):
                await cleanfork.asyncio.subprocess_exec(Protocol, "/missing")
        asyncio.run(main())

    def test_a_closed_transport_kills(self):
        async def main():
            p = await cleanfork.asyncio.create_subprocess_exec("sleep", "infinity")
            p._transport.close()
            return await p.wait()
        self.assertEqual(asyncio.run(main()), -signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
