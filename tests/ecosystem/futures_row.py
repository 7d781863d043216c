"""concurrent.futures, and executors of asyncio, in a program that has numpy loaded."""

import asyncio
import concurrent.futures
import os
import time

import told

TITLE = "concurrent.futures, asyncio executors, aiomultiprocess"
PACKAGES = ["aiomultiprocess", "numpy"]
SHORT_PACKAGES = []
METHODS = ["fork", "spawn", "forkserver", "cleanfork"]
LINE = ("`ProcessPoolExecutor(mp_context=cleanfork.get_context())`; "
        "`aiomultiprocess.set_context(\"cleanfork\")`; unchanged: `python3 -m cleanfork program.py`")
WHAT = "4 workers at work, `import numpy` in the program: "
DIFFERENT = ("a pool of {cleanfork[workers]:.0f} workers that is killed leaves none behind; fork is "
             "unsafe beside the threads that an executor has. All else: "
             "[differences](python.md#processes)")
WORKERS = told.scaled(4, 2)

try:
    import numpy
except ImportError:  # in the short form
    numpy = None


def work(i):
    return os.getpid(), sum(range(i)) if numpy is None else int(numpy.arange(i).sum())


async def coroutine(i):
    return work(i)[1]


async def in_a_loop(pool):
    loop = asyncio.get_running_loop()
    return [value for _, value in
            await asyncio.gather(*(loop.run_in_executor(pool, work, i) for i in range(50)))]


async def by_aiomultiprocess():
    import aiomultiprocess

    aiomultiprocess.set_context(told.METHOD)
    async with aiomultiprocess.Pool(2) as pool:
        return await pool.map(coroutine, range(20))


def all_at_work(pool):
    """Once so many processes have answered."""
    seen = set()
    while len(seen) < WORKERS:
        seen |= {pid for pid, _ in pool.map(work, range(WORKERS * 4))}


def main():
    begun = time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=told.context()) as pool:
        all_at_work(pool)
        start = time.monotonic() - begun
        told.up()
        result = [[value for _, value in pool.map(work, range(100))],
                  asyncio.run(in_a_loop(pool))]
    if not told.SHORT:
        result.append(asyncio.run(by_aiomultiprocess()))
    told.done(result, start, workers=WORKERS)


if __name__ == "__main__":
    main()
