"""Many children at once: until all are at their first line, and what one has for itself."""

import multiprocessing
import os
import signal
import statistics
import time

CROWD, LOOKED_AT = 1000, 20


def tell_and_stay(told):
    os.write(told.fileno(), b".")
    while True:
        signal.pause()


def private_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Private_")) / 1024


def crowd_of(start_one):
    """CROWD children at once: seconds until all are at their first line; MiB of one.

    start_one(connection) gives the pid of a child, which is killed here and reaped by the caller.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    begin = time.perf_counter()
    pids = [start_one(sender) for _ in range(CROWD)]
    left = CROWD
    while left:
        left -= len(os.read(receiver.fileno(), left))
    took = time.perf_counter() - begin
    memory = statistics.mean(private_mib(pid) for pid in pids[::CROWD // LOOKED_AT])
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    receiver.close()
    sender.close()
    return took, memory


def forked_crowd():
    pids = []

    def start_one(told):
        pid = os.fork()
        if pid == 0:
            tell_and_stay(told)
        pids.append(pid)
        return pid

    found = crowd_of(start_one)
    for pid in pids:
        os.waitpid(pid, 0)
    return found


def started_crowd(ctx):
    children = []

    def start_one(told):
        children.append(ctx.Process(target=tell_and_stay, args=(told,)))
        children[-1].start()
        return children[-1].pid

    found = crowd_of(start_one)
    for child in children:
        child.join()
        child.close()
    return found


def crowd(ctx, goals):
    pairs = [(forked_crowd(), started_crowd(ctx)) for _ in range(3)]
    forked, started = (statistics.median(pair[i][0] for pair in pairs) for i in range(2))
    memory = pairs[-1][1][1]
    print(f"{CROWD} children at once\n"
          f"  os.fork() {forked * 1e3:.0f} ms, cleanfork {started * 1e3:.0f} ms: "
          f"{started / forked:.2f} x; private memory of one {memory:.2f} MiB, "
          f"of a fork {pairs[-1][0][1]:.2f} MiB")
    goals.measured("crowd_numpy", started / forked)
    goals.measured("crowd_numpy_memory", memory)
    return {"os_fork_s": forked, "cleanfork_s": started, "private_mib": memory,
            "os_fork_private_mib": pairs[-1][0][1]}
