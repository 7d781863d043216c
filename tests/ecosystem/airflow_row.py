"""Airflow: the workers of the scheduler's LocalExecutor, by [core] mp_start_method."""

import os
import sys
import tempfile
import time

import told

TITLE = "Airflow: LocalExecutor of the scheduler"
PACKAGES = ["apache-airflow"]
METHODS = ["fork", "forkserver", "cleanfork"]
ROUNDS = 1
LINE = ("`[core] mp_start_method = forkserver`, `mp_forkserver_preload = "
        "airflow.executors.local_executor`, and `python3 -m cleanfork -m airflow scheduler`")
WHAT = "4 workers, start to end, when the forkserver is there: "
DIFFERENT = ("run here: the executor with its workers, without tasks. The name \"cleanfork\" itself is "
             "refused, since `set_component_mp_start_method()` asks `get_all_start_methods()`; "
             "airflow/utils/process_utils.py would have to ask `get_context()`. Each task is an "
             "`os.fork()` of its worker, which the setting does not concern: "
             "`WatchedSubprocess.start()` of airflow/sdk/execution_time/supervisor.py. `setproctitle`, by "
             "which Airflow names its workers, has no effect in a process of a template")
WORKERS = 4
QUIET = 1.0  # seconds


def main():
    method = "forkserver" if told.METHOD == "cleanfork" else told.METHOD
    if told.METHOD == "cleanfork":
        import cleanfork

        cleanfork.install()  # what python3 -m cleanfork does first
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(AIRFLOW_HOME=home, AIRFLOW__CORE__MP_START_METHOD=method,
                          AIRFLOW__CORE__MP_FORKSERVER_PRELOAD="airflow.executors.local_executor",
                          AIRFLOW__CORE__LOAD_EXAMPLES="False",
                          AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR")
        sys.stdout, out = sys.stderr, sys.stdout  # where it logs
        from airflow.executors.local_executor import LocalExecutor
        from airflow.utils.process_utils import set_component_mp_start_method

        set_component_mp_start_method("scheduler")
        executor = LocalExecutor(parallelism=WORKERS)
        executor.start()
        while len(executor.workers) < WORKERS:
            executor._spawn_worker()
        workers = list(executor.workers.values())
        wait_until_idle(workers)
        sys.stdout = out
        told.up()
        sys.stdout = sys.stderr
        end(executor, workers)
        begun = time.monotonic()
        again = LocalExecutor(parallelism=WORKERS)
        again.start()
        while len(again.workers) < WORKERS:
            again._spawn_worker()
        end(again, list(again.workers.values()))
        start = time.monotonic() - begun
        sys.stdout = out
        told.done([worker.exitcode for worker in workers], start)


def end(executor, workers):
    """A pill for each, which it takes once it is up."""
    for _ in workers:
        executor.activity_queue.put(None)
    for worker in workers:
        worker.join()


def wait_until_idle(workers):
    """Each has used no processor for a while: it waits for work."""
    for worker in workers:
        used, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET:
            assert worker.is_alive()
            now = time_of(worker.pid)
            if now != used:
                used, since = now, time.monotonic()
            time.sleep(0.02)


def time_of(pid):
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0])


if __name__ == "__main__":
    main()
