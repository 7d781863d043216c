"""What the imports of a template set up, and how each of its children gets that."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from cleanfork import _compat
from cleanfork._cleanfork import (c_environment, environment_block, environment_is,
                                  ignored_signals, not_for_children)

# Python ignores these in every process.
_IGNORED_BY_PYTHON = frozenset((signal.SIGPIPE, signal.SIGXFSZ))
# Plain numbers, and not enumerations: see _compat.signal_setter().
_SIGINT, _DEFAULT, _IGNORED = int(signal.SIGINT), int(signal.SIG_DFL), int(signal.SIG_IGN)


def _plain(handler: Any) -> Any:
    return int(handler) if isinstance(handler, int) else handler


class Signals:
    """What the imports decided, and what the program ignores, in each child."""

    def __init__(self) -> None:
        # A program that ignores a signal had its template begun like that, as spawn does.
        self._of_program = frozenset(ignored_signals()) - _IGNORED_BY_PYTHON
        self._own: dict[int, Any] = {}
        self._known: frozenset[int] = frozenset()  # which Python knows to be ignored
        self._set = _compat.signal_setter()

    def imported(self) -> None:
        for number in self._of_program:
            if signal.getsignal(number) == signal.SIG_IGN:
                usual = number == signal.SIGINT
                signal.signal(number, signal.default_int_handler if usual else signal.SIG_DFL)
        # Taken by the loop, and SIGINT as the standard forkserver does: Python would raise
        # KeyboardInterrupt at the next fork only, and it would end the template.
        self._own = {int(n): _plain(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGCHLD)}
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._known = frozenset(n for n in signal.valid_signals()
                                if signal.getsignal(n) == signal.SIG_IGN)

    def in_child(self) -> None:
        # The kernel has the handlers of the imports still. Where they had none it ignores what
        # the program ignores, and Python is to know.
        ignored = frozenset(ignored_signals())
        signal.set_wakeup_fd(-1)
        for number, handler in self._own.items():
            usual: Any = signal.default_int_handler if number == _SIGINT else _DEFAULT
            if handler is None or (handler == usual and number in ignored):
                handler = _IGNORED if number in ignored else usual
            self._set(number, handler)
        unknown = ignored - self._known - self._own.keys()
        for number in unknown.intersection(signal.valid_signals()) if unknown else ():
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, signal.SIG_IGN)


class Environment:
    """That of each child: the program's of now, and what the imports made of it.

    Most programs never change theirs. So os.environ of the template is what a child has that gets
    the environment which the template began with, and such a child need not make it anew.
    """

    def __init__(self) -> None:
        self._begun = c_environment()
        self._changes: dict[bytes, bytes | None] = {}
        # What the forkserver itself added, for the template alone, it put behind the others.
        block = environment_block()
        self._usual = block.removesuffix(b"LD_BIND_NOW=1\0")
        self._binds_now = self._usual != block
        self._is_usual = False

    def imported(self) -> None:
        now = c_environment()
        self._changes = {name: now.get(name) for name in self._begun.keys() | now.keys()
                         if now.get(name) != self._begun.get(name)}
        if self._binds_now:
            os.environ.pop("LD_BIND_NOW", None)

    def in_child(self) -> None:
        self._is_usual = environment_is(self._usual)
        if not self._is_usual:
            self._renew()

    def _renew(self) -> None:
        zone = os.environb.get(b"TZ")
        _compat.set_environ(c_environment())
        if os.environb.get(b"TZ") != zone:
            time.tzset()

    def leave(self) -> None:
        """Without the changes of the imports."""
        if self._is_usual and self._changes:
            self._renew()

    def change(self) -> None:
        """As the imports did, but for what the program has changed since."""
        for name, value in self._changes.items():
            if self._is_usual:  # os.environ has it
                os.unsetenv(name) if value is None else os.putenv(name, value)
            elif os.environb.get(name) != self._begun.get(name):
                continue
            elif value is None:
                os.environb.pop(name, None)
            else:
                os.environb[name] = value
            if name == b"TZ":
                time.tzset()


def _objects_of(number: int) -> Iterator[Any]:
    kinds: Any = (io.IOBase,)
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


def _databases_of(path: str) -> Iterator[Any]:
    if "sqlite3" not in sys.modules:
        return
    sqlite3: Any = sys.modules["sqlite3"]
    for each in gc.get_objects():
        if issubclass(type(each), sqlite3.Connection):
            try:
                files = [row[2] for row in each.execute("PRAGMA database_list")]
            except sqlite3.Error:  # it is closed
                continue
            if any(file and path.startswith(file) for file in files):  # or -wal, -shm
                yield each


def _tell_of(number: int) -> None:
    path = os.readlink(f"/proc/self/fd/{number}")
    holders = [(each, _holder(each)) for each in (*_objects_of(number), *_databases_of(path))]
    # Of a file and its buffer and its text the one that the program has.
    for each, holder in [pair for pair in holders if pair[1]] or holders[:1]:
        print(f"cleanfork: descriptor {number} of the template, {path}, is {each!r}{holder}"
              f"{_maker(each)}", file=sys.stderr, flush=True)


def tell_of_files(own: int) -> None:
    """Beside the refusal, which knows descriptors and no objects."""
    for number in not_for_children(own):
        try:
            _tell_of(number)
        except OSError:  # there is no /proc
            pass


def tell_of_threads() -> None:
    """Those of Python; the refusal has the libraries of the others."""
    threading = sys.modules.get("threading")
    if threading is not None:
        for each in threading.enumerate():
            if each is not threading.main_thread():
                runs = _compat.target_of(each) or type(each).run
                print(f"cleanfork: a thread of the template is {each!r}, it runs "
                      f"{runs.__module__}.{getattr(runs, '__qualname__', runs)}",
                      file=sys.stderr, flush=True)
