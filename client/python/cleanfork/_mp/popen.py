"""The parent's side of a process: its start, and how it ended."""

from __future__ import annotations

import os
import pickle
import sys
import time
import warnings
from multiprocessing import context, forkserver, popen_fork, reduction, resource_tracker
from typing import Any

from cleanfork import _server
from cleanfork._mp import child as _mp_child
from cleanfork._mp import pickling as _mp_pickle
from cleanfork._mp import templates as _mp_template
from cleanfork._cleanfork import INHERIT
from cleanfork._errors import SpawnError, StatusUnknown
from cleanfork._lifetime import KEEP, Lifetime
from cleanfork._mp.templates import ensure_template
from cleanfork.multiprocessing import CleanforkContext, CleanforkProcess, _registered

# How long a template that died may take to come back.
_PATIENCE = 10.0
# How often a wait looks whether the forkserver is still there.
_LOOK_AGAIN = 1.0

_parent_fd: tuple[int, int] | None = None  # pid, pidfd


def _own_pidfd() -> int:
    """Readable once this process has ended: what parent_process() waits for."""
    global _parent_fd
    if _parent_fd is None or _parent_fd[0] != os.getpid():
        _parent_fd = os.getpid(), os.pidfd_open(os.getpid())
    return _parent_fd[1]


class _DupFd:
    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        fds = forkserver.get_inherited_fds()
        assert fds is not None
        return int(fds[self.index])


def _extra(ctx: CleanforkContext, attributes: dict[str, Any]) -> dict[str, Any]:
    extra: dict[str, Any] = {"child_hook": ctx.child_hook, "warnings": warnings.filters,
                             "options": _options(), "stdin": "stdin" in attributes}
    handler = sys.modules.get("faulthandler")
    extra["faulthandler"] = handler is not None and handler.is_enabled()
    try:
        pickle.dumps(extra["warnings"])
    except Exception:  # a filter for a class that cannot be pickled
        extra["warnings"] = None
    return extra


class Popen(popen_fork.Popen):
    method = "cleanfork"
    DupFd = _DupFd

    returncode: Any  # None, a code, or a StatusUnknown

    def __init__(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        self._client: Any = None
        self._process: Any = None
        self.timing: dict[str, float] = {}
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        self._fds.append(fd)
        return len(self._fds) - 1

    def _dump(self, process_obj: Any, extra: dict[str, Any], payload: _mp_pickle.Payload) -> None:
        data = _mp_template.preparation_data(process_obj._name)
        del data["dir"]  # the request has it, or another that was asked for
        context.set_spawning_popen(self)
        try:
            for part in (_server.client().launched, data, extra):
                reduction.dump(part, payload)
                payload.end_of_pickle()
            _mp_pickle.dump(process_obj, payload, _mp_template.has_main(data))
            payload.end_of_pickle()
            payload.end()
        finally:
            context.set_spawning_popen(None)

    def _launch(self, process_obj: Any) -> None:
        with _mp_pickle.Payload() as payload:
            self._start(process_obj, payload)

    def _start(self, process_obj: Any, payload: _mp_pickle.Payload) -> None:
        begun = time.monotonic()
        ctx = getattr(process_obj, "_cleanfork_context", None) or _context_of_method(self.method)
        own = {**ctx.attributes, **getattr(process_obj, "_cleanfork_attributes", {})}
        self._dump(process_obj, _extra(ctx, own), payload)
        pickled = time.monotonic()
        attributes: dict[str, Any] = {"stdout": INHERIT, "stderr": INHERIT, **own}
        if "lifetime" not in attributes:
            dies = process_obj.daemon or ctx.die_with_parent
            attributes["lifetime"] = Lifetime() if dies else KEEP
        at_once = max(_mp_child.FDS_AT_ONCE - len(own.get("fds") or ()), 0)
        named = {str(i): fd for i, fd in enumerate(self._fds[:at_once])}
        named[_mp_child.PARENT] = _own_pidfd()
        tracker: Any = resource_tracker
        named[_mp_child.TRACKER] = tracker.getfd()
        more = None
        if len(self._fds) > at_once:
            more = _mp_child.send_more(self._fds[at_once:])
            named[_mp_child.MORE] = more.fileno()
        try:
            self._client, self._process = _call(ctx, payload.content, named, attributes)
        finally:
            if more is not None:
                more.close()
        self.pid = self._process.pid
        self.sentinel = self._process.pidfd
        self.finalizer = None
        now = time.monotonic()
        self.timing = {"pickle": pickled - begun, "start": now - pickled}

    # multiprocessing polls at any time, for processes that nobody asks about: what is not
    # known is raised by join() and exitcode alone.
    def poll(self, flag: int = os.WNOHANG) -> Any:
        if flag != os.WNOHANG:
            return self.wait()
        if self.returncode is None and not self._take(self._process.poll()):
            self._reap_orphan()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        give_up = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = _LOOK_AGAIN
            if give_up is not None:
                left = max(min(left, give_up - time.monotonic()), 0)
            if self._take(self._process.wait(left)) or self._reap_orphan():
                break
            if give_up is not None and time.monotonic() >= give_up:
                break
        if isinstance(self.returncode, StatusUnknown):
            raise self.returncode.again()
        return self.returncode

    def _take(self, status: Any) -> bool:
        if status is None:
            return False
        code = status.code if status.exited else -status.signal
        self.returncode = StatusUnknown(self.pid, status.why) if status.unknown else code
        return True

    def _reap_orphan(self) -> bool:
        """Its forkserver was lost, and this program, an init or a subreaper, is its parent now."""
        if self._client.connected:
            return False
        try:
            info = os.waitid(os.P_PIDFD, self.sentinel, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return False
        if info is None:
            return False
        self.returncode = info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
        return True

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            try:
                self._process.signal(sig)
            except (ProcessLookupError, SpawnError):
                pass

    @property
    def rusage(self) -> Any:
        import resource

        return resource.struct_rusage(self._process.usage)


def _call(ctx: CleanforkContext, payload: Any, named: dict[str, int],
          attributes: dict[str, Any]) -> tuple[Any, Any]:
    give_up = time.monotonic() + _PATIENCE
    while True:
        client, name = ensure_template(ctx)
        try:
            return client, client.call(name, "process", payload, named_fds=named,
                                       session_name=_mp_child.SESSION,
                                       claim_name=_mp_child.CLAIM, like_caller=True, **attributes)
        except SpawnError as e:
            _mp_template.look_again(client, name)
            # The template, or the forkserver, died: it is on its way back.
            if e.step not in ("fork", "template_name", "connect") or time.monotonic() > give_up:
                raise
            if getattr(e, "began", False):
                e.add_note("the process may have begun, and is not known here")
                raise
            time.sleep(0.02)


# ---- the name "forkserver"

_drop_in = CleanforkContext()
_drop_in.drop_in = True


def _options() -> list[tuple[Any, ...]]:
    return [(c.preload, c.main, c.warm, c.unclean) for c in (_registered, _drop_in)]


def set_options(options: list[tuple[Any, ...]]) -> None:
    """Those of the parent: its templates are then this process's, too."""
    for c, told in zip((_registered, _drop_in), options):
        c.preload, c.main, c.warm, c.unclean = told


def _context_of_method(method: str) -> CleanforkContext:
    return _drop_in if method == "forkserver" else _registered


class _DropInPopen(Popen):
    method = "forkserver"


def _ensure_running() -> None:
    resource_tracker.ensure_running()
    client, name = ensure_template(_drop_in)
    server: Any = forkserver._forkserver
    for g in client.template_info(name)["generations"]:
        if g["pid"] > 0:
            server._forkserver_pid = g["pid"]


def _stop() -> None:
    _server.stop()
    server: Any = forkserver._forkserver
    server._forkserver_pid = None


def install() -> None:
    if _mp_template.installed:
        return
    _mp_template.installed = True
    import multiprocessing.popen_forkserver as stock

    stock.Popen = _DropInPopen  # type: ignore[assignment, misc]
    context.ForkServerProcess.exitcode = CleanforkProcess.exitcode  # type: ignore[assignment]
    server: Any = forkserver._forkserver
    server.ensure_running = forkserver.ensure_running = _ensure_running
    set_preload: Any = _drop_in.set_forkserver_preload
    server.set_forkserver_preload = forkserver.set_forkserver_preload = set_preload
    server._stop = server._stop_unlocked = _stop
