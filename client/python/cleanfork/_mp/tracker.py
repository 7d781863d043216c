"""The resource tracker of multiprocessing, started so that a signal handler may need it too.

The standard module starts it, and asks whether it lives, inside of a lock. Python runs signal
handlers in the main thread, between any two steps: one that starts a process, or makes a lock,
would wait for ever for what its own thread holds (up to 3.11), or get an exception.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from multiprocessing import resource_tracker
from typing import Any

from cleanfork import _compat

_Tracker: Any = resource_tracker.ResourceTracker
_start: Callable[[Any], None] = _Tracker.ensure_running


def _run(tracker: Any, raised: list[BaseException]) -> None:
    try:
        _start(tracker)
    except BaseException as e:
        raised.append(e)


def _ensure_running(tracker: Any) -> None:
    """Without the lock when it lives; else started by a thread, in which no handler runs."""
    if _compat.tracker_lives(tracker):
        return
    main = threading.main_thread()
    # In use: the standard module tells what is wrong.
    if threading.get_ident() != main.ident or _compat.tracker_is_in_use(tracker):
        return _start(tracker)
    raised: list[BaseException] = []
    starter = threading.Thread(target=_run, args=(tracker, raised), name="cleanfork-tracker")
    try:
        starter.start()
    except RuntimeError:  # no thread begins any more at the end of the interpreter
        return _start(tracker)
    starter.join()
    if raised:
        raise raised[0]


def install() -> None:
    """For locks and queues too, which are usually the first to need it."""
    if _Tracker.ensure_running is _start:
        _Tracker.ensure_running = _ensure_running
        _compat.start_tracker_before_sends()
        resource_tracker.ensure_running = _compat.tracker().ensure_running
