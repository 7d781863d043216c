"""What a child of a Python template does: become the process that was asked for."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import traceback
from multiprocessing import forkserver, process, resource_tracker, spawn, util
from typing import Any

from cleanfork._mp import pickling as _mp_pickle

# Descriptors come by name. These, and the numbers from "0" on of those that the
# process object names; what one request cannot carry comes over a socket.
PARENT, TRACKER, SESSION, MORE, CLAIM = "parent", "tracker", "session", "more", "claim"
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


def new_claim() -> int:
    """The one right to run, held by the parent and the child: who takes it decides."""
    system: Any = os
    return int(system.eventfd(1, system.EFD_CLOEXEC | system.EFD_NONBLOCK))


def claimed(fd: int) -> bool:
    """Takes it, and leaves the pid for a parent that was not told it; false when the other has."""
    try:
        os.read(fd, 8)
    except BlockingIOError:
        return False
    os.write(fd, os.getpid().to_bytes(8, sys.byteorder))
    return True


def _take_descriptors(descriptors: dict[str, int]) -> int:
    inherited = [descriptors[str(i)] for i in range(FDS_AT_ONCE) if str(i) in descriptors]
    if MORE in descriptors:
        inherited += _receive_more(descriptors[MORE])
    os.close(descriptors[CLAIM])
    for fd in (*inherited, *descriptors.values()):
        if fd > 2 and fd not in (descriptors.get(MORE), descriptors[CLAIM]):
            os.set_inheritable(fd, False)
    server: Any = forkserver._forkserver
    server._inherited_fds = inherited
    tracker: Any = resource_tracker._resource_tracker
    tracker._fd = descriptors[TRACKER]
    return descriptors[PARENT]


def _apply(extra: dict[str, Any]) -> None:
    from cleanfork._mp import popen as _mp_popen

    _mp_popen.set_options(extra["options"])
    if extra["stdin"]:  # which multiprocessing would replace by /dev/null
        util._close_stdin = lambda: None  # type: ignore[attr-defined]
    if extra["faulthandler"]:
        import faulthandler

        faulthandler.enable()
    elif "faulthandler" in sys.modules:  # by the template's options
        sys.modules["faulthandler"].disable()
    if extra.get("warnings") is not None:
        import warnings

        module: Any = warnings
        module.filters[:] = extra["warnings"]
        module._filters_mutated()


def run(payload: memoryview, descriptors: dict[str, int]) -> int:
    from cleanfork import _server

    try:
        if not claimed(descriptors[CLAIM]):
            return 0
        sentinel = _take_descriptors(descriptors)
        current: Any = process.current_process()
        launched, preparation, extra_options, process_object = _mp_pickle.pickles_of(payload)
        current._inheriting = True
        try:
            _server.inherit(descriptors[SESSION], pickle.loads(launched))
            spawn.prepare(pickle.loads(preparation))
            extra = pickle.loads(extra_options)
            _apply(extra)
            made = pickle.loads(process_object)
        finally:
            del current._inheriting
        if extra.get("child_hook") is not None:
            extra["child_hook"](made)
        return int(made._bootstrap(sentinel))
    except SystemExit as e:
        if e.code is None or isinstance(e.code, int):
            return e.code or 0
        print(e.code, file=sys.stderr, flush=True)
        return 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return 1


def _nothing() -> None:
    pass


def rehearse() -> None:
    """In a child that nobody asked for: what run() does, with a process that does nothing."""
    from types import SimpleNamespace

    from cleanfork import _server
    from cleanfork._mp import popen as _mp_popen
    from cleanfork.multiprocessing import CleanforkProcess, _registered

    # No forkserver for this one.
    server: Any = _server
    server._client = SimpleNamespace(connected=True, launched=b"")
    popen = _mp_popen.Popen.__new__(_mp_popen.Popen)
    popen._fds = []
    made = CleanforkProcess(target=_nothing)
    payload = _mp_pickle.Payload()
    popen._dump(made, _mp_popen._extra(_registered, {}), payload)
    parent, tracker = os.pipe()
    session = os.open(os.devnull, os.O_RDONLY)
    descriptors = {PARENT: parent, TRACKER: tracker, SESSION: session, CLAIM: new_claim()}
    if run(payload.content, descriptors) != 0:
        raise RuntimeError("the rehearsal failed")
