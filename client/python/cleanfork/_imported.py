"""What the imports of a template set up, and how each of its children gets that."""

from __future__ import annotations

import fcntl
import gc
import io
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from cleanfork._cleanfork import c_environment, ignored_signals

# Python ignores these in every process.
_IGNORED_BY_PYTHON = frozenset((signal.SIGPIPE, signal.SIGXFSZ))


class Signals:
    """What the imports decided, and what the program ignores, in each child."""

    def __init__(self) -> None:
        # A program that ignores a signal had its template begun like that, as spawn does.
        self._of_program = frozenset(ignored_signals()) - _IGNORED_BY_PYTHON
        self._own: dict[int, Any] = {}

    def imported(self) -> None:
        for number in self._of_program:
            if signal.getsignal(number) == signal.SIG_IGN:
                usual = number == signal.SIGINT
                signal.signal(number, signal.default_int_handler if usual else signal.SIG_DFL)
        # Taken by the loop, and SIGINT as the standard forkserver does: Python would raise
        # KeyboardInterrupt at the next fork only, and it would end the template.
        self._own = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGCHLD)}
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def in_child(self) -> None:
        # The kernel has the handlers of the imports still. Where they had none it ignores what
        # the program ignores, and Python is to know.
        ignored = frozenset(ignored_signals())
        signal.set_wakeup_fd(-1)
        for number, handler in self._own.items():
            usual: Any = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            if handler is None or (handler == usual and number in ignored):
                handler = signal.SIG_IGN if number in ignored else usual
            signal.signal(number, handler)
        for number in ignored.intersection(signal.valid_signals()).difference(self._own):
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, signal.SIG_IGN)


class Environment:
    """That of each child: the program's of now, and what the imports made of it."""

    def __init__(self) -> None:
        self._begun = c_environment()
        self._changes: dict[bytes, bytes | None] = {}

    def imported(self) -> None:
        now = c_environment()
        self._changes = {name: now.get(name) for name in self._begun.keys() | now.keys()
                         if now.get(name) != self._begun.get(name)}

    def in_child(self) -> None:
        data = os.environ._data  # type: ignore[attr-defined]
        zone = data.get(b"TZ")
        data.clear()
        data.update(c_environment())
        if data.get(b"TZ") != zone:
            time.tzset()

    def change(self) -> None:
        """As the imports did, but for what the program has changed since."""
        for name, value in self._changes.items():
            if os.environb.get(name) != self._begun.get(name):
                continue
            if value is None:
                os.environb.pop(name, None)
            else:
                os.environb[name] = value
            if name == b"TZ":
                time.tzset()


# Of F_GETFL, what opening anew can give; the rest was for the first time.
_AS_OPENED = (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC | os.O_DSYNC | os.O_DIRECT
              | os.O_DIRECTORY)
_HARMLESS_DEVICES = {os.makedev(1, minor) for minor in (3, 5, 7, 8, 9)}  # null ... urandom
_HIGH = 700  # copies are above what calls bring, and below the usual limit


class _Open(NamedTuple):
    number: int
    copy: int  # -1: it must not be shared
    inheritable: bool
    file: tuple[int, int]


def _open_numbers() -> list[int]:
    try:
        return sorted(map(int, os.listdir("/proc/self/fd")))
    except OSError:
        return list(range(1024))


def _status(fd: int) -> os.stat_result | None:
    try:
        return os.fstat(fd)
    except OSError:
        return None


def _may_be_shared(s: os.stat_result) -> bool:
    return (stat.S_ISREG(s.st_mode) or stat.S_ISDIR(s.st_mode)
            or (stat.S_ISCHR(s.st_mode) and s.st_rdev in _HARMLESS_DEVICES))


def _objects_of(number: int) -> Iterator[Any]:
    kinds: tuple[type, ...] = (io.RawIOBase,)
    if "socket" in sys.modules:
        kinds += (sys.modules["socket"].socket,)
    for each in gc.get_objects():
        try:
            if isinstance(each, kinds) and each.fileno() == number:
                yield each
        except (OSError, ValueError):  # it is closed
            pass


def _holder(value: Any) -> str:
    """The variable of a module that has it, itself or among others."""
    for name, module in list(sys.modules.items()):
        for variable, held in list(getattr(module, "__dict__", {}).items()):
            if held is value or (type(held) in (list, tuple) and any(x is value for x in held)):
                return f", {name}.{variable}"
    return ""


def _maker(value: Any) -> str:
    tracemalloc = sys.modules.get("tracemalloc")
    trace = tracemalloc.get_object_traceback(value) if tracemalloc is not None else None
    return f", made in {trace[-1]}" if trace else ""


def _tell_of(number: int) -> None:
    """Beside the refusal, which knows descriptors and no objects."""
    for each in _objects_of(number):
        print(f"cleanfork: descriptor {number} of the template is {each!r}{_holder(each)}"
              f"{_maker(each)}", file=sys.stderr, flush=True)


class Files:
    """Descriptors that the imports left open: objects of theirs have these numbers.

    A child has each file at its number, opened anew, so that its position is its own. Where
    that cannot be, the number is taken by something on which every use fails: never by
    another file.
    """

    def __init__(self) -> None:
        self._open: list[_Open] = []

    def imported(self, own: set[int]) -> None:
        for number in _open_numbers():
            s = None if number <= 2 or number in own else _status(number)
            if s is not None:
                copy = self._copy(number) if _may_be_shared(s) else -1
                if copy < 0:
                    _tell_of(number)
                self._open.append(_Open(number, copy, os.get_inheritable(number),
                                        (s.st_dev, s.st_ino)))

    def _copy(self, number: int) -> int:
        try:
            return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _HIGH)
        except OSError:  # a low limit
            return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)

    def copies(self) -> list[int]:
        return [each.copy for each in self._open if each.copy >= 0]

    def in_child(self, descriptors: dict[str, int]) -> None:
        """`descriptors`: those of the call, which give way."""
        if not self._open:
            return
        numbers = {each.number for each in self._open}
        for name, fd in descriptors.items():
            if fd in numbers:
                descriptors[name] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(numbers) + 1)
                os.close(fd)
        for each in self._open:
            if _status(each.number) is None:  # else the caller's fds= have it
                self._place(each)
            if each.copy >= 0:
                os.close(each.copy)

    def _place(self, each: _Open) -> None:
        s = _status(each.copy)
        if s is None or (s.st_dev, s.st_ino) != each.file:
            opened = os.open("/", os.O_PATH | os.O_CLOEXEC)
        else:
            opened = _anew(each.copy)
        if opened != each.number:  # the lowest that was free
            os.dup2(opened, each.number)
            if opened != each.copy:
                os.close(opened)
        os.set_inheritable(each.number, each.inheritable)


def _anew(fd: int) -> int:
    """The same file at the same position; the descriptor itself where it cannot be opened."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL) & _AS_OPENED
    try:
        opened = os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)
    except OSError:
        return fd
    try:
        os.lseek(opened, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
    except OSError:
        pass  # it has no position
    return opened
