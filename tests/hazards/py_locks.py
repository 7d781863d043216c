"""Group 3 in Python: locks that are copied locked, and whose owner is not."""

import logging
import logging.handlers
import os
import queue
import sys
import threading
import time

from py_support import Busy, case, main

# ---- a lock of the program

lock = threading.Lock()


def use_lock():
    with lock:
        pass


def hold_lock():
    with lock:
        time.sleep(0.0002)
    time.sleep(0.0002)


@case(3, "py-lock", "a threading.Lock, held by a busy thread", 100, 200)
def by_lock(scene):
    with Busy(1, hold_lock):
        scene.all(use_lock)


# ---- logging

log = logging.getLogger("hazards")
log.propagate = False
log.setLevel(logging.INFO)


class Slow(logging.Handler):
    """A handler that writes, and takes a moment for it."""

    def emit(self, record):
        time.sleep(0.0002)


def to_handler():
    if not log.handlers:
        log.addHandler(Slow())


def log_from_child(prepare):
    prepare()
    log.info("child")


def log_while_busy(scene, prepare):
    prepare()
    with Busy(4, lambda: log.info("parent")):
        scene.all(log_from_child, prepare)


@case(3, "py-logging", "a logging handler, whose lock is renewed", 100, 200)
def by_handler(scene):
    log_while_busy(scene, to_handler)


class DrainedHandler(logging.handlers.QueueHandler):
    """Drops what is in its queue, as a listener in a thread would take it."""

    def enqueue(self, record):
        super().enqueue(record)
        if self.queue.qsize() > 100:
            self.queue.queue.clear()


def to_drained_queue():
    if not log.handlers:
        log.addHandler(DrainedHandler(queue.Queue()))


@case(3, "py-logging-queue", "a logging QueueHandler", 100, 200)
def by_queue(scene):
    sys.setswitchinterval(1e-5)  # its lock is held for microseconds, hit in days of production
    log_while_busy(scene, to_drained_queue)


# ---- a buffered file

file = None


def write_line():
    global file
    if file is None:
        file = open(os.devnull, "wb")
    file.write(b"x" * 5000)
    file.flush()


@case(3, "py-file", "a buffered file, written by busy threads", 100, 200)
def by_file(scene):
    write_line()
    with Busy(2, write_line):
        scene.all(write_line)


# ---- an at-fork hook


def nothing():
    pass


@case(3, "py-atfork", "an at-fork hook that takes a busy lock", 100, 200)
def by_hook(scene):
    os.register_at_fork(after_in_child=use_lock)
    with Busy(1, hold_lock):
        scene.all(nothing)


if __name__ == "__main__":
    main()
