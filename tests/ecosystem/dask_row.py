"""Dask: a LocalCluster whose workers come by the key multiprocessing-method."""

import os
import time

import dask.bag
import dask.config
import dask.distributed

import told

TITLE = "Dask: distributed.LocalCluster, and the scheduler of processes"
PACKAGES = ["dask", "distributed", "numpy"]
METHODS = ["spawn", "forkserver", "cleanfork"]
ROUNDS = 1
LINE = ("`dask.config.set({\"distributed.worker.multiprocessing-method\": \"cleanfork\"})` after "
        "`import cleanfork`, or in the environment after `python3 -m cleanfork enable`: "
        "`DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD=cleanfork`; without distributed "
        "`{\"multiprocessing.context\": \"cleanfork\"}`")
WHAT = "4 workers, until all answer: "
DIFFERENT = ("all workers again by `client.restart()`: {cleanfork[restart]:.2f} s, forkserver "
             "{forkserver[restart]:.2f}, spawn {spawn[restart]:.2f}. With the key alone the template "
             "has what the main module imports; `get_mp_context()` of distributed/utils.py names "
             "its preloads for \"forkserver\" only, and that is where \"cleanfork\" would have to be "
             "added")
WORKERS = told.scaled(4, 2)


def work(i):
    return i * i


def pid(_):
    return os.getpid()


def workers(client):
    client.wait_for_workers(WORKERS, timeout=60)
    return client.run(os.getpid)


def main():
    if told.METHOD == "cleanfork":
        import cleanfork  # noqa: F401
    dask.config.set({"distributed.worker.multiprocessing-method": told.METHOD,
                     "multiprocessing.context": told.METHOD})
    begun = time.monotonic()
    with dask.distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True,
                                       dashboard_address=":0") as cluster:
        with dask.distributed.Client(cluster) as client:
            first = workers(client)
            start = time.monotonic() - begun
            assert len(set(first.values())) == WORKERS
            told.up()
            result = [client.gather(client.map(work, range(500)))]
            begun = time.monotonic()
            client.restart(timeout=60)
            again = workers(client)
            restart = time.monotonic() - begun
            assert not set(again.values()) & set(first.values())
            result.append(client.submit(sum, client.map(work, range(100))).result())
    bag = dask.bag.from_sequence(range(40), npartitions=4).map(work)
    result.append(bag.compute(scheduler="processes"))
    told.done(result, start, restart=restart)


if __name__ == "__main__":
    main()
