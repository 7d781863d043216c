"""joblib, loky and scikit-learn's n_jobs."""

import os
import time

import joblib
import joblib.externals.loky
import loky

import told

if not told.SHORT:
    import sklearn.datasets
    import sklearn.ensemble
    import sklearn.model_selection

TITLE = "joblib, loky, scikit-learn's `n_jobs`"
PACKAGES = ["joblib", "loky", "scikit-learn"]
SHORT_PACKAGES = ["joblib", "loky"]
METHODS = ["loky", "cleanfork"]
ROUNDS = 1
LINE = ("`joblib.parallel_config(\"cleanfork\")` after `import cleanfork.joblib`, also for "
        "scikit-learn; `loky.get_reusable_executor(context=cleanfork.get_context())`")
WHAT = "4 workers, until all answer: "
DIFFERENT = ("what the program has imported, here scikit-learn, is in each worker from its first "
             "moment, and is what the template takes its time for; workers of loky import it when "
             "they first need it. The whole program, with a `GridSearchCV`: "
             "{cleanfork[seconds]:.1f} s, by loky {loky[seconds]:.1f} s. Threads of BLAS and OpenMP "
             "are limited by threadpoolctl, where that is installed, as loky does by variables. "
             "`Parallel(backend=ctx)` is joblib's backend \"multiprocessing\", whose workers last "
             "as long as one `Parallel`")
WORKERS = told.scaled(4, 2)


def work(i):
    return os.getpid(), i * i


def at_work(parallel):
    seen = set()
    while len(seen) < WORKERS:
        seen |= {pid for pid, _ in parallel(joblib.delayed(slow)(i) for i in range(WORKERS * 2))}


def slow(i):
    time.sleep(0.02)  # so that each worker gets one
    return work(i)


def grid():
    """A search of scikit-learn whose candidates are fitted by the workers."""
    x, y = sklearn.datasets.make_classification(600, random_state=3)
    search = sklearn.model_selection.GridSearchCV(
        sklearn.ensemble.RandomForestClassifier(20, random_state=1),
        {"max_depth": [2, 4, 8], "min_samples_leaf": [1, 5]}, cv=3, n_jobs=WORKERS)
    search.fit(x, y)
    return [search.best_params_, search.cv_results_["mean_test_score"].round(9).tolist()]


def by_loky(context):
    with loky.ProcessPoolExecutor(2, context=context) as pool:
        return list(pool.map(abs, range(-20, 0)))


def reused(context):
    pool = loky.get_reusable_executor(2, context=context)
    values = [list(pool.map(abs, range(-9, 0))), list(loky.get_reusable_executor(
        2, context=context).map(abs, range(-9, 0)))]
    pool.shutdown(wait=True)
    return values


def main():
    ours = told.METHOD == "cleanfork"
    context = None
    if ours:
        import cleanfork.joblib  # noqa: F401

        context = told.context()
    begun = time.monotonic()
    with joblib.parallel_config(told.METHOD, n_jobs=WORKERS):
        with joblib.Parallel() as parallel:
            at_work(parallel)
            start = time.monotonic() - begun
            told.up()
            result = [[value for _, value in parallel(joblib.delayed(work)(i)
                                                      for i in range(100))]]
        if not told.SHORT:
            result.append(grid())
    result.append(joblib.Parallel(2, told.METHOD)(
        joblib.delayed(os.getenv)(name) for name in ("PATH", "OMP_NUM_THREADS")))
    result += [by_loky(context), reused(context)]
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    told.done(result, start)


if __name__ == "__main__":
    main()
