"""What a child of a Python template does: become the process that was asked for."""

from __future__ import annotations

import io
import os
import socket
import sys
import traceback
from multiprocessing import forkserver, process, reduction, resource_tracker, spawn
from typing import Any

# Descriptors come by name. These, and the numbers from "0" on of those that the
# process object names; what one request cannot carry comes over a socket.
PARENT, TRACKER, SESSION, MORE = "parent", "tracker", "session", "more"
FDS_AT_ONCE = 40
FDS_PER_MESSAGE = 200


def send_more(fds: list[int]) -> socket.socket:
    """The end for the child of a socket that holds copies of `fds`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        for at in range(0, len(fds), FDS_PER_MESSAGE):
            socket.send_fds(ours, [b"x"], fds[at : at + FDS_PER_MESSAGE])
    return theirs


def _receive_more(fd: int) -> list[int]:
    received: list[int] = []
    with socket.socket(fileno=fd) as theirs:
        while True:
            data, fds, _, _ = socket.recv_fds(theirs, 1, FDS_PER_MESSAGE)
            if not data:
                return received
            received += fds


def _take_descriptors(descriptors: dict[str, int]) -> int:
    from cleanfork import _server

    inherited = [descriptors[str(i)] for i in range(FDS_AT_ONCE) if str(i) in descriptors]
    if MORE in descriptors:
        inherited += _receive_more(descriptors[MORE])
    for fd in (*inherited, *descriptors.values()):
        if fd > 2 and fd != descriptors.get(MORE):
            os.set_inheritable(fd, False)
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    server._inherited_fds = inherited
    tracker: Any = resource_tracker._resource_tracker  # type: ignore[attr-defined]
    tracker._fd = descriptors[TRACKER]
    _server.inherit(descriptors[SESSION])
    return descriptors[PARENT]


def _apply(extra: dict[str, Any]) -> None:
    if extra.get("faulthandler"):
        import faulthandler

        faulthandler.enable()
    if extra.get("warnings") is not None:
        import warnings

        warnings.filters[:] = extra["warnings"]
        warnings._filters_mutated()  # type: ignore[attr-defined]


def run(payload: memoryview, descriptors: dict[str, int]) -> int:
    try:
        sentinel = _take_descriptors(descriptors)
        current: Any = process.current_process()
        source = io.BytesIO(payload)
        current._inheriting = True
        try:
            spawn.prepare(reduction.pickle.load(source))
            extra = reduction.pickle.load(source)
            _apply(extra)
            made = reduction.pickle.load(source)
        finally:
            del current._inheriting
        if extra.get("child_hook") is not None:
            extra["child_hook"](made)
        return int(made._bootstrap(sentinel))
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return 1
