"""How a process ended, in words."""

from __future__ import annotations

import signal
from typing import Any

from cleanfork._errors import StatusUnknown

__all__ = ["how_it_ended"]


def how_it_ended(process: Any) -> str:
    """Of a process of multiprocessing that has been joined: exactly, and never made up."""
    try:
        code = process.exitcode
    except StatusUnknown as e:
        return f"unknown: {e.why}"
    if code >= 0:
        return f"exited {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
