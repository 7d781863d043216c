"""A pool of Celery whose processes come from a template with the application imported.

    CELERY_CUSTOM_WORKER_POOL=cleanfork.celery:TaskPool celery -A proj worker --pool custom

The worker is not copied: neither its connections to the broker, nor its threads. Time limits,
revoke(terminate=True), max_tasks_per_child and max_memory_per_child are those of prefork; a
process that dies is named by how it ended, and only its own task fails.
"""
# mypy: disable-error-code="import, misc"

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from multiprocessing import connection
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded, Terminated, WorkerLostError
from celery.concurrency.base import BasePool
from celery.utils.log import get_logger

from cleanfork._ends import how_it_ended
from cleanfork._limits import memory_of
from cleanfork.multiprocessing import get_context

__all__ = ["TaskPool"]

_logger = get_logger("celery.pool")
# Seconds: what a process may take to begin, and to end once it was told.
_START = 60.0
_END = 10.0
# What a process of the pool needs of Celery itself.
_PRELOAD = ("cleanfork.celery", "celery.concurrency.prefork", "celery.worker.state")


# ---- in a process of the pool

def _soft_limit(*_: Any) -> None:
    raise SoftTimeLimitExceeded()


def _work(channel: Any, module: str, name: str, hostname: str) -> None:
    """Does one task after the other, until the channel ends."""
    from importlib import import_module

    from celery import platforms
    from celery.app import trace
    from celery.concurrency.prefork import process_destructor, process_initializer

    app: Any = import_module(module)
    for part in name.split("."):
        app = getattr(app, part)
    # The parent is the template, whose end is none of ours: the forkserver ends this process.
    set_pdeathsig, platforms.set_pdeathsig = platforms.set_pdeathsig, lambda name: None
    try:
        process_initializer(app, hostname)
    finally:
        platforms.set_pdeathsig = set_pdeathsig
    trace.setup_worker_optimizations(app, hostname)  # which the worker has before it forks
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    channel.send("ready")
    try:
        while True:
            try:
                target, args, kwargs = channel.recv()
            except EOFError:
                return
            signal.signal(signal.SIGUSR1, _soft_limit)
            try:
                told: Any = (True, target(*args, **kwargs))
            except Exception:
                told = (False, ExceptionInfo())
            finally:
                signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            channel.send((*told, memory_of(os.getpid(), "Rss:")))
    finally:
        process_destructor(os.getpid(), 0)


# ---- in the worker

class _Job:
    """One task, with what Celery wants to hear of it."""

    def __init__(self, target: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> None:
        self.call = (target, args, kwargs)
        self.accept, self.done = options.get("accept_callback"), options.get("callback")
        self.failed, self.late = options.get("error_callback"), options.get("timeout_callback")
        self.soft, self.hard = options["soft_timeout"], options["timeout"]
        self.ready = threading.Event()

    def terminate(self, signal: Any = None) -> None:
        """Celery terminates what it is told to be accepted by TaskPool.terminate_job()."""

    def wait(self, timeout: float | None = None) -> None:
        self.ready.wait(timeout)


class _Seat:
    """A thread that keeps one process, and gives it a task at a time."""

    def __init__(self, pool: TaskPool) -> None:
        self.pool, self.tasks, self.terminated = pool, 0, False
        self.process: Any = None
        self.channel: Any = None
        self.thread = threading.Thread(target=self._run, name="cleanfork-celery", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._begin()
            while (job := self.pool.jobs.get()) is not None:
                try:
                    self._do(job)
                except Exception:  # of a callback: the seat stays
                    _logger.exception("a callback of a task failed")
                finally:
                    job.ready.set()
        finally:
            self._end()

    def _begin(self) -> None:
        while self.process is None and not self.pool.stopping:
            self.channel, theirs = self.pool.context.Pipe()
            self.process = self.pool.context.Process(
                target=_work, args=(theirs, *self.pool.place, self.pool.hostname), daemon=True)
            try:
                self.process.start()
                theirs.close()
                if self.channel.poll(_START) and self.channel.recv() == "ready":
                    self.tasks, self.terminated = 0, False
                    self.pool.seats_by_pid[self.process.pid] = self
                    return
                why = "it is not ready in time"
            except (EOFError, OSError, RuntimeError) as e:
                why = str(e) or "it ended before it was ready"
            _logger.error("a process of the pool did not begin: %s", why)
            self._end()
            time.sleep(1)  # as prefork does, for ever

    def _end(self) -> None:
        if self.channel is not None:
            self.channel.close()
        if self.process is not None and self.process.pid is not None:
            self.pool.seats_by_pid.pop(self.process.pid, None)
            self.process.join(_END)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
        self.process = self.channel = None

    def _do(self, job: _Job) -> None:
        if self.process is None or not self.process.is_alive():  # it died between two tasks
            self._end()
            self._begin()
        if self.process is None:
            return  # the pool stops, and the task is the broker's again
        self.channel.send(job.call)
        if job.accept is not None:
            job.accept(self.process.pid, time.monotonic())
        told = self._answer(job)
        if told is None:
            self._end()
            self._begin()
            return
        right, value, memory = told
        self.tasks += 1
        if self._is_worn(memory):
            self._end()
            self._begin()
        callback = job.done if right else job.failed
        if callback is not None:
            callback(value)

    def _is_worn(self, memory: int) -> bool:
        most, kib = (self.pool.options.get("maxtasksperchild"),
                     self.pool.options.get("max_memory_per_child"))
        return bool((most and self.tasks >= most) or (kib and memory > kib * 1024))

    def _answer(self, job: _Job) -> Any:
        """None: it has ended, and that was told."""
        begun = time.monotonic()
        soft = None if job.soft is None else begun + job.soft
        hard = None if job.hard is None else begun + job.hard
        while True:
            dues = [due for due in (soft, hard) if due is not None]
            left = max(min(dues) - time.monotonic(), 0) if dues else None
            ready = connection.wait([self.channel, self.process.sentinel], left)
            if self.channel in ready:
                try:
                    return self.channel.recv()
                except (EOFError, OSError):
                    return self._lost(job)
            if ready:
                return self._lost(job)
            now = time.monotonic()
            if soft is not None and now >= soft:
                soft = None
                self.signal(signal.SIGUSR1)
                if job.late is not None:
                    job.late(True, job.soft)
            if hard is not None and now >= hard:
                if job.late is not None:
                    job.late(False, job.hard)
                self.process.kill()
                return None

    def _lost(self, job: _Job) -> None:
        self.process.join()
        how = how_it_ended(self.process)
        if job.failed is not None:
            try:
                raise Terminated(how) if self.terminated else WorkerLostError(
                    f"its process ended: {how}")
            except (Terminated, WorkerLostError):
                job.failed(ExceptionInfo())

    def signal(self, number: int) -> None:
        try:
            signal.pidfd_send_signal(self.process.sentinel, number)
        except ProcessLookupError:
            pass


def _place_of(app: Any) -> tuple[str, str]:
    """The module and the name by which a process finds the application."""
    for module, loaded in list(sys.modules.items()):
        if module not in ("__main__", "__mp_main__") and not module.startswith("celery."):
            for name, value in list(getattr(loaded, "__dict__", {}).items()):
                if value is app:
                    return module, name
    raise RuntimeError("this pool finds the application by the name of a variable of a module, "
                       "and it has none: name it in the module that -A names")


class TaskPool(BasePool):
    """Of --pool custom."""

    body_can_be_buffer = False
    signal_safe = False

    def on_start(self) -> None:
        app: Any = self.app
        app.loader.import_default_modules()
        self.place = _place_of(app)
        self.hostname = str(self.options.get("initargs", (None, ""))[1] or "")
        modules = {self.place[0], *(type(task).__module__ for task in app.tasks.values())}
        preload = sorted(m for m in modules if m != "__main__" and not m.startswith("celery."))
        self.context = get_context(preload=[*_PRELOAD, *preload])
        self.context.start()
        self.stopping = False
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self.seats_by_pid: dict[int, _Seat] = {}
        self.seats = [_Seat(self) for _ in range(self.limit)]

    def on_apply(self, target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> _Job:
        for limit in ("soft_timeout", "timeout"):
            options[limit] = options.get(limit) or self.options.get(limit)
        job = _Job(target, args or (), kwargs or {}, options)
        self.jobs.put(job)
        return job

    def on_stop(self) -> None:
        """Those that work finish; what has not begun is the broker's again."""
        self.stopping = True
        try:
            while True:
                self.jobs.get_nowait()
        except queue.Empty:
            pass
        for _ in self.seats:
            self.jobs.put(None)
        for seat in self.seats:
            seat.thread.join()

    def on_terminate(self) -> None:
        for seat in self.seats:
            if seat.process is not None:
                seat.process.kill()

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        seat = self.seats_by_pid.get(pid)
        if seat is not None:
            seat.terminated = True
            seat.signal(signal or 15)

    def grow(self, n: int = 1) -> None:
        self.limit += n
        self.seats += [_Seat(self) for _ in range(n)]

    def shrink(self, n: int = 1) -> None:
        """The next that are free end."""
        self.limit -= n
        for _ in range(n):
            self.jobs.put(None)

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        return info | {"processes": sorted(self.seats_by_pid)}
