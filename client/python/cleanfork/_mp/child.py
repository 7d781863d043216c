"""What a child of a Python template does: become the process that was asked for."""

from __future__ import annotations

import atexit
import os
import pickle
import sys
import traceback
import weakref
from multiprocessing import forkserver, process, resource_tracker, spawn, util
from types import SimpleNamespace
from typing import Any

from cleanfork import _server
from cleanfork._mp import pickling, protocol, templates
from cleanfork._mp.context import CleanforkProcess, registered
from cleanfork._mp.popen import Popen


def _take_descriptors(descriptors: dict[str, int]) -> int:
    numbers = (str(i) for i in range(protocol.FDS_AT_ONCE))
    inherited = [descriptors[number] for number in numbers if number in descriptors]
    more, claim = descriptors.get(protocol.MORE), descriptors[protocol.CLAIM]
    if more is not None:
        inherited += protocol.receive_more(more)
    os.close(claim)
    for fd in (*inherited, *descriptors.values()):
        if fd > 2 and fd not in (more, claim):
            os.set_inheritable(fd, False)
    server: Any = forkserver._forkserver
    server._inherited_fds = inherited
    tracker: Any = resource_tracker._resource_tracker
    tracker._fd = descriptors[protocol.TRACKER]
    return descriptors[protocol.PARENT]


def _forget_exits() -> None:
    """What the imports registered to be done at an exit is for the template's, as from 3.14 on."""
    exits: Any = atexit
    exits._clear()
    finalize: Any = weakref.finalize
    for each in finalize._registry.values():
        each.atexit = False
    finalize._registered_with_atexit = False  # the first one of this process does it again
    handlers = sys.modules.get("logging")
    if handlers is not None:  # this process has buffers of its own
        atexit.register(handlers.shutdown)
    # Before 3.13 _bootstrap() has done this already, and it is done once.
    atexit.register(util._exit_function)  # type: ignore[attr-defined]


def run(payload: memoryview, descriptors: dict[str, int]) -> int:
    _forget_exits()
    try:
        return _run(payload, descriptors)
    finally:
        exits: Any = atexit
        exits._run_exitfuncs()
        util._flush_std_streams()  # type: ignore[attr-defined]


def _run(payload: memoryview, descriptors: dict[str, int]) -> int:
    try:
        if not protocol.claimed(descriptors[protocol.CLAIM]):
            return 0
        sentinel = _take_descriptors(descriptors)
        current: Any = process.current_process()
        preparation, parents, process_object = pickling.pickles_of(payload)
        current._inheriting = True
        try:
            _server.inherit(descriptors[protocol.SESSION])
            spawn.prepare(pickle.loads(preparation))
            state = pickle.loads(parents)
            protocol.take_over(state)
            made = pickle.loads(process_object)
        finally:
            del current._inheriting
        if state["child_hook"] is not None:
            state["child_hook"](made)
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
    # No forkserver for this one.
    server: Any = _server
    server._client = SimpleNamespace(connected=True)
    popen = Popen.__new__(Popen)
    popen._fds = []
    made = CleanforkProcess(target=_nothing)
    payload = pickling.Payload()
    popen._dump(made, templates.preparation_data(made.name),
                protocol.state_for_child(registered, False), payload)
    parent, tracker = os.pipe()
    session = os.open(os.devnull, os.O_RDONLY)
    descriptors = {protocol.PARENT: parent, protocol.TRACKER: tracker,
                   protocol.SESSION: session, protocol.CLAIM: protocol.new_claim()}
    if run(payload.content, descriptors) != 0:
        raise RuntimeError("the rehearsal failed")
