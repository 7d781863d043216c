"""The exceptions of cleanfork."""

from __future__ import annotations

__all__ = ["SpawnError", "StatusUnknown"]


class SpawnError(OSError):
    """A request failed: at which step, with which errno, because of which object.

    The steps are in docs/errors.md. ``errno`` and ``strerror`` are those of OSError.
    """

    step: str
    object: str
    detail: str

    def __init__(self, number: int, message: str, step: str = "none",
                 object: str = "", detail: str = "") -> None:
        super().__init__(number, message)
        self.step = step
        self.object = object
        self.detail = detail

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[type[SpawnError], tuple[int | None, str | None, str, str, str]]:
        return type(self), (self.errno, self.strerror, self.step, self.object, self.detail)


class StatusUnknown(RuntimeError):
    """A child has ended, and nobody can know how: its status was lost with the forkserver,
    or the forkserver was lost on a kernel before 6.15.

    It is raised in place of a return code that would be made up.
    """

    pid: int
    why: str

    def __init__(self, pid: int, why: str) -> None:
        super().__init__(pid, why)
        self.pid = pid
        self.why = why

    def __str__(self) -> str:
        return f"the status of process {self.pid} is unknown: {self.why}"

    def again(self) -> StatusUnknown:
        """A new one to raise: with a traceback, a kept one would keep what its frames hold."""
        return StatusUnknown(self.pid, self.why)
