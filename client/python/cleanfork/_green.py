"""Programs that gevent or eventlet has patched: a wait of the library would stop all their greenlets.

So where it is known beforehand what a wait is for, a descriptor, the program's own select is asked
first: it lets the others run.
"""

from __future__ import annotations

import os
import select
import sys
from _thread import get_native_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

# The module that knows what is patched, and its function.
_KINDS = (("gevent.monkey", "is_module_patched"), ("eventlet.patcher", "is_monkey_patched"))


def _is_patched() -> bool:
    for module, function in _KINDS:
        patcher = sys.modules.get(module)
        if patcher is not None and getattr(patcher, function)("select"):
            return True
    return False


def are_here() -> bool:
    """Whether greenlets would stop while this thread waits: real threads may do that."""
    return _is_patched() and get_native_id() == os.getpid()


def wait(fd: int, seconds: float) -> bool:
    """Lets other greenlets run until `fd` is readable; false at once when there are none."""
    if not _is_patched():
        return False
    if not hasattr(select, "poll"):
        select.select([fd], [], [], seconds)
        return True
    poller: Any = select.poll()
    poller.register(fd, select.POLLIN)
    poller.poll(seconds * 1000)
    return True


def unpatched_subprocess() -> ModuleType:
    """The standard module; a copy of it, with the same exceptions, where gevent or eventlet has put
    other classes and functions into it."""
    import subprocess

    if subprocess.Popen.__module__ == "subprocess":
        return subprocess
    from importlib.util import find_spec, module_from_spec

    spec = find_spec("subprocess")
    assert spec is not None and spec.loader is not None
    copy = module_from_spec(spec)
    spec.loader.exec_module(copy)
    for name in ("CalledProcessError", "CompletedProcess", "SubprocessError", "TimeoutExpired"):
        setattr(copy, name, getattr(subprocess, name))
    return copy
