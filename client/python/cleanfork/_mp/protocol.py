"""What passes between a process and the child it starts: descriptors, options, a claim."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import warnings
from typing import Any, Protocol

from cleanfork import _compat
from cleanfork._mp import by_value

# Descriptors come by name. These, and the numbers from "0" on of those that the
# process object names; what one request cannot carry comes over a socket.
PARENT, TRACKER, SESSION, MORE, CLAIM = "parent", "tracker", "session", "more", "claim"
FDS_AT_ONCE = 40
FDS_PER_MESSAGE = 200


# ---- descriptors

def send_more(fds: list[int]) -> socket.socket:
    """The end for the child of a socket that holds copies of `fds`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        for at in range(0, len(fds), FDS_PER_MESSAGE):
            socket.send_fds(ours, [b"x"], fds[at : at + FDS_PER_MESSAGE])
    return theirs


def receive_more(fd: int) -> list[int]:
    received: list[int] = []
    with socket.socket(fileno=fd) as theirs:
        while True:
            data, fds, _, _ = socket.recv_fds(theirs, 1, FDS_PER_MESSAGE)
            if not data:
                return received
            received += fds


# ---- the claim

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


# ---- options

class Options(Protocol):
    """What a context was asked for: of its templates, and of each of its processes."""

    preload: tuple[str, ...]
    on_error: str
    main: bool
    warm: int
    unclean: str
    shared: str | None
    pickler: str | None
    logging: bool
    child_hook: Any
    die_with_parent: bool
    attributes: dict[str, Any]


# Of the start methods that have a name. A child takes over what chooses a template, so that
# its own processes come from the templates of its parent.
options_of_method: dict[str, Options] = {}


# ---- the program

# The processes of one program, its own and those they start: they have their templates
# together, and share them with no other program. Made at the first need, by one of the threads.
_program: dict[str, str] = {}
# What a template of a name was chosen by when the program first asked for it.
shared_identities: dict[str, str] = {}


def program() -> str:
    return _program.get("name") or _program.setdefault("name", os.urandom(16).hex())


def forget_program() -> None:
    """The child of an os.fork() is another program, which goes its own way."""
    _program.clear()
    shared_identities.clear()


os.register_at_fork(after_in_child=forget_program)


# ---- the state of the parent that its child takes over

def state_for_child(options: Options, own_stdin: bool) -> dict[str, Any]:
    """`own_stdin`: it was given a standard input, which it keeps."""
    handler = sys.modules.get("faulthandler")
    state = {
        "child_hook": options.child_hook,
        "warnings": warnings.filters,
        "options": {method: (o.preload, o.on_error, o.main, o.warm, o.unclean, o.shared,
                              o.pickler, o.logging, o.die_with_parent)
                    for method, o in options_of_method.items()},
        "program": (program(), shared_identities.copy()),
        "stdin": own_stdin,
        "added": {},  # to its environment
        "pickler": by_value.used(),
        "logging": _logs().state_for_child() if options.logging else None,
        "faulthandler": handler is not None and handler.is_enabled(),
    }
    try:
        pickle.dumps(state["warnings"])
    except Exception:  # a filter for a class that cannot be pickled
        state["warnings"] = None
    return state


def _logs() -> Any:
    from cleanfork._mp import logs  # few ask for it

    return logs


def take_over(state: dict[str, Any]) -> None:
    for method, told in state["options"].items():
        options = options_of_method[method]
        (options.preload, options.on_error, options.main, options.warm, options.unclean,
         options.shared, options.pickler, options.logging, options.die_with_parent) = told
    os.environ.update(state["added"])
    _program["name"], identities = state["program"]
    shared_identities.update(identities)
    if state["stdin"]:  # which multiprocessing would replace by /dev/null
        _compat.keep_stdin()
    if state["pickler"] is not None:
        by_value.use(state["pickler"])
    if state["logging"] is not None:
        _logs().take_over(state["logging"])
    if state["faulthandler"]:
        import faulthandler

        faulthandler.enable()
    elif "faulthandler" in sys.modules:  # by the template's options
        sys.modules["faulthandler"].disable()
    if state["warnings"] is not None:
        warnings.resetwarnings()  # what was looked up before does not hold any more
        module: Any = warnings
        module.filters[:] = state["warnings"]
