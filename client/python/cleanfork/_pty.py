"""Pseudo terminals of cleanfork.subprocess: Popen(..., pty=True)."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import struct
import termios
from operator import index
from typing import NamedTuple

from cleanfork._cleanfork import open_pty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MODES, _CONTROL_CHARACTERS = 3, 6  # in what tcgetattr() gives


class Pty(NamedTuple):
    """How a new terminal is: its size, and what it does with what is written to its master."""

    rows: int = 24
    columns: int = 80
    echo: bool = True  # what is typed is read back as well
    raw: bool = False  # bytes as they are: no lines, no Ctrl-C, no echo


def _check_size(rows: int, columns: int) -> None:
    for name, value in (("rows", rows), ("columns", columns)):
        if not 0 <= index(value) <= 0xFFFF:
            raise ValueError(f"{name} must be from 0 to 65535, not {value}")


def resize(fd: int, rows: int, columns: int) -> None:
    _check_size(rows, columns)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Master(io.FileIO):
    """The caller's end of a terminal: what is written is typed, what the child writes is read.

    Unbuffered, of bytes, and blocking. Once nobody has the terminal open any more, it is at its
    end. Closing it hangs up: SIGHUP for the child.
    """

    def readinto(self, buffer: Any) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as e:
            if e.errno != errno.EIO:
                raise
            return 0

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(size)
        return bytes(buffer[:self.readinto(buffer) or 0])

    def readall(self) -> bytes:
        parts = []
        while part := self.read(65536):
            parts.append(part)
        return b"".join(parts)


class _Typed(io.FileIO):
    """Where input is typed: closing it types the end, which a terminal has no other way to tell.

    Twice: within a line the first one hands the line over.
    """

    def close(self) -> None:
        if not self.closed:
            try:
                modes = termios.tcgetattr(self.fileno())
                if modes[_MODES] & termios.ICANON:
                    os.write(self.fileno(), modes[_CONTROL_CHARACTERS][termios.VEOF] * 2)
            except (OSError, termios.error):
                pass  # the terminal has gone
        super().close()


class Setup:
    """A terminal in the making: until the child has its end."""

    def __init__(self, pty: Any, given: tuple[Any, ...], rest: tuple[Any, ...],
                 keywords: dict[str, Any]) -> None:
        if pty is not True and not isinstance(pty, Pty):
            raise TypeError(f"pty must be True, False or a Pty, not {type(pty).__name__}")
        settings = Pty() if pty is True else pty
        _check_size(settings.rows, settings.columns)
        if all(stream is not None for stream in given):
            raise ValueError("pty: stdin, stdout and stderr are all given: none is left for it")
        if keywords.get("process_group") is not None or len(rest) > 9:
            raise ValueError("pty: the child leads a session of its own; process_group and "
                             "positional arguments after restore_signals cannot be given")
        keywords["start_new_session"] = True
        self._given = given
        self.types = given[0] is None
        self.number = [stream is None for stream in given].index(True)
        self._text = [keywords.get(name) for name in ("encoding", "errors")]
        master, self._child_end = open_pty(
            rows=settings.rows, columns=settings.columns, echo=bool(settings.echo),
            raw=bool(settings.raw))
        self.master = Master(master, "r+b")
        self.streams = [self._child_end if stream is None else stream for stream in given]

    def __enter__(self) -> Setup:
        return self

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        os.close(self._child_end)
        if kind is not None:
            self.master.close()

    def give_files(self, popen: Any) -> None:
        """For communicate(): what is typed, and what is read, each with a descriptor of its own."""
        if self.types:
            popen.stdin = self._file(popen, _Typed, "wb")
        if self._given[1] is None:
            popen.stdout = self._file(popen, Master, "rb")

    def _file(self, popen: Any, kind: type[io.FileIO], mode: str) -> Any:
        raw = kind(fcntl.fcntl(self.master.fileno(), fcntl.F_DUPFD_CLOEXEC, 3), mode)
        if not popen.text_mode:
            return raw
        encoding, errors = self._text
        buffered = io.BufferedReader(raw) if mode == "rb" else io.BufferedWriter(raw)
        return io.TextIOWrapper(buffered, encoding=encoding, errors=errors,
                                write_through=True)

    def ended(self, popen: Any) -> bool:
        """communicate() got EIO of a terminal that nobody has open: whether it is to go on.

        Nothing more can be typed; then, the next time, nothing more can be read.
        """
        from cleanfork import _compat

        _compat.keep_what_was_read(popen)
        for file in popen.stdin if self.types else None, popen.stdout:
            if file is not None and not file.closed:
                file.close()
                return True
        return False
