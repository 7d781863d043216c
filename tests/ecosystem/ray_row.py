"""Ray: processes of an actor, which has threads and gRPC."""

import concurrent.futures
import os
import tempfile
import time

import ray

import told

TITLE = "Ray: processes of tasks and actors"
PACKAGES = ["ray"]
METHODS = ["spawn", "cleanfork"]
ROUNDS = 1
LINE = "in a task or an actor: `ProcessPoolExecutor(mp_context=cleanfork.get_context())`"
WHAT = "a pool of 2 in an actor, to its first result: "
DIFFERENT = ("a second pool of the same actor: {cleanfork[again]:.2f} s, spawn "
             "{spawn[again]:.2f} s. Each process has Ray's default_worker.py for "
             "its main module, whose imports the template does once. The workers of Ray themselves "
             "are started by the raylet, in C++, which would have to ask a forkserver: "
             "`WorkerPool::StartProcess()` of src/ray/raylet/worker_pool.cc; no configuration "
             "reaches it")


def pool_of(method):
    """Seconds and results of a new pool."""
    import multiprocessing

    import cleanfork

    context = (cleanfork.get_context() if method == "cleanfork"
               else multiprocessing.get_context(method))
    begun = time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        results = list(pool.map(abs, range(-100, 0)))
    return time.monotonic() - begun, results


@ray.remote
class Actor:
    def pool(self, method):
        return pool_of(method)


def main():
    # Ray gives its workers nice 15, which on a busy machine says nothing of a method.
    os.environ["RAY_worker_niceness"] = "0"
    # Where it leaves its logs; the paths of its sockets have to be short.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r", ignore_cleanup_errors=True) as place:
        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", _temp_dir=place)
        try:
            actor = Actor.remote()
            start, result = ray.get(actor.pool.remote(told.METHOD), timeout=300)
            told.up()
            again, same = ray.get(actor.pool.remote(told.METHOD), timeout=300)
        finally:
            ray.shutdown()
    told.done([result, same], start, again=again)


if __name__ == "__main__":
    main()
