"""Group 2 in Python: state that is copied, and from then on there twice."""

import itertools
import os
import random
import tempfile
import threading
import time

from py_support import Busy, Damage, bound, case, main

# ---- identifiers and random numbers


class Ids:
    """Unique as long as no two processes share the prefix, which is drawn at the first use."""

    def __init__(self):
        self.prefix, self.numbers = os.urandom(8).hex(), itertools.count()

    def next(self):
        return f"{self.prefix}-{next(self.numbers)}"


ids = None


def draw_id():
    global ids
    if ids is None:
        ids = Ids()
    return ids.next()


def draw_numpy():
    import numpy

    return int(numpy.random.randint(1 << 62))


def draw_random():
    return random.getrandbits(62)


def send_ten(connection, draw):
    connection.send([draw() for _ in range(10)])


def both_draw(scene, draw):
    draw()

    def once(_):
        ours, theirs = scene.context.Pipe()
        scene.run(send_ten, theirs, draw)
        theirs.close()
        others = ours.recv() if ours.poll(bound()) else []
        ours.close()
        mine = [draw() for _ in range(10)]
        if len({*others, *mine}) == 20:
            return None
        return Damage("the same", f"{len({*others, *mine})} of 20 differ: the parent's {mine[0]}, "
                                  f"the child's {others[0] if others else 'none'}")

    scene.each(once)


@case(2, "py-ids", "a generator of ids: handed out twice", 20, 100)
def same_ids(scene):
    both_draw(scene, draw_id)


@case(2, "py-random", "random: the same numbers in both", 20, 100)
def same_random(scene):
    both_draw(scene, draw_random)


@case(2, "py-numpy", "numpy.random: the same numbers in both", 10, 50)
def same_numpy(scene):
    both_draw(scene, draw_numpy)


# ---- spans


class SpanQueue:
    """A batch processor as telemetry SDKs have: queue, lock, thread, and a hook for forks."""

    def __init__(self, collector, delay):
        self.collector, self.delay = collector, delay
        self.restart()

    def restart(self):
        self.queue, self.changed, self.stopping = [], threading.Condition(threading.Lock()), False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def end_span(self, name):
        with self.changed:
            self.queue.append(name)
            self.changed.notify_all()

    def force_flush(self):
        with self.changed:
            self.export()

    def wait_until_exported(self, bound):
        with self.changed:
            return self.changed.wait_for(lambda: not self.queue, bound)

    def shutdown(self):
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        self.thread.join()

    def export(self):
        if self.queue:
            with open(self.collector, "a") as file:
                file.write("".join(name + "\n" for name in self.queue))
        self.queue.clear()

    def work(self):
        with self.changed:
            while not self.stopping:
                self.changed.wait_for(lambda: self.stopping or self.queue)
                self.changed.wait_for(lambda: self.stopping, self.delay)
                self.export()
                self.changed.notify_all()
            self.export()  # what came before the end was noticed


spans = None


def spans_of(collector):
    global spans
    if spans is None:
        spans = SpanQueue(collector, 0.005)
    return spans


def end_and_flush(collector):
    spans_of(collector).end_span("child-1")
    spans_of(collector).force_flush()


def end_and_wait(collector):
    spans_of(collector).end_span("child-1")
    spans_of(collector).wait_until_exported(bound(0.5))


def both_export(scene, target):
    def once(_):
        global spans
        with tempfile.NamedTemporaryFile("r") as collector:
            spans = SpanQueue(collector.name, 0.2)
            spans.end_span("parent-1")
            end = scene.run(target, collector.name)
            spans.shutdown()
            spans = None
            content = collector.read()
        for name in ("parent-1", "child-1"):
            times = content.count(name + "\n")
            if times != 1:
                kind = "deadlock" if end.hung else "twice" if times else "never"
                return Damage(kind, f'the child {end}; the collector has "{content}"')
        return None

    scene.each(once)


@case(2, "py-spans-twice", "span queue, child flushes: exported twice", 10, 50)
def spans_twice(scene):
    both_export(scene, end_and_flush)


@case(2, "py-spans-never", "span queue, thread is gone: never exported", 6, 20)
def spans_never(scene):
    both_export(scene, end_and_wait)


@case(2, "py-spans-hook", "span queue with an at-fork hook", 6, 30)
def spans_hook(scene):
    os.register_at_fork(after_in_child=lambda: spans and spans.restart())
    both_export(scene, end_and_wait)


@case(2, "py-spans-dead", "span queue, busy: its lock stays locked", 100, 200)
def spans_deadlock(scene):
    global spans
    spans = SpanQueue(os.devnull, 0.001)
    # An exporter takes its time, with the lock held.
    export = spans.export
    spans.export = lambda: (time.sleep(0.001), export())
    with Busy(2, lambda: (spans.end_span("parent"), time.sleep(0.0001))):
        scene.all(end_and_flush, os.devnull)


if __name__ == "__main__":
    main()
