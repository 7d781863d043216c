"""How long a test waits for an event before it says that something hangs.

A limit is there to end a hang and for nothing else: it is ten times what is usual or more,
times how much slower than usual this machine is. `./dev test` measures that once, with this
file as a program, and exports it; by hand, without the variable, the machine is as usual.
patience.hpp is the same for C++.
"""

import mmap
import os
import statistics
import sys
import time

VARIABLE = "CLEANFORK_TEST_SLOWNESS"
REFERENCE = 0.040  # seconds that work() takes on the machine that the limits are for
ROUNDS, PROCESSES = 5, 20


def slowness():
    """How many times slower than usual this machine was found to be; at least 1."""
    try:
        return max(1.0, float(os.environ.get(VARIABLE, "1")))
    except ValueError:
        return 1.0


def scaled(seconds):
    return seconds * slowness()


PATIENCE = scaled(60)  # seconds: longer than any event of a test may take


def work():
    """What the tests make a machine do: fresh pages, processes and programs."""
    size = 4 << 20
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages.write(bytes(size))
        for _ in range(PROCESSES):
            if (pid := os.fork()) == 0:
                for at in range(0, size, mmap.PAGESIZE):
                    pages[at] = 1  # copied: it was its parent's
                os._exit(0)
            os.waitpid(pid, 0)
    for _ in range(PROCESSES):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)


def seconds_of(function):
    begin = time.monotonic()
    function()
    return time.monotonic() - begin


if __name__ == "__main__":
    took = statistics.median(seconds_of(work) for _ in range(ROUNDS))
    print(f"{max(1.0, took / REFERENCE):.1f}")
    if "-v" in sys.argv:
        print(f"{took * 1000:.1f} ms for {REFERENCE * 1000:.0f}", file=sys.stderr)
