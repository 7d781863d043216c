"""A backend of joblib whose workers come from a template.

    import cleanfork.joblib

    with joblib.parallel_config("cleanfork"): ...     # scikit-learn's n_jobs too

It is joblib's own backend "loky", with its workers that stay, its memory maps and its pickler
of closures, and another way to start them: what the program has imported is there.
"""
# mypy: disable-error-code="import, misc"

from __future__ import annotations

import importlib.util
import threading
from typing import Any

import joblib
import joblib.externals.loky.backend.context as _loky
from joblib.parallel import register_parallel_backend
from joblib._parallel_backends import LokyBackend

import cleanfork

__all__ = ["Backend"]

_lock = threading.Lock()


def _limit_threads(most: int) -> None:
    """loky tells that by variables, which libraries of the template have read before."""
    if importlib.util.find_spec("threadpoolctl") is not None:
        import threadpoolctl

        threadpoolctl.threadpool_limits(most)


class Backend(LokyBackend):
    """The backend "cleanfork"."""

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> Any:
        cleanfork.get_context()  # the name is known
        workers = self.effective_n_jobs(n_jobs)
        given = {**getattr(self, "backend_kwargs", {}), **options}  # before joblib 1.5: none
        if "initializer" not in given:
            most = self.inner_max_num_threads or max(joblib.cpu_count() // max(workers, 1), 1)
            options |= {"initializer": _limit_threads, "initargs": (most,)}
        # An executor takes it where it is made; there is no argument for it on the way there.
        with _lock:
            before, _loky._DEFAULT_START_METHOD = _loky._DEFAULT_START_METHOD, "cleanfork"
            try:
                return super().configure(n_jobs, parallel, **options)
            finally:
                _loky._DEFAULT_START_METHOD = before


register_parallel_backend("cleanfork", Backend)
