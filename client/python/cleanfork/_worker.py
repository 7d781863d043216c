"""What a worker of prefork.Supervisor has of it."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing.connection as connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Worker", "work"]

# How many signs of life a worker gives in the time that it may be without one.
_SIGNS = 4


class Worker:
    """What a worker has of its supervisor: the first argument of its target."""

    def __init__(self, number: int, generation: int, channel: Any, requests: float,
                 hang: float | None) -> None:
        self.number = number
        self.generation = generation
        self._channel = channel
        self._left, self._hang, self._next_sign = requests, hang, 0.0

    def _begin(self) -> None:
        self._lock = threading.RLock()  # reentrant for signal handlers
        if self._hang is not None and sys.stderr is not None:
            faulthandler.enable()  # SIGABRT tells the stacks of all threads
        # Written to by the interpreter's own handler, so that a wait ends; by ours too, since
        # an event loop may have that of its own.
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: self._told())

    def _told(self) -> None:
        try:
            os.write(self._wake, b"x")
        except BlockingIOError:
            pass  # it is full, so that is known

    def _send(self, what: str) -> None:
        try:
            with self._lock:
                self._channel.send(what)
        except OSError:
            pass  # the supervisor is gone, which wait() tells

    def ready(self) -> None:
        """It serves now: an old worker may go."""
        self._send("ready")

    def served(self, requests: int = 1) -> None:
        """Counts them for Limits.requests, and is a sign of life; by any thread."""
        with self._lock:
            before, self._left = self._left, self._left - requests
        if before > 0 >= self._left:
            self._send("it has served its requests")
        self.alive()

    def alive(self) -> None:
        """A sign of life for Limits.hang: of what would not do it if the worker hung."""
        if self._hang is None or time.monotonic() < self._next_sign:
            return
        self._next_sign = time.monotonic() + self._hang / _SIGNS
        self._send("alive")

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the worker is to drain; false when it is not within `timeout` seconds.

        Meanwhile it gives signs of life.
        """
        give_up = None if timeout is None else time.monotonic() + timeout
        while True:
            self.alive()
            left = None if give_up is None else max(give_up - time.monotonic(), 0)
            part = left if self._hang is None else min(self._hang / _SIGNS, left or self._hang)
            if connection.wait([self._woken, self._channel], 0 if left == 0 else part):
                return True
            if give_up is not None and time.monotonic() >= give_up:
                return False

    async def wait_async(self) -> None:
        """wait() for a worker with an event loop of asyncio, of any make."""
        import asyncio

        loop, told = asyncio.get_running_loop(), asyncio.Event()
        watched = (self._woken, self._channel.fileno())
        for each in watched:
            loop.add_reader(each, told.set)
        try:
            while not told.is_set():
                self.alive()
                part = None if self._hang is None else self._hang / _SIGNS
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(told.wait(), part)
        finally:
            for each in watched:
                loop.remove_reader(each)


def work(worker: Worker, target: Callable[..., object], args: tuple[object, ...]) -> None:
    worker._begin()
    target(worker, *args)
