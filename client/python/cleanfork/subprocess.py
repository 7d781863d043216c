"""The standard module's subprocess, with processes from the forkserver.

    import cleanfork.subprocess as subprocess

Names, signatures and behaviour are those of the standard module; the exceptions and
CompletedProcess are its own classes. What is different, and why, is in docs/python.md; in short:

- preexec_fn is refused: nothing of this program runs in the child.
- The child is fresh: no signal is blocked.
- A status that nobody can know is cleanfork.StatusUnknown, never a number.

Extra: ``Popen.pidfd``, ``Popen.rusage``, ``Popen.lifetime``, ``Popen(..., pty=True)``.
"""

from __future__ import annotations

import errno
import os
import selectors
import subprocess as _stdlib
import sys
import time
import types
import warnings
from signal import SIGINT, pidfd_send_signal
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
from cleanfork import _popen_arguments as _arguments
from cleanfork._at_terminal import AtTerminal
from cleanfork._errors import SpawnError, StatusUnknown
from cleanfork._lifetime import KEEP, Lifetime

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
    from cleanfork._pty import Pty as Pty

    class _Base(_stdlib.Popen[AnyStr]):
        """What the standard class has and its type hints leave out."""

        _child_created: bool
        _communication_started: bool
        _sigint_wait_secs: float

        def _close_pipe_fds(self, *fds: int) -> None: ...
        def _communicate(self, input: Any, endtime: float | None,
                         orig_timeout: float | None) -> tuple[Any, Any]: ...
else:
    _standard = _green.unpatched_subprocess()
    _Base, AnyStr = _standard.Popen, object

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

_LOOK_AGAIN = 1.0  # seconds: how often a wait among greenlets looks whether it is over


def _os_error(number: int, filename: Any = None) -> OSError:
    return OSError(number, os.strerror(number), filename)


def _as_standard(e: SpawnError, executable: Any, cwd: Any) -> OSError:
    """What the standard module raises for the same failure; `e` where it has none like it."""
    number = e.errno or 0
    too_long = number == errno.E2BIG and not e.object.endswith(" descriptors")
    if e.step == "exec" or (e.step == "request" and too_long):
        return _os_error(number, executable)
    if e.step in _BEFORE_EXEC or (e.step == "request" and number == errno.EBADF):
        return _os_error(number, cwd)
    if e.step == "clone":
        return _os_error(number)
    return e


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


class Popen(AtTerminal, _Base[AnyStr]):
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
                       start_new_session: bool, process_group: int = -1) -> None:
        _refuse(preexec_fn)
        words = _arguments.words(args, shell)
        if shell and executable:
            words[0] = executable
        if executable is None:
            executable = words[0]
        sys.audit("subprocess.Popen", executable, words, cwd, env)

        program = _arguments.encoded(executable)
        argv = [_arguments.encoded(word) for word in words]
        if not program:  # execve(2) of each directory in PATH
            raise _os_error(errno.EACCES, executable)
        options: dict[str, Any] = {}
        if env is not None:
            options["env"] = _arguments.encoded_environment(env)
        if cwd is not None:
            if not _arguments.encoded(cwd):
                raise _os_error(errno.ENOENT, cwd)
            options["cwd"] = _arguments.encoded(cwd)
        self._add_group(options, _arguments.switch(start_new_session), _arguments.integer(process_group))
        if _arguments.integer(umask) >= 0:
            options["umask"] = umask & 0o777
        if not _arguments.switch(restore_signals):
            options["ignored_signals"] = _arguments.ignored_by_python()
        _arguments.add_ids(options, uid, gid, gids)
        _arguments.add_streams(options, (p2cread, c2pwrite, errwrite))
        fds = _arguments.passed(pass_fds, close_fds)
        try:
            process = _server.client().spawn(
                program, argv[1:], argv0=argv[0] if argv else b"", like_caller=True,
                fds=fds, lifetime=self.lifetime, **options)
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
        if self._terminal is not None:
            options["controlling_terminal"] = self._terminal.number
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
                left = timeout
                if _green.are_here():
                    self._let_others_run(timeout)
                    left = None if timeout is None else 0
                status = self._process.wait(left)
            except KeyboardInterrupt:
                self._pass_on_interrupt()
                raise
            if status is None:
                assert timeout is not None
                raise TimeoutExpired(self.args, timeout)
            self._take(status)
        assert self.returncode is not None
        return self.returncode

    def _let_others_run(self, timeout: float | None) -> None:
        """Until it has ended, or `timeout` seconds have passed."""
        give_up = None if timeout is None else time.monotonic() + timeout
        while self._process is not None and self._process.poll() is None and self.pidfd >= 0:
            left = _LOOK_AGAIN if give_up is None else min(give_up - time.monotonic(), _LOOK_AGAIN)
            if left <= 0 or not _green.wait(self.pidfd, left):
                break

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        if timeout is not None or self._communication_started or not _green.are_here():
            return super().communicate(input, timeout)
        # As there, but for a single pipe, which it would read while the others wait.
        try:
            output = self._communicate(input, None, None)
        finally:
            self._communication_started = True
        self.wait()
        return output

    communicate.__doc__ = _stdlib.Popen.communicate.__doc__

    def _communicate(self, input: Any, endtime: float | None,
                     orig_timeout: float | None) -> tuple[Any, Any]:
        begin: Any = super()._communicate
        if _green.are_here():
            from cleanfork import _compat

            begin = _compat.communicate_by(selectors.DefaultSelector, _Base, self)
        try:
            output: tuple[Any, Any] = begin(input, endtime, orig_timeout)
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

    def _with_our_names(function: types.FunctionType) -> Any:
        """The standard module's function itself, which looks up its names in this module."""
        for name in function.__code__.co_names:
            if hasattr(_standard, name):
                globals().setdefault(name, getattr(_standard, name))
        ours = types.FunctionType(function.__code__, globals(), function.__name__,
                                  function.__defaults__, function.__closure__)
        ours.__kwdefaults__ = function.__kwdefaults__
        ours.__doc__ = function.__doc__
        ours.__module__ = __name__
        return ours

    # call() and the like are made of Popen and of each other, with nothing that is about
    # fork: their code is used as it is. A Popen that a program puts in place of ours, as tests
    # of programs do, is theirs too.
    for _name in ("call", "check_call", "check_output", "run", "getstatusoutput", "getoutput"):
        globals()[_name] = _with_our_names(vars(_standard)[_name])
    del _name

    def __getattr__(name: str) -> Any:
        """What the standard module has besides: no part of its API, but looked up by programs."""
        if name == "Pty":  # not in __all__, which is the standard module's
            from cleanfork._pty import Pty

            return Pty
        if not name.startswith("__") and hasattr(_standard, name):
            return getattr(_standard, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
