"""Group 7 in Python: the requests of a parent with a big heap, while it starts children."""

import mmap
import socket
import statistics
import subprocess
import threading
import time

from py_support import Damage, case, main

HEAP = 1 << 30
WINDOW = 0.04  # seconds
STARTS = 8  # and the lower quartile of them: heap.cpp says why


class Requests:
    """A thread that answers, a thread that asks, and how long each answer took."""

    def __init__(self):
        self.heap = mmap.mmap(-1, HEAP, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.heap.madvise(15)  # MADV_NOHUGEPAGE: pages as a heap of many objects has them
        for at in range(0, HEAP, mmap.PAGESIZE):
            self.heap[at] = 1
        self.taken, self.lock = [], threading.Lock()
        ours, theirs = socket.socketpair()
        threading.Thread(target=self.serve, args=(theirs,), daemon=True).start()
        threading.Thread(target=self.ask, args=(ours,), daemon=True).start()

    def serve(self, server):
        number = 0
        while request := server.recv(100):
            number += 1
            self.heap[number * 7919 * mmap.PAGESIZE % HEAP] = 2
            server.send(request)

    def ask(self, client):
        while True:
            # From when it is due: a thread that cannot even ask waits, too.
            due = time.monotonic() + 0.0005
            time.sleep(0.0005)
            client.send(b"request")
            client.recv(100)
            with self.lock:
                self.taken.append((due, time.monotonic()))

    def watch(self, what):
        """Milliseconds of the requests from the beginning of `what` until WINDOW after."""
        begin = time.monotonic()
        what()
        time.sleep(max(0, begin + WINDOW - time.monotonic()))
        end = time.monotonic()
        while True:  # the last of them may be under way
            with self.lock:
                if self.taken and self.taken[-1][1] >= end:
                    break
            time.sleep(0.001)
        with self.lock:
            found = [(b - a) * 1e3 for a, b in self.taken if b >= begin and a < end]
            self.taken.clear()
        return found


def nothing():
    pass


def starter(scene):
    if scene.way == "posix_spawn":  # of a program: the standard module cannot do better
        return lambda: subprocess.run(["/bin/true"], check=True)
    return lambda: scene.run(nothing)


@case(7, "py-big-heap", "a Python server of 1 GiB: its requests wait", 3, 8)
def big_heap(scene):
    requests, start, every, quiet = Requests(), starter(scene), [], []

    def once(_):
        worst, worst_quiet = [], []
        for _ in range(STARTS):
            without, at_start = requests.watch(nothing), requests.watch(start)
            worst_quiet.append(max(without))
            worst.append(max(at_start))
            quiet.extend(without)
            every.extend(at_start)
        pause, before = (statistics.quantiles(each, n=4)[0] for each in (worst, worst_quiet))
        scene.figure("worst_request_at_a_start,_ms", pause)
        if pause <= 10 or pause <= 3 * before:
            return None
        return Damage("paused", f"the worst request at a start takes {pause:.1f} ms, "
                                f"{before:.1f} ms without")

    scene.each(once)
    scene.figure("p50_of_requests_at_starts,_ms", statistics.median(every))
    scene.figure("p99_of_requests_at_starts,_ms", statistics.quantiles(every, n=100)[-1])
    scene.figure("p99_of_requests_without,_ms", statistics.quantiles(quiet, n=100)[-1])
    scene.end_here()


if __name__ == "__main__":
    main()
