"""What cleanfork.prefork gives its workers: restarts, drains, reloads and limits."""

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

from cleanfork._ends import how_it_ended
from cleanfork._lifetime import Lifetime
from cleanfork._limits import Limits
from cleanfork._worker import Worker, work
from cleanfork.multiprocessing import CleanforkContext, get_context

__all__ = ["Supervisor"]

# Beyond the grace, in seconds, until a worker that does not end is killed.
_AFTER_GRACE = 5.0
_STARTING, _SERVING, _DRAINING = "starting", "serving", "draining"


class _Handle:
    """The supervisor's side of a worker."""

    def __init__(self, number: int, generation: int, failures: int, process: Any,
                 channel: Any) -> None:
        self.number, self.generation, self.failures = number, generation, failures
        self.process, self.channel = process, channel
        self.state = _STARTING
        self.since = 0.0  # it serves
        self.heard = 0.0
        self.worn = False  # it is to be replaced
        self.ended = False


class Supervisor:
    """Runs `target(worker, *args)` in so many processes of `context`.

    ``tell`` gets a text for each event, such as "worker 3, pid 211, generation 1: exited 0";
    it is a line unless it is about imports that failed. By default it is printed.
    A worker that dies is replaced after ``backoff`` seconds, doubling up to
    ``backoff_limit`` unless it had served for ``stable`` seconds. One that is not ready
    within ``start_timeout``, or has not ended ``grace`` after it was told to drain (and
    some seconds), is killed. ``limits``: when one that serves is replaced. resize(), reload() and stop() may be called by any thread.
    """

    def __init__(self, target: Callable[..., object], workers: int, *,
                 args: tuple[object, ...] = (), context: CleanforkContext | None = None,
                 backoff: float = 0.05, backoff_limit: float = 5.0, stable: float = 1.0,
                 start_timeout: float = 60.0, grace: float = 30.0, limits: Limits = Limits(),
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
        limits.check()
        self._limits = limits
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
            self._look_at_memory()
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
            if handle.channel is not None:
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
        fresh = self._restarts + sum(not self._is_old(h) and h.state != _DRAINING
                                     for h in self._workers)
        old = sum(self._is_old(h) and h.state == _SERVING for h in self._workers)
        while fresh < self._wanted and (not old or not starting):
            self._start(0)
            fresh, starting = fresh + 1, starting + 1
        serving = [h for h in self._workers if h.state == _SERVING]
        serving.sort(key=lambda h: (not self._is_old(h), h.generation, h.number))
        for handle in serving[: max(len(serving) - self._wanted, 0)]:
            self._drain(handle)
        settled = not self._restarts and len(self._workers) == self._wanted and all(
            h.state == _SERVING and not self._is_old(h) for h in self._workers)
        if settled and not self._settled:
            self._tell(f"{self._wanted} workers serve, generation {self._generation}")
        self._settled = settled

    def _is_old(self, handle: _Handle) -> bool:
        return handle.worn or handle.generation != self._generation

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
        worker = Worker(number, self._generation, theirs, self._limits.draw_requests(),
                        self._limits.hang)
        process = self._context.Process(
            target=work, args=(worker, self._target, self._args),
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
            what = handle.channel.recv()
        except (EOFError, OSError):  # it ends, which its sentinel tells
            handle.channel.close()
            handle.channel = None
            return
        handle.heard = time.monotonic()
        if what not in ("ready", "alive"):
            self._wear_out(handle, what)
        elif what == "ready" and handle.state == _STARTING:
            self._serves(handle)

    def _serves(self, handle: _Handle) -> None:
        handle.state, handle.since = _SERVING, time.monotonic()
        self._say(handle, "serves")
        if self._stopping:
            return self._drain(handle)
        age = self._limits.draw_age()
        if age is not None:
            self._after(age, lambda: self._wear_out(handle, "it has served its time"))
        if self._limits.hang is not None:
            self._listen(handle, self._limits.hang)

    # ---- limits

    def _wear_out(self, handle: _Handle, why: str) -> None:
        if not (handle.ended or handle.worn or handle.state == _DRAINING):
            handle.worn, self._settled = True, False
            self._say(handle, f"is replaced: {why}")

    def _look_at_memory(self) -> None:
        if self._limits.rss is None and self._limits.pss is None:
            return
        for handle in self._workers:
            why = "" if handle.worn else self._limits.memory_is_over(handle.process.pid)
            if why and handle.state == _SERVING:
                self._wear_out(handle, why)
        self._after(self._limits.memory_every, self._look_at_memory)

    def _listen(self, handle: _Handle, seconds: float) -> None:
        due = time.monotonic() + seconds
        self._after(seconds, lambda: self._give_up_unless_heard(handle, due))

    def _give_up_unless_heard(self, handle: _Handle, due: float) -> None:
        hang = self._limits.hang
        if hang is None or handle.ended or handle.state != _SERVING:
            return
        now = time.monotonic()
        left = handle.heard + hang - now
        if now > due + hang / 2:  # this process has been stopped, and they perhaps as well
            left = hang
        if left > 0:
            return self._listen(handle, left)
        self._say(handle, f"no sign of life for {hang:g} s, so it is ended by SIGABRT")
        try:
            signal.pidfd_send_signal(handle.process.sentinel, signal.SIGABRT)
        except ProcessLookupError:
            return  # its sentinel tells
        self._after(_AFTER_GRACE, lambda: self._kill_unless(handle))

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
        self._say(handle, how_it_ended(handle.process))
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
