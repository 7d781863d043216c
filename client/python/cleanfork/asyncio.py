"""asyncio's subprocesses, with processes from the forkserver.

    p = await cleanfork.asyncio.create_subprocess_exec("sort", stdin=PIPE, stdout=PIPE)
    out, _ = await p.communicate(b"b\\na\\n")

The arguments, Process and its streams are asyncio's own, and pty=True is as in
cleanfork.subprocess: stdin types and stdout reads. The event loop watches the child's
pidfd: there is no child watcher, no thread and no SIGCHLD, in any thread's loop.
"""

from __future__ import annotations

import asyncio as _asyncio
import errno
import signal
import sys
from asyncio import base_subprocess
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process, SubprocessStreamProtocol

from cleanfork import _compat
from cleanfork import subprocess as _subprocess
from cleanfork._errors import StatusUnknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cleanfork.subprocess import Popen

__all__ = ["create_subprocess_exec", "create_subprocess_shell", "subprocess_exec",
           "subprocess_shell", "resize", "Process", "PIPE", "STDOUT", "DEVNULL"]

_DEFAULT_LIMIT = _compat.stream_limit()
# Once the forkserver is lost a zombie's pidfd is readable, but its status comes
# with the reap, which nothing tells: looks again after this many seconds.
_LOOK_AGAIN = 0.05


class _Transport(base_subprocess.BaseSubprocessTransport):
    _unknown: StatusUnknown | None = None

    if TYPE_CHECKING:
        _loop: _asyncio.AbstractEventLoop
        _proc: Popen[bytes] | None
        _returncode: int | None

        def _process_exited(self, returncode: int) -> None: ...
        def _check_proc(self) -> None: ...

    def _start(self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any,
               bufsize: int, **kwargs: Any) -> None:
        self._proc = _subprocess.Popen(args, shell=shell, stdin=stdin, stdout=stdout,
                                       stderr=stderr, bufsize=bufsize, **kwargs)
        self._watched = self._proc.pidfd
        if self._watched < 0:
            self._loop.call_soon(self._look)
        else:
            self._loop.add_reader(self._watched, self._ended)

    def _ended(self) -> None:
        self._loop.remove_reader(self._watched)
        self._look()

    def _look(self) -> None:
        if self._proc is None or self._returncode is not None:
            return
        try:
            returncode = self._proc.poll()
        except StatusUnknown as e:
            # The streams are told that it has ended; who asks how gets the exception.
            self._unknown = e
            self._let_go_of_terminal()
            self._process_exited(sys.maxsize)
            return
        if returncode is None:
            self._loop.call_later(_LOOK_AGAIN, self._look)
        else:
            self._let_go_of_terminal()
            # Skip one iteration for callbacks to be executed.
            self._loop.call_soon(self._process_exited, returncode)

    def _let_go_of_terminal(self) -> None:
        # The streams have descriptors of their own.
        if self._proc is not None and self._proc.pty is not None:
            self._proc.pty.close()

    def get_returncode(self) -> int | None:
        if self._unknown is not None:
            raise self._unknown
        return self._returncode

    async def _wait(self) -> int:
        returncode: int = await super()._wait()
        if self._unknown is not None:
            raise self._unknown
        return returncode

    async def close_and_wait(self) -> None:
        self.close()
        await self._wait()

    # By the pidfd: asyncio's go by os.kill() from 3.13 on, but here it is not this program that
    # reaps, and a number may be another process's by now.
    def send_signal(self, sig: int) -> None:
        self._check_proc()
        if self._proc is not None:
            self._proc.send_signal(sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Protocol(SubprocessStreamProtocol):
    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if isinstance(exc, OSError) and exc.errno == errno.EIO:
            exc = None  # the end of a terminal's output
        super().pipe_connection_lost(fd, exc)


def _refuse_text(keywords: dict[str, Any], shell: bool) -> None:
    """As the event loops do: the streams are of bytes."""
    for name, needed in (("universal_newlines", False), ("shell", shell), ("bufsize", 0),
                         ("text", False), ("encoding", None), ("errors", None)):
        value = keywords.pop(name, needed)
        refused = value is not None if needed is None else value != needed
        if name in ("universal_newlines", "shell", "text"):
            refused = bool(value) != bool(needed)
        if refused:
            raise ValueError(f"{name} must be {needed}")


async def _start(make_protocol: Callable[[], Any], args: Any, shell: bool, stdin: Any, stdout: Any,
                 stderr: Any, keywords: dict[str, Any]) -> tuple[_Transport, Any]:
    _refuse_text(keywords, shell)
    loop = _asyncio.get_running_loop()
    protocol = make_protocol()
    connected: _asyncio.Future[None] = loop.create_future()
    transport = _Transport(loop, protocol, args, shell, stdin, stdout, stderr, 0,
                           waiter=connected, **keywords)
    try:
        await connected
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        await transport.close_and_wait()
        raise
    return transport, protocol


def _command(cmd: Any) -> Any:
    if not isinstance(cmd, (bytes, str)):
        raise ValueError("cmd must be a string")
    return cmd


async def subprocess_exec(protocol_factory: Callable[[], Any], program: Any, *args: Any,
                          stdin: Any = PIPE, stdout: Any = PIPE, stderr: Any = PIPE,
                          **kwds: Any) -> tuple[Any, Any]:
    """As loop.subprocess_exec() of the running loop: a SubprocessTransport and its protocol."""
    return await _start(protocol_factory, (program, *args), False, stdin, stdout, stderr, kwds)


async def subprocess_shell(protocol_factory: Callable[[], Any], cmd: str | bytes, *,
                           stdin: Any = PIPE, stdout: Any = PIPE, stderr: Any = PIPE,
                           **kwds: Any) -> tuple[Any, Any]:
    """As loop.subprocess_shell()."""
    return await _start(protocol_factory, _command(cmd), True, stdin, stdout, stderr, kwds)


async def _create(args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, limit: int,
                  keywords: dict[str, Any]) -> Process:
    loop = _asyncio.get_running_loop()
    transport, protocol = await _start(lambda: _Protocol(limit=limit, loop=loop),
                                       args, shell, stdin, stdout, stderr, keywords)
    return Process(transport, protocol, loop)


async def create_subprocess_exec(program: Any, *args: Any, stdin: Any = None, stdout: Any = None,
                                 stderr: Any = None, limit: int = _DEFAULT_LIMIT,
                                 **kwds: Any) -> Process:
    """As asyncio.create_subprocess_exec(); the keywords are those of subprocess.Popen."""
    return await _create((program, *args), False, stdin, stdout, stderr, limit, kwds)


async def create_subprocess_shell(cmd: str | bytes, stdin: Any = None, stdout: Any = None,
                                  stderr: Any = None, limit: int = _DEFAULT_LIMIT,
                                  **kwds: Any) -> Process:
    """As asyncio.create_subprocess_shell()."""
    return await _create(_command(cmd), True, stdin, stdout, stderr, limit, kwds)


def resize(process: Process, rows: int, columns: int) -> None:
    """Give the terminal of a process that was started with pty another size."""
    transport: _Transport = _compat.transport_of(process)
    transport.get_extra_info("subprocess").resize(rows, columns)
