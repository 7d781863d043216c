"""What a child of a Python template does: become the process that was asked for."""

from __future__ import annotations

import atexit
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from multiprocessing import spawn
from types import SimpleNamespace
from typing import Any

from cleanfork import _compat, _server
from cleanfork._mp import pickling, protocol, templates
from cleanfork._mp.context import CleanforkProcess, registered
from cleanfork._mp.popen import Popen


# What every child of this template would do, and the template has done: see Preparation.
prepared = b""


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
    _compat.set_inherited_fds(inherited)
    _compat.use_tracker(descriptors[protocol.TRACKER])
    return descriptors[protocol.PARENT]


def forget_exits() -> None:
    """What the imports registered to be done at an exit is for the template's, as from 3.13 on.

    For the template, when it is initialized, so that no child has to.
    """
    _compat.forget_exits()
    handlers = sys.modules.get("logging")
    if handlers is not None:  # this process has buffers of its own
        atexit.register(handlers.shutdown)
    _compat.register_exit_function()


def run(payload: memoryview, descriptors: dict[str, int]) -> int:
    try:
        return _run(payload, descriptors)
    finally:
        _compat.run_exits()


def _run(payload: memoryview, descriptors: dict[str, int]) -> int:
    try:
        if not protocol.claimed(descriptors[protocol.CLAIM]):
            return 0
        sentinel = _take_descriptors(descriptors)
        own, common, parents, process_object = pickling.pickles_of(payload)
        with _compat.Inheriting():
            _server.inherit(descriptors[protocol.SESSION])
            if common != prepared:
                spawn.prepare(pickle.loads(common))
            spawn.prepare(pickle.loads(own))
            state = pickle.loads(parents)
            protocol.take_over(state)
            made = pickle.loads(process_object)
        if state["child_hook"] is not None:
            state["child_hook"](made)
        return _compat.bootstrap(made, sentinel)
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


def rehearsal() -> Callable[[], None]:
    """What run() does, with a process that does nothing: for a child that nobody asked for.

    Its request is made here and now, since no child makes one.
    """
    popen = Popen.__new__(Popen)
    popen._fds = []
    made = CleanforkProcess(target=_nothing)
    preparation = templates.Preparation(registered, templates.preparation_data(made.name))
    preparation.common = prepared or preparation.common
    with pickling.Payload() as payload:
        popen._dump(made, preparation, protocol.state_for_child(registered, False), payload)
        content = payload.all()
    protocol.forget_program()

    def rehearse() -> None:
        # No forkserver for this one.
        server: Any = _server
        server._client = SimpleNamespace(connected=True)
        parent, tracker = os.pipe()
        session = os.open(os.devnull, os.O_RDONLY)
        descriptors = {protocol.PARENT: parent, protocol.TRACKER: tracker,
                       protocol.SESSION: session, protocol.CLAIM: protocol.new_claim()}
        if run(memoryview(content), descriptors) != 0:
            raise RuntimeError("the rehearsal failed")

    return rehearse
