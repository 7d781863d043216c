"""Programs that gevent or eventlet have patched: a wait in the library stops all their greenlets."""

from __future__ import annotations

import os
import select
import sys
from _thread import get_native_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The name, the module that knows what is patched, its function, a call in a thread.
_KINDS = (
    ("gevent", "gevent.monkey", "is_module_patched", "gevent.get_hub().threadpool.apply(run, (...))"),
    ("eventlet", "eventlet.patcher", "is_monkey_patched", "eventlet.tpool.execute(run, ...)"),
)


def _patched() -> tuple[str, str] | None:
    for name, module, function, call in _KINDS:
        patcher = sys.modules.get(module)
        if patcher is not None and getattr(patcher, function)("select"):
            return name, call
    return None


def refusal() -> str | None:
    """What to say to one who would start a program here, and wait for it."""
    found = _patched()
    if found is None or get_native_id() != os.getpid():
        return None
    name, call = found
    return (f"this program is patched by {name}, whose greenlets would all stop while this one waits: "
            f"import cleanfork.subprocess before it is patched, and call it in a thread, as with {call}; "
            f"or use the subprocess module of {name}")


def wait(fd: int, seconds: float) -> bool:
    """Lets other greenlets run until `fd` is readable; false at once when there are none."""
    if _patched() is None:
        return False
    if not hasattr(select, "poll"):
        select.select([fd], [], [], seconds)
        return True
    poller: Any = select.poll()
    poller.register(fd, select.POLLIN)
    poller.poll(seconds * 1000)
    return True
