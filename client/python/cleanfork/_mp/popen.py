"""The parent's side of a process: its start, and how it ended."""

from __future__ import annotations

import errno
import os
import time
from multiprocessing import context, forkserver, popen_fork, reduction, resource_tracker
from typing import Any

from cleanfork import _compat, _green, _server
from cleanfork._cleanfork import INHERIT
from cleanfork._errors import SpawnError, StatusUnknown
from cleanfork._lifetime import KEEP, Lifetime
from cleanfork._mp import pickling, protocol, templates
from cleanfork._mp.protocol import Options

# How often a wait looks whether the forkserver is still there.
_LOOK_AGAIN = 1.0
_ON_ITS_WAY = 0.01  # the status of one that has ended

# Modules of executors: of the standard library, and of loky, which joblib has a copy of.
_EXECUTORS = ("concurrent.futures.process", "loky.process_executor")

_own_pidfds: dict[int, int] = {}  # by pid: in the child of an os.fork() that is another


def _own_pidfd() -> int:
    """Readable once this process has ended: what parent_process() waits for."""
    pid = os.getpid()
    if pid not in _own_pidfds:
        pidfd = os.pidfd_open(pid)
        if _own_pidfds.setdefault(pid, pidfd) != pidfd:  # another thread was first
            os.close(pidfd)
    return _own_pidfds[pid]


def _is_worker_of_executor(process_obj: Any) -> bool:
    """Nobody else can give it work. It would never learn that nobody will, since it holds the
    writing end of its own queue. A Pool's workers, which are daemonic, need no such question.
    """
    target = _compat.target_of(process_obj)
    return (getattr(target, "__name__", "") == "_process_worker"
            and getattr(target, "__module__", "").endswith(_EXECUTORS))


class _DupFd:
    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        fds = forkserver.get_inherited_fds()
        assert fds is not None
        return int(fds[self.index])


class Popen(popen_fork.Popen):
    method = "cleanfork"
    DupFd = _DupFd

    returncode: Any  # None, a code, or a StatusUnknown

    def __init__(self, process_obj: Any, options: Options) -> None:
        self._options = options
        self._fds: list[int] = []
        self._client: Any = None
        self._process: Any = None
        self.timing: dict[str, float] = {}
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        self._fds.append(fd)
        return len(self._fds) - 1

    def _dump(self, process_obj: Any, preparation: templates.Preparation, state: dict[str, Any],
              payload: pickling.Payload) -> None:
        interrupted = context.get_spawning_popen()  # by a signal handler that starts this one
        context.set_spawning_popen(self)
        try:
            reduction.dump(preparation.own, payload)
            payload.end_of_pickle()
            payload.write(preparation.common)
            payload.end_of_pickle()
            reduction.dump(state, payload)
            payload.end_of_pickle()
            pickling.dump(process_obj, payload, preparation.has_main)
            payload.end_of_pickle()
            payload.end()
        finally:
            context.set_spawning_popen(interrupted)

    def _launch(self, process_obj: Any) -> None:
        with pickling.Payload() as payload:
            self._start(process_obj, payload)

    def _start(self, process_obj: Any, payload: pickling.Payload) -> None:
        begun = time.monotonic()
        of_process = getattr(process_obj, "_cleanfork_attributes", {})  # a stock one has none
        own = {**self._options.attributes, **of_process}
        data = templates.preparation_data(process_obj.name)
        state = protocol.state_for_child(self._options, "stdin" in own)
        if "env" in of_process and _is_worker_of_executor(process_obj):
            # Only loky's executor gives one, and names what it adds to its own.
            state["added"] = of_process["env"] or {}
            own["env"] = self._options.attributes.get("env")
        self._dump(process_obj, templates.Preparation(self._options, data), state, payload)
        pickled = time.monotonic()
        attributes: dict[str, Any] = {"stdout": INHERIT, "stderr": INHERIT, **own}
        if "lifetime" not in attributes:
            dies = (process_obj.daemon or self._options.die_with_parent
                    or _is_worker_of_executor(process_obj))
            attributes["lifetime"] = Lifetime() if dies else KEEP
        fds = own.get("fds") or ()
        if not hasattr(fds, "__len__"):
            raise TypeError("argument 'fds' must be a mapping or a sequence of descriptors, "
                            f"not {type(fds).__name__}")
        at_once = max(protocol.FDS_AT_ONCE - len(fds), 0)
        named = {str(i): fd for i, fd in enumerate(self._fds[:at_once])}
        named[protocol.PARENT] = _own_pidfd()
        tracker: Any = resource_tracker
        named[protocol.TRACKER] = tracker.getfd()
        more = None
        if len(self._fds) > at_once:
            more = protocol.send_more(self._fds[at_once:])
            named[protocol.MORE] = more.fileno()
        try:
            self._call(data, payload.content, named, attributes)
        finally:
            if more is not None:
                more.close()
        self.pid = self._process.pid
        self.sentinel = self._process.pidfd
        self.finalizer = None
        now = time.monotonic()
        self.timing = {"pickle": pickled - begun, "start": now - pickled}

    def _call(self, data: dict[str, Any], payload: Any, named: dict[str, int],
              attributes: dict[str, Any]) -> None:
        # Told beside the payload: the imports have a say in any other.
        own_environment = () if attributes.get("env") is None else ("env",)
        patience = templates.Patience()
        other_rights = False
        while self._process is None:
            self._client, name = templates.ensure(self._options, data, anew=other_rights)
            try:
                self._process = self._client.call(
                    name, "process", payload, named_fds=named, args=own_environment, session_name=protocol.SESSION,
                    claim_name=protocol.CLAIM, like_caller=True, **attributes)
            except SpawnError as e:
                templates.look_again(self._client, name)
                if e.step == "identity" and e.object == name and not other_rights:
                    other_rights = True  # the template has those of an earlier moment
                    continue
                if e.step not in ("fork", "template_name", "connect"):
                    raise
                if getattr(e, "began", False):
                    _compat.add_note(e, "the process may have begun, and is not known here")
                    raise
                if not patience.lasts():
                    raise

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
            if _green.wait(self.sentinel, left):
                left = min(left, _ON_ITS_WAY)
            if self._take(self._process.wait(left)) or self._reap_orphan():
                break
            if give_up is not None and time.monotonic() >= give_up:
                break
        if isinstance(self.returncode, StatusUnknown):
            raise self.returncode.again()
        code: int | None = self.returncode
        return code

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

    def kill_tree(self) -> None:
        try:
            self._process.kill_tree()
        except SpawnError as e:
            if e.errno != errno.ESRCH:  # nobody is left
                raise

    @property
    def rusage(self) -> Any:
        import resource

        return resource.struct_rusage(self._process.usage)
