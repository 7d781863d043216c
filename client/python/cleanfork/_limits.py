"""When the workers of prefork.Supervisor are replaced."""

from __future__ import annotations

import math
import os
import random
from typing import NamedTuple

__all__ = ["Limits", "memory_of"]


class Limits(NamedTuple):
    """When a worker is replaced. None: never for that reason.

    The next one is started first; the old one drains once that serves.
    """

    # So many Worker.served(), and up to `requests_jitter` more, drawn anew for each worker,
    # so that they are not replaced all at once.
    requests: int | None = None
    requests_jitter: int = 0
    # Seconds that it has served.
    age: float | None = None
    age_jitter: float = 0.0
    # Bytes, looked at every `memory_every` seconds: resident, which counts the pages that it
    # shares with the template too; or proportional, which counts those in parts, and for which
    # the kernel walks the page tables.
    rss: int | None = None
    pss: int | None = None
    memory_every: float = 5.0
    # Seconds without a sign of life, after which it is ended at once, by SIGABRT, which has
    # its threads' stacks written to standard error. Worker.wait(), served() and alive() give one.
    hang: float | None = None

    def check(self) -> None:
        for name, value in self._asdict().items():
            if value is not None and not (value >= 0 if name.endswith("jitter") else value > 0):
                raise ValueError(f"Limits({name}={value!r}): it must be positive")
        self.memory_is_over(os.getpid())

    def draw_requests(self) -> float:
        if self.requests is None:
            return math.inf
        return self.requests + random.randint(0, self.requests_jitter)

    def draw_age(self) -> float | None:
        return None if self.age is None else self.age + random.uniform(0, self.age_jitter)

    def memory_is_over(self, pid: int) -> str:
        """What is more than it may be; empty: nothing, also when the process has ended."""
        for name, limit, key in (("rss", self.rss, "Rss:"), ("pss", self.pss, "Pss:")):
            now = 0 if limit is None else memory_of(pid, key)
            if limit is not None and now > limit:
                return f"{name} of {now} bytes, more than {limit}"
        return ""


def memory_of(pid: int, key: str) -> int:
    try:
        with open(f"/proc/{pid}/{'statm' if key == 'Rss:' else 'smaps_rollup'}") as file:
            if key == "Rss:":
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))
    except (ProcessLookupError, StopIteration):  # it has ended
        return 0
    except FileNotFoundError:
        if os.path.exists("/proc/self"):
            return 0
        raise OSError("there is no /proc to see the memory of workers in") from None
