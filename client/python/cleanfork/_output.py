"""Output of a child to files of a bounded size."""

from __future__ import annotations

from os import PathLike

__all__ = ["RotatedFile"]


class RotatedFile:
    """For ``stdout`` and ``stderr``: appended to ``path``, which is at most ``size`` bytes long.

    Then it becomes ``path.1``, that before it ``path.2``, up to ``path.count``. A process of the
    forkserver's writes it, and ends when nobody can write any more: see cleanfork(1).
    """

    __slots__ = ("path", "size", "count")

    def __init__(self, path: str | bytes | PathLike[str] | PathLike[bytes],
                 size: int = 10 * 1024 * 1024, count: int = 5) -> None:
        self.path = path
        self.size = size
        self.count = count

    def __repr__(self) -> str:
        return f"RotatedFile({self.path!r}, size={self.size!r}, count={self.count!r})"
