"""Libraries that take a context of multiprocessing: their processes are ours."""

import importlib.util
import unittest

from mp_support import Programs

BEGIN = """
    import os, sys
    import cleanfork
    ctx = cleanfork.get_context()
    def work(x):
        return x * x, os.getpid()
    def template():
        [name] = [t["name"] for t in cleanfork.client().templates()]
        return cleanfork.client().template_info(name)
    def told(results):
        "What came back, and whether others than this process made it."
        values, pids = zip(*results)
        return sum(values), os.getpid() not in pids, template()["calls_total"] >= len(set(pids))
"""


def needs(module):
    return unittest.skipUnless(importlib.util.find_spec(module), f"{module} is not installed")


class Libraries(Programs):
    @needs("joblib")
    def test_joblib(self):
        self.prints(BEGIN + """
    if __name__ == "__main__":
        from joblib import Parallel, delayed
        print(*told(Parallel(n_jobs=2, backend=ctx)(delayed(work)(i) for i in range(10))))
        """, "285 True True")

    @needs("joblib")
    def test_loky(self):
        self.prints(BEGIN + """
    if __name__ == "__main__":
        from joblib.externals.loky import ProcessPoolExecutor
        with ProcessPoolExecutor(2, context=ctx) as executor:
            print(*told(executor.map(work, range(10))))
        """, "285 True True")

    @needs("joblib")
    def test_what_loky_adds_to_the_environment_is_added(self):
        self.prints(BEGIN + """
    if __name__ == "__main__":
        from joblib.externals.loky import ProcessPoolExecutor
        with ProcessPoolExecutor(2, context=ctx, env={"ADDED": "1"}) as executor:
            print(*executor.map(os.getenv, ["ADDED", "GIVEN"]))
        """, "1 2", env={"GIVEN": "2"})

    @needs("joblib")
    def test_joblib_takes_the_backend_by_its_name(self):
        self.prints(BEGIN + """
    import cleanfork.joblib
    import joblib
    if __name__ == "__main__":
        def closure(x):
            return work(x + offset)
        offset = 0
        with joblib.parallel_config("cleanfork", n_jobs=2) if hasattr(
                joblib, "parallel_config") else joblib.parallel_backend("cleanfork", n_jobs=2):
            print(*told(joblib.Parallel()(joblib.delayed(closure)(i) for i in range(10))))
            print(*joblib.Parallel()(joblib.delayed(os.getenv)("OMP_NUM_THREADS")
                                     for _ in range(2)))
        """, "285 True True 1 1", env={"OMP_NUM_THREADS": "1"})

    @needs("dask")
    def test_dask(self):
        self.prints(BEGIN + """
    if __name__ == "__main__":
        import dask.bag, dask.config
        dask.config.set({"multiprocessing.context": "cleanfork"})
        bag = dask.bag.from_sequence(range(10), npartitions=4).map(work)
        print(*told(bag.compute(scheduler="processes")))
        """, "285 True True")

    @needs("torch")
    def test_data_loader(self):
        self.prints(BEGIN + """
    class Numbers:
        def __len__(self):
            return 10
        def __getitem__(self, i):
            return work(i)
    if __name__ == "__main__":
        from torch.utils.data import DataLoader
        loader = DataLoader(Numbers(), batch_size=None, num_workers=2,
                            multiprocessing_context=ctx)
        print(*told(loader))
        """, "285 True True")


if __name__ == "__main__":
    unittest.main()
