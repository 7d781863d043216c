"""Keeps so many worker processes at work: restarts, drains and replaces them.

    def serve(worker, address):            # in each worker
        server = ...                       # begins here: threads, gRPC
        worker.ready()
        worker.wait()                      # until it is to drain
        server.stop()

    cleanfork.prefork.Supervisor(serve, workers=4, args=(address,)).run()

The supervisor may use threads and gRPC itself: its workers are no copies of it. run()
ends by SIGTERM or SIGINT, once all workers have drained; SIGHUP replaces them by a new
generation, which has imported everything anew; SIGTTIN and SIGTTOU make them one more or
one less. A worker drains when it gets SIGTERM, and when its supervisor is gone.
"""

from __future__ import annotations

import collections
import heapq
import itertools
import multiprocessing.connection as connection
import os
import signal
import threading
import time
from collections.abc import Callable
from operator import index
from typing import Any

from cleanfork._errors import StatusUnknown
from cleanfork._lifetime import Lifetime
from cleanfork.multiprocessing import CleanforkContext, get_context

__all__ = ["Supervisor", "Worker"]

# Beyond the grace, in seconds, until a worker that does not end is killed.
_AFTER_GRACE = 5.0
_STARTING, _SERVING, _DRAINING = "starting", "serving", "draining"


class Worker:
    """What a worker has of its supervisor: the first argument of its target."""

    def __init__(self, number: int, generation: int, channel: Any) -> None:
        self.number = number
        self.generation = generation
        self._channel = channel

    def _begin(self) -> None:
        # Written to by the interpreter's own handler, so that a wait ends.
        self._woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)

    def ready(self) -> None:
        """It serves now: an old worker may go."""
        try:
            self._channel.send("ready")
        except OSError:
            pass  # the supervisor is gone, which wait() tells

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the worker is to drain; false when it is not within `timeout` seconds."""
        return bool(connection.wait([self._woken, self._channel], timeout))


def _work(worker: Worker, target: Callable[..., object], args: tuple[object, ...]) -> None:
    worker._begin()
    target(worker, *args)


class _Handle:
    """The supervisor's side of a worker."""

    def __init__(self, number: int, generation: int, failures: int, process: Any,
                 channel: Any) -> None:
        self.number, self.generation, self.failures = number, generation, failures
        self.process, self.channel = process, channel
        self.state = _STARTING
        self.since = 0.0  # it serves
        self.ended = False


def _how(process: Any) -> str:
    """How it ended, exactly; never made up."""
    try:
        code = process.exitcode
    except StatusUnknown as e:
        return f"unknown: {e.why}"
    if code >= 0:
        return f"exited {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Supervisor:
    """Runs `target(worker, *args)` in so many processes of `context`.

    ``tell`` gets a text for each event, such as "worker 3, pid 211, generation 1: exited 0";
    it is a line unless it is about imports that failed. By default it is printed.
    A worker that dies is replaced after ``backoff`` seconds, doubling up to
    ``backoff_limit`` unless it had served for ``stable`` seconds. One that is not ready
    within ``start_timeout``, or has not ended ``grace`` after it was told to drain (and
    some seconds), is killed. resize(), reload() and stop() may be called by any thread.
    """

    def __init__(self, target: Callable[..., object], workers: int, *,
                 args: tuple[object, ...] = (), context: CleanforkContext | None = None,
                 backoff: float = 0.05, backoff_limit: float = 5.0, stable: float = 1.0,
                 start_timeout: float = 60.0, grace: float = 30.0,
                 tell: Callable[[str], object] | None = None) -> None:
        if index(workers) < 1:
            raise ValueError("there is at least one worker")
        for name, value in (("backoff", backoff), ("backoff_limit", backoff_limit),
                            ("stable", stable), ("start_timeout", start_timeout),
                            ("grace", grace)):
            if not isinstance(value, (int, float)):
                raise TypeError(f"argument {name!r} must be a number of seconds, "
                                f"not {type(value).__name__}")
        if not callable(target):
            raise TypeError(f"argument 'target' must be callable, not {type(target).__name__}")
        self._target, self._args = target, tuple(args)
        self._context = context or get_context()
        self._backoff, self._backoff_limit, self._stable = backoff, backoff_limit, stable
        self._start_timeout, self._grace = start_timeout, grace
        self._tell = tell or (lambda line: print(line, flush=True))
        self._workers: list[_Handle] = []
        self._restarts = 0  # that wait for their time
        self._wanted, self._generation = workers, 1
        self._numbers = itertools.count(1)
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._timer_numbers = itertools.count()
        self._orders: collections.deque[Callable[[], object]] = collections.deque()
        self._woken, self._wake = -1, -1
        self._stopping = self._settled = False
        self._reload: threading.Thread | None = None
        self._reload_again = False

    # ---- from any thread, and from signal handlers

    def resize(self, workers: int) -> None:
        """So many, at least one; those that are too many drain."""
        self._order(lambda: self._resize(workers))

    def reload(self) -> None:
        """Each old worker drains once a new one serves; none, when the imports fail."""
        self._order(self._start_reload)

    def stop(self) -> None:
        """Drains all, and run() returns; the second time kills them."""
        self._order(self._stop)

    def _order(self, order: Callable[[], object]) -> None:
        self._orders.append(order)
        if self._wake >= 0:
            try:
                os.write(self._wake, b"x")
            except BlockingIOError:
                pass  # it is awake

    # ---- the loop

    def run(self) -> None:
        """Returns when all workers have ended, after stop() or a signal."""
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        handlers = self._handle_signals()
        try:
            self._reconcile()
            while self._workers or self._reload is not None or not self._stopping:
                self._turn()
        finally:
            for handle in self._workers:
                handle.process.kill()
                handle.process.join()
                self._forget(handle)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            woken, wake, self._woken, self._wake = self._woken, self._wake, -1, -1
            os.close(woken)
            os.close(wake)

    def _handle_signals(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}
        orders: dict[int, Callable[[], object]] = {
            signal.SIGTERM: self._stop, signal.SIGINT: self._stop,
            signal.SIGHUP: self._start_reload,
            signal.SIGTTIN: lambda: self._resize(self._wanted + 1),
            signal.SIGTTOU: lambda: self._resize(self._wanted - 1)}
        return {number: signal.signal(number, lambda *_, order=order: self._order(order))
                for number, order in orders.items()}

    def _turn(self) -> None:
        timeout = max(self._timers[0][0] - time.monotonic(), 0) if self._timers else None
        watched: dict[Any, _Handle] = {}
        for handle in self._workers:
            watched[handle.process.sentinel] = handle
            if handle.state == _STARTING and handle.channel is not None:
                watched[handle.channel] = handle
        for ready in connection.wait([self._woken, *watched], timeout):
            if ready == self._woken:
                os.read(self._woken, 4096)
            elif isinstance(ready, int):
                self._end(watched[ready])
            else:
                self._hear(watched[ready])
        while self._orders:
            self._orders.popleft()()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()
        self._reconcile()

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._timers, (due, next(self._timer_numbers), action))

    # ---- how many there are, and of which generation

    def _reconcile(self) -> None:
        """While old workers serve, new ones start one at a time, and each that serves
        sends an old one away."""
        if self._stopping:
            return
        starting = self._restarts + sum(h.state == _STARTING for h in self._workers)
        fresh = self._restarts + sum(h.generation == self._generation and h.state != _DRAINING
                                     for h in self._workers)
        old = sum(h.generation != self._generation and h.state == _SERVING
                  for h in self._workers)
        while fresh < self._wanted and (not old or not starting):
            self._start(0)
            fresh, starting = fresh + 1, starting + 1
        serving = [h for h in self._workers if h.state == _SERVING]
        serving.sort(key=lambda h: (h.generation, h.number))
        for handle in serving[: max(len(serving) - self._wanted, 0)]:
            self._drain(handle)
        settled = not self._restarts and len(self._workers) == self._wanted and all(
            h.state == _SERVING and h.generation == self._generation for h in self._workers)
        if settled and not self._settled:
            self._tell(f"{self._wanted} workers serve, generation {self._generation}")
        self._settled = settled

    def _resize(self, workers: int) -> None:
        if not self._stopping:
            self._wanted, self._settled = max(workers, 1), False
            self._tell(f"{self._wanted} workers are wanted")

    def _start_reload(self) -> None:
        if self._stopping:
            return
        if self._reload is not None:
            self._reload_again = True
            return
        # The imports take their time, in which workers may die.
        self._reload = threading.Thread(target=self._import_anew)
        self._reload.start()

    def _import_anew(self) -> None:
        try:
            self._context.reload()
            why = ""
        except Exception as e:
            why = str(e) or type(e).__name__
        self._order(lambda: self._reloaded(why))

    def _reloaded(self, why: str) -> None:
        assert self._reload is not None
        self._reload.join()
        self._reload = None
        if why:
            self._tell(f"generation {self._generation} stays: {why}")
        else:
            self._generation += 1
            self._tell(f"generation {self._generation} is ready")
        if self._reload_again:
            self._reload_again = False
            self._start_reload()

    def _stop(self) -> None:
        self._restarts = 0
        for handle in self._workers:
            if self._stopping:
                handle.process.kill()
            elif handle.state == _SERVING:  # one that starts is drained when it serves
                self._drain(handle)
        self._stopping = True

    # ---- one worker, from its start to its end

    def _start(self, failures: int) -> None:
        number = next(self._numbers)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(Worker(number, self._generation, theirs), self._target, self._args),
            # A Ctrl-C is for the supervisor alone, and when that is killed, they drain.
            process_group=0,
            lifetime=Lifetime(grace=self._grace + _AFTER_GRACE))
        try:
            process.start()
        except OSError as e:
            ours.close()
            self._tell(f"worker {number}, generation {self._generation}: {e}")
            return self._start_later(failures + 1)
        finally:
            theirs.close()
        handle = _Handle(number, self._generation, failures, process, ours)
        self._workers.append(handle)
        self._after(self._start_timeout, lambda: self._kill_unless(handle, _STARTING))

    def _hear(self, handle: _Handle) -> None:
        if handle.ended:
            return
        try:
            handle.channel.recv()
        except (EOFError, OSError):  # it ends, which its sentinel tells
            handle.channel.close()
            handle.channel = None
            return
        handle.state, handle.since = _SERVING, time.monotonic()
        self._say(handle, "serves")
        if self._stopping:
            self._drain(handle)

    def _drain(self, handle: _Handle) -> None:
        handle.state = _DRAINING
        handle.process.terminate()
        self._after(self._grace + _AFTER_GRACE, lambda: self._kill_unless(handle))

    def _kill_unless(self, handle: _Handle, only: str = "") -> None:
        """Of a worker that has not come as far by now."""
        if handle.ended or (only and handle.state != only):
            return
        self._say(handle, f"killed, since it is {handle.state} for too long")
        handle.process.kill()

    def _end(self, handle: _Handle) -> None:
        handle.process.join()
        self._say(handle, _how(handle.process))
        self._workers.remove(handle)
        self._forget(handle)
        if handle.state == _DRAINING or self._stopping:
            return
        served = handle.state == _SERVING and time.monotonic() - handle.since >= self._stable
        self._start_later(1 if served else handle.failures + 1)

    @staticmethod
    def _forget(handle: _Handle) -> None:
        handle.ended = True
        handle.process.close()
        if handle.channel is not None:
            handle.channel.close()

    def _start_later(self, failures: int) -> None:
        self._restarts, self._settled = self._restarts + 1, False
        delay = self._backoff * 2 ** min(failures - 1, 20)
        self._after(min(delay, self._backoff_limit), lambda: self._start_again(failures))

    def _start_again(self, failures: int) -> None:
        if not self._stopping:
            self._restarts -= 1
            self._start(failures)

    def _say(self, handle: _Handle, what: str) -> None:
        self._tell(f"worker {handle.number}, pid {handle.process.pid}, "
                   f"generation {handle.generation}: {what}")
