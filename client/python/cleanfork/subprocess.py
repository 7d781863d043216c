"""The standard module's subprocess, with processes from the forkserver.

    import cleanfork.subprocess as subprocess

Names, signatures and behaviour are those of the standard module; the exceptions and
CompletedProcess are its own classes. What is different, and why, is in docs/python.md; in short:

- preexec_fn is refused: nothing of this program runs in the child.
- The child is fresh: no signal is blocked.
- A status that nobody can know is cleanfork.StatusUnknown, never a number.

Extra: ``Popen.pidfd``, ``Popen.rusage``, ``Popen.lifetime``.
"""

from __future__ import annotations

import errno
import os
import subprocess as _stdlib
import sys
import types
import warnings
from signal import SIG_IGN, SIGINT, SIGPIPE, SIGXFSZ, getsignal, pidfd_send_signal
from subprocess import (
    DEVNULL,
    PIPE,
    STDOUT,
    CalledProcessError,
    CompletedProcess,
    SubprocessError,
    TimeoutExpired,
    list2cmdline,
)

from cleanfork import _green, _server
from cleanfork._cleanfork import INHERIT
from cleanfork._errors import SpawnError, StatusUnknown
from cleanfork._lifetime import KEEP, Lifetime

if _stdlib.Popen.__module__ != "subprocess":
    raise ImportError(_green.refusal() or f"subprocess.Popen is that of {_stdlib.Popen.__module__}")

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    from collections.abc import Callable, Mapping
    from subprocess import (
        call,
        check_call,
        check_output,
        getoutput,
        getstatusoutput,
        run,
    )
    from typing import Any, AnyStr, ClassVar

    from cleanfork._cleanfork import ExitStatus, Process

    class _Base(_stdlib.Popen[AnyStr]):
        """What the standard class has and its type hints leave out."""

        _child_created: bool
        _sigint_wait_secs: float

        def _close_pipe_fds(self, *fds: int) -> None: ...
        def _communicate(self, input: Any, endtime: float | None,
                         orig_timeout: float | None) -> tuple[Any, Any]: ...
else:
    _Base, AnyStr = _stdlib.Popen, object

__all__ = [
    "Popen", "PIPE", "STDOUT", "DEVNULL", "call", "check_call", "getstatusoutput", "getoutput",
    "check_output", "run", "CalledProcessError", "SubprocessError", "TimeoutExpired",
    "CompletedProcess",
]

# What fails in the child before its program is reached: the standard module
# names the working directory then, whatever it was.
_BEFORE_EXEC = frozenset((
    "close_descriptors", "descriptors", "session", "process_group", "nice", "affinity", "rlimit",
    "groups", "gid", "uid", "chdir", "signal_mask",
))

# Python ignores these, and restore_signals gives them their default back. What else this
# program ignores is ignored in the child as well.
_RESTORED = (SIGPIPE, SIGXFSZ)


def _os_error(number: int, filename: Any = None) -> OSError:
    return OSError(number, os.strerror(number), filename)


def _as_standard(e: SpawnError, executable: Any, cwd: Any) -> OSError:
    """What the standard module raises for the same failure; `e` where it has none like it."""
    number = e.errno or 0
    if e.step == "exec" or (e.step == "request" and number == errno.E2BIG):
        return _os_error(number, executable)
    if e.step in _BEFORE_EXEC or (e.step == "request" and number == errno.EBADF):
        return _os_error(number, cwd)
    if e.step == "clone":
        return _os_error(number)
    return e


def _words(args: Any, shell: bool) -> list[Any]:
    if isinstance(args, (str, bytes)):
        words: list[Any] = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        words = [args]
    else:
        words = list(args)
    return ["/bin/sh", "-c", *words] if shell else words


def _encoded(value: Any) -> bytes:
    encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _inheritable() -> set[int]:
    """What a child of fork and exec would have: close_fds=False."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.add(int(name))
        except OSError:
            pass  # that of the listing itself
    return found


def _at_terminal() -> bool:
    """Whether a Ctrl-C would reach this program's process group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _refuse(preexec_fn: Callable[[], object] | None) -> None:
    if preexec_fn is not None:
        raise ValueError(
            "preexec_fn is not supported: the child is no copy of this program, so there is "
            "nothing in it that could be called; use cwd, umask, user, group, process_group, "
            "start_new_session, pass_fds, or the options of cleanfork.client().spawn()")
    refusal = _green.refusal()
    if refusal is not None:
        raise RuntimeError(refusal)


def _passed(pass_fds: Any, close_fds: bool) -> list[int]:
    """The descriptors above 2 that the child gets, each under its own number."""
    fds = {int(fd) for fd in pass_fds}
    if any(fd < 0 for fd in fds):
        raise ValueError("bad value(s) in fds_to_keep")
    if not close_fds:
        fds |= _inheritable()
    return [fd for fd in fds if fd > 2]


class Popen(_Base[AnyStr]):
    __doc__ = _stdlib.Popen.__doc__

    #: What becomes of the child when this program ends: it lives on, as with the standard
    #: module. A subclass may say otherwise.
    lifetime: ClassVar[Lifetime] = KEEP

    _process: Process | None = None
    _group_of_its_own = False

    # ---- start

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Callable[[], object] | None,
                       close_fds: bool, pass_fds: Any, cwd: Any, env: Mapping[Any, Any] | None,
                       startupinfo: None, creationflags: int, shell: bool,
                       p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int,
                       errread: int, errwrite: int, restore_signals: bool,
                       gid: int | None, gids: list[int] | None, uid: int | None, umask: int,
                       start_new_session: bool, process_group: int) -> None:
        _refuse(preexec_fn)
        words = _words(args, shell)
        if shell and executable:
            words[0] = executable
        if executable is None:
            executable = words[0]
        sys.audit("subprocess.Popen", executable, words, cwd, env)

        program = _encoded(executable)
        argv = [_encoded(word) for word in words]
        if not program:  # execve(2) of each directory in PATH
            raise _os_error(errno.EACCES, executable)
        options: dict[str, Any] = {}
        if env is not None:
            options["env"] = {_encoded(k): _encoded(v) for k, v in env.items()}
        if cwd is not None:
            if not _encoded(cwd):
                raise _os_error(errno.ENOENT, cwd)
            options["cwd"] = _encoded(cwd)
        self._add_group(options, start_new_session, process_group)
        if umask >= 0:
            options["umask"] = umask
        if not restore_signals:
            options["ignored_signals"] = [s for s in _RESTORED if getsignal(s) == SIG_IGN]
        if gid is not None:
            options["group"] = gid
        if uid is not None:
            options["user"] = uid
            if gids is None:
                gids = os.getgroups()
        for name, fd, number in (("stdin", p2cread, 0), ("stdout", c2pwrite, 1),
                                 ("stderr", errwrite, 2)):
            options[name] = fd if fd != -1 else INHERIT if _is_open(number) else DEVNULL
        fds = _passed(pass_fds, close_fds)
        try:
            process = _server.client().spawn(
                program, argv[1:], argv0=argv[0] if argv else b"", like_caller=True,
                groups=gids, fds=fds, lifetime=self.lifetime, **options)
        except SpawnError as e:
            error = _as_standard(e, executable, cwd)
            if error is e:
                raise
            raise error from e
        self._process = process
        self.pid = process.pid
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _add_group(self, options: dict[str, Any], new_session: bool, group: int) -> None:
        if new_session and group >= 0:
            raise _os_error(errno.EPERM)  # a session's leader cannot leave its group
        self._group_of_its_own = new_session or group >= 0
        if new_session:
            options["start_new_session"] = True
        elif group >= 0:
            options["process_group"] = group

    # ---- end

    @property
    def pidfd(self) -> int:
        """Readable once the child has ended. Borrowed; -1 when it had ended at once."""
        return self._process.pidfd if self._process is not None else -1

    @property
    def rusage(self) -> resource.struct_rusage | None:
        """Of the child and the descendants it waited for; None while it runs."""
        if self._process is None or self.returncode is None:
            return None
        from resource import struct_rusage

        return struct_rusage(self._process.usage)

    def _take(self, status: ExitStatus) -> None:
        if status.unknown:
            raise StatusUnknown(self.pid, status.why)
        self.returncode = status.code if status.exited else -status.signal

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        if self.returncode is None and self._process is not None:
            status = self._process.poll()
            if status is not None:
                self._take(status)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            assert self._process is not None
            try:
                status = self._process.wait(timeout)
            except KeyboardInterrupt:
                self._pass_on_interrupt()
                raise
            if status is None:
                assert timeout is not None
                raise TimeoutExpired(self.args, timeout)
            self._take(status)
        return self.returncode  # type: ignore[return-value]  # a number by now

    def _communicate(self, input: Any, endtime: float | None,
                     orig_timeout: float | None) -> tuple[Any, Any]:
        try:
            output: tuple[Any, Any] = super()._communicate(input, endtime, orig_timeout)
            return output
        except KeyboardInterrupt:
            self._pass_on_interrupt()
            raise

    def _pass_on_interrupt(self) -> None:
        """A Ctrl-C reaches the standard module's children too; ours may be in another session."""
        if self._group_of_its_own or self._sigint_wait_secs == 0:
            return
        try:
            if os.getpgid(self.pid) != os.getpgrp() and _at_terminal():
                self.send_signal(SIGINT)
        except ProcessLookupError:
            pass

    def send_signal(self, sig: int) -> None:
        """Send a signal to the process."""
        if self.poll() is not None or self.pidfd < 0:
            return
        try:
            pidfd_send_signal(self.pidfd, sig)
        except ProcessLookupError:
            pass  # it has ended meanwhile

    def kill_tree(self) -> None:
        """SIGKILL to the process and all its descendants; ``lifetime`` has target="tree".

        Also after the process itself has ended.
        """
        if self._process is not None:
            try:
                self._process.kill_tree()
            except SpawnError as e:
                if e.errno != errno.ESRCH:  # nobody is left
                    raise

    def __del__(self, _maxsize: int = sys.maxsize,
                _warn: Callable[..., None] = warnings.warn) -> None:
        # No zombie is left and nothing has to be kept: the forkserver reaps.
        if self._child_created and self.returncode is None:
            _warn(f"subprocess {self.pid} is still running", ResourceWarning, source=self)


if not TYPE_CHECKING:

    def _with_our_popen(namespace: dict[str, Any], function: types.FunctionType) -> Any:
        """The standard module's function itself, with the names it looks up in `namespace`."""
        ours = types.FunctionType(function.__code__, namespace, function.__name__,
                                  function.__defaults__, function.__closure__)
        ours.__kwdefaults__ = function.__kwdefaults__
        ours.__doc__ = function.__doc__
        ours.__module__ = __name__
        return ours

    # call() and the like are made of Popen and of each other, with nothing that is about
    # fork: their code is used as it is.
    _namespace = {**vars(_stdlib), "__name__": __name__, "Popen": Popen}
    for _name in ("call", "check_call", "check_output", "run", "getstatusoutput", "getoutput"):
        _namespace[_name] = _with_our_popen(_namespace, vars(_stdlib)[_name])
        globals()[_name] = _namespace[_name]
    del _name
