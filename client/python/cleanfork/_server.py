"""The one forkserver of the program."""

from __future__ import annotations

import os
from threading import RLock

from cleanfork._cleanfork import Client, __file__ as _MODULE, attach, connect, launch

__all__ = ["start", "stop", "client"]

HOME = os.path.dirname(os.path.abspath(__file__))  # of this package

# Reentrant: a signal handler runs wherever its thread is, also in start(), and may need a
# client itself.
_lock = RLock()
_client: Client | None = None
_inherited: int | None = None  # a socket to the forkserver of the program's parent
_lends_rights = False  # as start() was told


def inherit(fd: int) -> None:
    """This process uses its parent's forkserver, from its first need on."""
    global _inherited
    _inherited = fd


def _forget() -> None:
    """In the child of an os.fork(): what was the parent's is not ours, nor is its lock."""
    global _lock, _client, _inherited
    _lock = RLock()
    _client = None
    _inherited = None  # the session is the parent's


os.register_at_fork(after_in_child=_forget)


def _packaged_daemon() -> str | None:
    """The one that fits this package: beside the module, or where pip put it.

    That is bin/ of what has the module in lib/python3.N/site-packages. None: the library looks
    further.
    """
    if "CLEANFORK_DAEMON" in os.environ:
        return None
    beside = os.path.dirname(os.path.abspath(_MODULE))
    above, packages = os.path.split(os.path.dirname(beside))
    prefix, python = os.path.split(above)
    prefix, library = os.path.split(prefix)
    if not (packages in ("site-packages", "dist-packages") and python.startswith("python")
            and library.startswith("lib")):
        prefix = os.path.dirname(beside)  # as with pip's --target
    for place in (beside, os.path.join(prefix, "bin")):
        path = os.path.join(place, "cleanforkd")
        if os.access(path, os.X_OK):
            return path
    return None


def _join_inherited(timeout: float) -> Client | None:
    global _inherited
    if _inherited is None:
        return None
    fd, _inherited = _inherited, None
    try:
        return attach(fd, timeout=timeout)
    except OSError:  # it has ended, with the program that began it
        return None


def _begin(log_fd: int, timeout: float, descendant: bool | None) -> Client:
    joined = _join_inherited(timeout)
    if joined is not None:
        return joined
    if os.environ.get("CLEANFORK_SOCKET"):
        return connect(timeout=timeout, lends_rights=_lends_rights)
    return launch(_packaged_daemon(), log_fd=log_fd, timeout=timeout, descendant=descendant,
                  lends_rights=_lends_rights)


def start(*, log_fd: int = -1, timeout: float = 10.0, descendant: bool | None = None,
          lends_rights: bool = False) -> Client:
    """Starts the forkserver unless it runs: best early, while the program is small.

    With CLEANFORK_SOCKET in the environment, joins the one at that path instead.
    ``log_fd``: where a private one logs; it holds none of the program's descriptors otherwise.
    ``descendant``: whether a private one and its children are to be descendants of the program,
    as psutil looks for them; None: while the program has at most 256 MiB of memory of its own,
    since that costs a copy of what describes it, about 20 us for each MiB.
    ``lends_rights``: once the program has given up its user, it may still ask for processes with
    the rights of the forkserver (``identity="forkserver"``); else nobody can get them through it.
    """
    global _client, _lends_rights
    with _lock:
        if lends_rights and not _lends_rights:
            if _client is not None and _client.connected:
                raise RuntimeError("the forkserver runs already, and lends no rights: say "
                                   "lends_rights before its first use")
            _lends_rights = True
        if _client is None or not _client.connected:
            begun = _begin(log_fd, timeout, descendant)
            # A signal handler was here meanwhile, and has processes of its client.
            if _client is not None and _client.connected:
                begun.close()
            else:
                _client = begun
        return _client


def client() -> Client:
    """The session with it; started at the first use, and anew when it was lost."""
    current = _client
    if current is not None and current.connected:
        return current
    return start()


def stop() -> None:
    """Ends the session, and a private forkserver with it. Children meet their lifetime."""
    global _client
    with _lock:
        if _client is not None:
            _client.close()
        _client = None
