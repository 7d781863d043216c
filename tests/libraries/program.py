"""python3 program.py LIBRARY MODE CHILDREN: uses a library in that many children, one after the
other in each of two workers, and prints what came of it as JSON.

MODE is where it is imported: "main" by this module, "preload", or "child" by each of them.
"""

import concurrent.futures
import importlib
import json
import multiprocessing
import os
import sys
import time

WORKERS = 2


def threads():
    return len(os.listdir("/proc/self/task"))


# Each uses its library with threads, where it has them, and says whether the result is right.

def use_numpy(i):
    import numpy

    a = numpy.arange(250_000.0).reshape(500, 500) % 7
    return bool((numpy.dot(a, numpy.eye(500) * i) == a * i).all())


def use_scipy(i):
    import numpy
    import scipy.linalg

    a = numpy.eye(200) * (i + 2) + 1
    return bool(numpy.allclose(scipy.linalg.inv(a) @ a, numpy.eye(200)))


def use_pandas(i):
    import pandas

    frame = pandas.DataFrame({"key": ["a", "b"] * 50_000, "value": range(100_000)})
    return frame.groupby("key")["value"].sum().tolist() == [2_499_950_000, 2_500_000_000]


def use_sklearn(i):
    import numpy
    import sklearn.cluster

    points = numpy.repeat([[0.0, 0.0], [9.0, 9.0]], 500, axis=0)
    found = sklearn.cluster.KMeans(2, n_init=1, random_state=i).fit(points)
    return sorted(found.cluster_centers_[:, 0].round().tolist()) == [0, 9]


def use_torch(i):
    import torch

    a = torch.arange(250_000.0).reshape(500, 500) % 7
    return bool(torch.equal(a @ (torch.eye(500) * i), a * i))


def use_pyarrow(i):
    import pyarrow
    import pyarrow.compute

    table = pyarrow.table({"key": ["a", "b"] * 50_000, "value": list(range(100_000))})
    sums = table.group_by("key", use_threads=True).aggregate([("value", "sum")])
    return sorted(sums["value_sum"].to_pylist()) == [2_499_950_000, 2_500_000_000]


def use_polars(i):
    import polars

    frame = polars.DataFrame({"key": ["a", "b"] * 50_000, "value": range(100_000)})
    sums = frame.lazy().group_by("key").agg(polars.col("value").sum()).collect()
    return sorted(sums["value"].to_list()) == [2_499_950_000, 2_500_000_000]


def use_grpc(i):
    import grpc

    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1])
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"m": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = channel.unary_unary("/s/m")(b"%d-" % i, timeout=60)
    server.stop(None).wait()
    return answer == (b"%d-" % i)[::-1]


def use_cv2(i):
    import cv2
    import numpy

    image = numpy.full((600, 600), i % 200, numpy.uint8)
    return bool((cv2.GaussianBlur(image, (9, 9), 3) == image).all())


def product_numpy():
    import numpy

    a = numpy.ones((1000, 1000))
    return lambda: a @ a


def product_torch():
    import torch

    a = torch.ones(1000, 1000)
    return lambda: a @ a


LIBRARIES = {"numpy": "numpy", "scipy": "scipy.linalg", "pandas": "pandas",
             "scikit-learn": "sklearn.cluster", "torch": "torch", "pyarrow": "pyarrow.compute",
             "polars": "polars", "grpcio": "grpc", "opencv-python-headless": "cv2"}


def function(kind):
    return globals().get(f"{kind}_{LIBRARIES[sys.argv[1]].partition('.')[0]}")


def work(i):
    return os.getpid(), function("use")(i), threads()


def best_of_products():
    """Seconds that a product of two matrices takes, the best of 10."""
    product = function("product")()
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        product()
        times.append(time.perf_counter() - begun)
    return min(times)


if sys.argv[2] == "main":
    importlib.import_module(LIBRARIES[sys.argv[1]])

if __name__ == "__main__":
    import cleanfork

    library, mode, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    context = cleanfork.get_context(preload=[LIBRARIES[library]] if mode == "preload" else [])
    begun = time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(
            WORKERS, mp_context=context, max_tasks_per_child=1) as pool:
        done = list(pool.map(work, range(count), timeout=600))
    told = {"seconds": time.monotonic() - begun, "children": len({pid for pid, _, _ in done}),
            "right": sum(right for _, right, _ in done), "threads": max(n for _, _, n in done)}
    if function("product") is not None:
        # In turns, since the machine has other things to do.
        spawn = multiprocessing.get_context("spawn")
        with (concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as ours,
              concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as fresh):
            pairs = [(ours.submit(best_of_products).result(),
                      fresh.submit(best_of_products).result()) for _ in range(10)]
        told["product"], told["fresh"] = map(min, zip(*pairs))
    print(json.dumps(told))
