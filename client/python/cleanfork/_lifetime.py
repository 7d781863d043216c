"""What becomes of a child when the session that asked for it ends."""

from __future__ import annotations

import signal as _signal

from cleanfork._cleanfork import DEFAULT_GRACE

__all__ = ["Lifetime", "KEEP"]


class Lifetime:
    """Kept, or ended: ``signal``, after ``grace`` seconds SIGKILL, to ``target``.

    ``target``: "process"; "group", its process group; "cgroup", all in its cgroup; or "tree", it
    and all its descendants, also those in other sessions or whose parent has ended.
    """

    __slots__ = ("keep", "signal", "grace", "target")

    def __init__(self, keep: bool = False, signal: int = _signal.SIGTERM,
                 grace: float = DEFAULT_GRACE, target: str = "process") -> None:
        self.keep = keep
        self.signal = signal
        self.grace = grace
        self.target = target

    def __repr__(self) -> str:
        if self.keep:
            return "Lifetime(keep=True)"
        return f"Lifetime(signal={self.signal!r}, grace={self.grace!r}, target={self.target!r})"


KEEP = Lifetime(keep=True)
