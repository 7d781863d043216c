"""Celery: a worker with its own pool and with cleanfork.celery:TaskPool."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import told

TITLE = "Celery"
PACKAGES = ["celery"]
METHODS = ["prefork", "cleanfork"]
ROUNDS = 1
LINE = "`CELERY_CUSTOM_WORKER_POOL=cleanfork.celery:TaskPool celery -A app worker --pool custom`"
WHAT = "a worker with 4 processes, until all work: "
DIFFERENT = ("the worker with its connections and threads is not copied; a task whose process dies "
             "fails with how it ended (here: `{cleanfork[lost]}`; prefork: `{prefork[lost]}`). 500 "
             "tasks: {cleanfork[rate]:.0f} each second, prefork {prefork[rate]:.0f}. `time_limit`, "
             "`soft_time_limit`, `revoke(terminate=True)` and `max_tasks_per_child` as with prefork. "
             "The application is the variable of a module; `pool_restart` is not there. A thread "
             "of the worker waits for each process: 4 threads here")
WORKERS = told.scaled(4, 2)
HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT = 60


def worker(directory):
    pool = told.METHOD if told.METHOD == "prefork" else "custom"
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", pool, "--concurrency",
         str(WORKERS), "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel",
         "warning", "--max-tasks-per-child", "1000"], cwd=f"{HERE}/parts",
        env={**os.environ, "CELERY_CUSTOM_WORKER_POOL": "cleanfork.celery:TaskPool"},
        stdout=sys.stderr)


def all_at_work(tasks):
    seen = set()
    while len(seen) < WORKERS:
        seen |= {one.get(timeout=TIMEOUT) for one in
                 [tasks.pid_after.delay(0.05) for _ in range(WORKERS * 2)]}
    return seen


def outcome(result):
    try:
        return ["result", result.get(timeout=TIMEOUT)]
    except Exception as e:
        return [type(e).__name__, str(e)]


def failures(tasks):
    """What became of tasks that do not end well, by their kinds; and the text of one that died."""
    raised = outcome(tasks.fails.delay("so"))
    late = outcome(tasks.takes_too_long.delay())[0]
    hung = outcome(tasks.hangs.delay())[0]
    kind, lost = outcome(tasks.dies.delay(signal.SIGKILL))
    return [raised, late, hung, kind, outcome(tasks.double.delay(4))], lost


def revoked(tasks):
    running = tasks.pid_after.delay(120)
    time.sleep(1)  # it is accepted by then, or is not begun: both end as revoked
    running.revoke(terminate=True)
    return outcome(running)[0]


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.environ["ECOSYSTEM_BROKER"] = directory
        for name in ("queue", "control", "results"):
            os.mkdir(os.path.join(directory, name))
        sys.path.insert(0, f"{HERE}/parts")
        import tasks

        begun = time.monotonic()
        process = worker(directory)
        try:
            all_at_work(tasks)
            start = time.monotonic() - begun
            told.up()
            begun = time.monotonic()
            many = [tasks.double.delay(i) for i in range(500)]
            result = [[one.get(timeout=TIMEOUT) for one in many]]
            rate = 500 / (time.monotonic() - begun)
            outcomes, lost = failures(tasks)
            result += [outcomes, revoked(tasks)]
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(TIMEOUT)
    told.done([*result, code], start, rate=rate, lost=lost)


if __name__ == "__main__":
    main()
