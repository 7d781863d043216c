"""./dev bench: what a process costs in Python, each way taking its turn in one run.

Prints tables, at the end the goals (goals.json), and writes bench-python.json. --quick: a tenth
of the rounds. The parts run in interpreters of their own, so that each has the size that it is
about.
"""

import argparse
import json
import mmap
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

import cleanfork
from python_crowd import crowd
from python_goals import Goals

# The part decides what this script imports, here and in whichever process imports it.
PART = os.environ.get("PYTHON_BENCH_PART", "")
if PART == "numpy":
    import numpy

GIB_4 = 4 << 30
IDLE_CHILDREN = 8
SPAWN_ROUNDS = 4  # one in so many: it is slow
POOL = 4
MANY, MANY_AT_A_TIME = 128, 19


# ---- what children do


def nothing():
    pass


def use_numpy():
    assert numpy.arange(100).sum() == 4950


def take(payload):
    assert payload


def tell_time(path):
    now = time.monotonic_ns()
    with open(path, "w") as f:
        f.write(str(now))


def idle(end):
    end.poll(None)  # until the other end is closed


def same(value):
    return value


TARGET = use_numpy if PART == "numpy" else nothing


# ---- what is measured: each returns seconds


def clock(function):
    before = time.perf_counter()
    function()
    return time.perf_counter() - before


def fork_and_wait(target):
    pid = os.fork()
    if pid == 0:
        target()
        os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError("fork")


def start_and_join(ctx, target, *args):
    p = ctx.Process(target=target, args=args)
    p.start()
    p.join()
    if p.exitcode != 0:
        raise RuntimeError(f"exit code {p.exitcode}")
    p.close()


def start_alone(ctx, target, *args):
    p = ctx.Process(target=target, args=args)
    took = clock(p.start)
    p.join()
    if p.exitcode != 0:
        raise RuntimeError(f"exit code {p.exitcode}")
    p.close()
    return took


def into_memfd(payload):
    """The least that a start can do which waits for nobody."""
    with open(os.memfd_create("bench"), "wb", buffering=0) as f:
        f.write(payload)


def use_pool_once(ctx):
    with ctx.Pool(POOL) as pool:
        assert pool.map(same, range(POOL)) == list(range(POOL))
        pool.close()
        pool.join()


def many(ctx):
    alive = []
    for _ in range(MANY):
        if len(alive) == MANY_AT_A_TIME:
            alive.pop(0).join()
        alive.append(ctx.Process(target=nothing))
        alive[-1].start()
    for p in alive:
        p.join()


def to_first_line(run, path):
    before = time.monotonic_ns()
    run(path)
    with open(path) as f:
        return (int(f.read()) - before) / 1e9


def fork_and_tell(path):
    fork_and_wait(lambda: tell_time(path))


# ---- turns, tables


def alternate(contenders, rounds):
    """(name, function that returns seconds[, every so many rounds]): a turn each.

    In another order each round: one leaves the processor's caches to the next.
    """
    times = {name: [] for name, *_ in contenders}
    order = list(contenders)
    for turn in range(-2, rounds):  # the first two warm everything up
        random.shuffle(order)
        for name, function, *every in order:
            if turn % (every[0] if every else 1) == 0 or turn < 0:
                took = function()
                if turn >= 0:
                    times[name].append(took)
    return times


def rows(title, times, bases):
    print(title)
    medians = {name: statistics.median(values) for name, values in times.items()}
    found = []
    for name, values in times.items():
        ratios = {base: medians[name] / medians[base] for base in bases}
        late = sorted(values)
        p99, p999 = (late[int(q * (len(late) - 1))] for q in (0.99, 0.999))
        found.append({"contender": name, "median_ms": medians[name] * 1e3,
                      "p99_ms": p99 * 1e3, "p999_ms": p999 * 1e3,
                      "runs": len(values), "ratios": ratios})
        told = "  ".join(f"{ratio:6.2f} x {base}" for base, ratio in ratios.items())
        print(f"  {name:34s} {medians[name] * 1e3:9.2f} ms   p99 {p99 * 1e3:9.2f}"
              f"   p99.9 {p999 * 1e3:9.2f}   {told}", flush=True)
    return found


def ratio(found, contender, base):
    return next(row["ratios"][base] for row in found if row["contender"] == contender)


def contexts():
    """The stock methods, and cleanfork's without and with processes forked ahead."""
    preload = ["__main__", "numpy"] if PART == "numpy" else ["__main__"]
    stock = multiprocessing.get_context("forkserver")
    stock.set_forkserver_preload(preload)
    return {"stock fork": multiprocessing.get_context("fork"),
            "stock forkserver": stock,
            "stock spawn": multiprocessing.get_context("spawn"),
            "cleanfork": cleanfork.get_context(preload=preload),
            "cleanfork, warm=0": cleanfork.get_context(preload=preload, warm=0)}


def pss_of(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def idle_memory(ctx):
    """KiB for each of some children that wait."""
    receiver, sender = ctx.Pipe(duplex=False)
    children = [ctx.Process(target=idle, args=(receiver,)) for _ in range(IDLE_CHILDREN)]
    for child in children:
        child.start()
    time.sleep(0.5)  # until they wait; there is no event for having gone to sleep
    pss = statistics.mean(pss_of(child.pid) for child in children)
    sender.close()
    for child in children:
        child.join()
    receiver.close()
    return pss


def faults_of_fork():
    pid = os.fork()
    if pid == 0:
        TARGET()
        os._exit(0)
    return os.wait4(pid, 0)[2].ru_minflt


def faults_of(ctx):
    p = ctx.Process(target=TARGET)
    p.start()
    p.join()
    return p._popen.rusage.ru_minflt


def rates(all_of, rounds, goals):
    out = {}
    for name, run in (("pool", use_pool_once), ("many", many)):
        turns = [(of, lambda ctx=all_of[of], run=run: clock(lambda: run(ctx)))
                 for of in ("stock fork", "stock forkserver", "cleanfork")]
        out[name] = rows(f"{name}: {run.__name__}, {PART}",
                         alternate(turns, max(rounds // 10, 3)),
                         ("stock fork", "stock forkserver"))
        for base in ("fork", "forkserver"):
            goals.measured(f"{name}_{base}", 1 / ratio(out[name], "cleanfork", f"stock {base}"))
    return out


def page_faults(all_of):
    """Of a child that does next to nothing, to its end: exact, whatever else the machine does."""
    found = {"os.fork()": statistics.median(faults_of_fork() for _ in range(20))}
    for name in ("cleanfork", "cleanfork, warm=0"):
        found[name] = statistics.median(faults_of(all_of[name]) for _ in range(20))
    print(f"page faults of a child, {PART}")
    for name, value in found.items():
        print(f"  {name:34s} {value:9.0f}   {value / found['os.fork()']:6.2f} x os.fork()")
    return found


# ---- parts


def part_of_size(rounds, goals):
    all_of = contexts()
    bare = "os.fork() + wait"
    out = {}
    turns = [(bare, lambda: clock(lambda: fork_and_wait(TARGET)))]
    for name, ctx in all_of.items():
        turns.append((name, lambda ctx=ctx: clock(lambda: start_and_join(ctx, TARGET)),
                      SPAWN_ROUNDS if name == "stock spawn" else 1))
    out["start_and_join"] = rows(f"start() + join(), {PART}", alternate(turns, rounds),
                                 (bare, "stock forkserver"))
    goals.measured(f"{PART}_start_join", ratio(out["start_and_join"], "cleanfork", bare))
    goals.measured(f"{PART}_start_join_stock",
                   ratio(out["start_and_join"], "cleanfork", "stock forkserver"))
    goals.measured(f"{PART}_cold", ratio(out["start_and_join"], "cleanfork, warm=0", bare))

    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "time")
        turns = [(bare, lambda: clock(lambda: fork_and_wait(TARGET))),
                 ("os.fork() to the first line", lambda: to_first_line(fork_and_tell, path))]
        for name in ("stock fork", "stock forkserver", "cleanfork", "cleanfork, warm=0"):
            def run(path, ctx=all_of[name]):
                start_and_join(ctx, tell_time, path)

            turns.append((name, lambda run=run: to_first_line(run, path)))
        out["first_line"] = rows(f"start() to the target's first line, {PART}",
                                 alternate(turns, rounds), (bare, "os.fork() to the first line"))
    goals.measured(f"{PART}_first_line", ratio(out["first_line"], "cleanfork", bare))

    turns = [(bare, lambda: clock(lambda: fork_and_wait(TARGET)))]
    for size, label in ((0, "none"), (1 << 10, "1 KB"), (10 << 20, "10 MB")):
        arguments = (os.urandom(size),) if size else ()
        target = take if size else nothing
        for name in ("stock forkserver", "cleanfork", "cleanfork, warm=0"):
            turns.append((f"{name}, {label}",
                          lambda ctx=all_of[name], target=target, arguments=arguments:
                          start_alone(ctx, target, *arguments),
                          4 if size > 1 << 20 else 1))
    turns.append(("10 MB into a memfd", lambda: clock(lambda: into_memfd(arguments[0]))))
    out["start"] = rows(f"start() alone, by payload, {PART}", alternate(turns, rounds),
                        ("cleanfork, none", bare))
    goals.measured(f"{PART}_start", ratio(out["start"], "cleanfork, none", bare))

    pss = {name: idle_memory(all_of[name]) for name in ("stock forkserver", "cleanfork")}
    print(f"PSS of an idle child, {PART}")
    for name, value in pss.items():
        print(f"  {name:34s} {value:9.0f} KiB   {value / pss['stock forkserver']:6.2f} x stock forkserver")
    out["idle_pss_kib"] = pss
    out["page_faults"] = page_faults(all_of)
    if PART == "small":
        out["rates"] = rates(all_of, rounds, goals)
    else:
        out["crowd"] = crowd(all_of["cleanfork"], goals)
    return out


def part_large(rounds):
    ctx = cleanfork.get_context(preload=["__main__"])
    times = {"parent as it is": [], "parent with 4 GiB touched": [],
             "the same, stock fork": []}
    fork = multiprocessing.get_context("fork")
    for _ in range(3):
        for name in tuple(times)[:2]:
            heap = None
            if "4 GiB" in name:
                heap = mmap.mmap(-1, GIB_4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                heap.madvise(mmap.MADV_NOHUGEPAGE)
                for at in range(0, GIB_4, mmap.PAGESIZE):
                    heap[at] = 1
            for turn in range(rounds // 3):
                took = clock(lambda: start_and_join(ctx, nothing))
                if turn >= 2:
                    times[name].append(took)
            if heap is not None:
                times["the same, stock fork"] += [clock(lambda: start_and_join(fork, nothing))
                                                  for _ in range(3)]
                heap.close()
    return rows("start() + join() of cleanfork", times, ("parent as it is",))


def run_part(name, rounds):
    command = [sys.executable, os.path.abspath(__file__), "--rounds", str(rounds), "--part"]
    with tempfile.NamedTemporaryFile("r") as out:
        subprocess.run([*command, out.name], check=True,
                       # The forks compared with resolve no function anew: a template does not.
                       env={**os.environ, "PYTHON_BENCH_PART": name, "LD_BIND_NOW": "1"})
        return json.load(out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--part", metavar="FILE", help="of the environment; results into FILE")
    parser.add_argument("--only", choices=("small", "numpy", "large"))
    chosen = parser.parse_args()
    rounds = chosen.rounds // 10 if chosen.quick else chosen.rounds
    if chosen.part:
        goals = Goals()
        found = part_large(rounds) if PART == "large" else part_of_size(rounds, goals)
        found = {"figures": found,
                 "goals": {row["id"]: row["value"] for row in goals.rows if "value" in row}}
        with open(chosen.part, "w") as f:
            json.dump(found, f)
        return
    names = (chosen.only,) if chosen.only else ("small", "numpy", "large")
    found = {name: run_part(name, rounds) for name in names}
    results = {name: of_part["figures"] for name, of_part in found.items()}
    goals = Goals()
    for of_part in found.values():
        for name, value in of_part["goals"].items():
            goals.measured(name, value)
    goals.print()
    results["goals"] = goals.rows
    with open("bench-python.json", "w") as f:
        json.dump(results, f, indent=2)
    print("written to bench-python.json")


if __name__ == "__main__":
    main()
