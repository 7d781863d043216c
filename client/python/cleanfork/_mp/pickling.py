"""The bytes a process is made from, and what to say when it cannot be pickled."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections.abc import Iterator
from multiprocessing import reduction
from types import FunctionType
from typing import Any

from cleanfork._mp import by_value

# What pickle raises for what cannot be pickled, or by __getstate__.
_FAILURES = (pickle.PicklingError, TypeError, AttributeError, NotImplementedError)
_DEPTH = 8
_IN_MEMORY = 32 * 1024  # what a request carries itself
_ENDS = struct.Struct("=4Q")


class _WithoutMain(reduction.ForkingPickler):
    """For a program whose main module no child can import."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, (type, FunctionType)) and value.__module__ == "__main__":
            raise pickle.PicklingError(
                "a new process cannot import this __main__, which was typed in, came from -c, "
                "standard input or a pipe, or is the __main__.py of a directory or an archive")
        return NotImplemented


class Payload:
    """What pickles are written to: bytes in memory, or, when they are many, in a memfd.

    Written once: the child maps the memfd. A pickler hands over large objects uncopied.
    At its end, where each pickle ends: the child loads them from where they lie.
    """

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._memfd: io.FileIO | None = None
        self._size = 0
        self._ends: list[int] = []

    def __enter__(self) -> Payload:
        return self

    def __exit__(self, *_: object) -> None:
        if self._memfd is not None:
            self._memfd.close()

    @property
    def content(self) -> Any:
        """For a call: the buffer, or the open memfd."""
        return self._bytes.getbuffer() if self._memfd is None else self._memfd

    def all(self) -> bytes:
        if self._memfd is None:
            return self._bytes.getvalue()
        return os.pread(self._memfd.fileno(), self._size, 0)

    def end_of_pickle(self) -> None:
        self._ends.append(self._size)

    def end(self) -> None:
        self.write(_ENDS.pack(*self._ends))

    def write(self, data: Any) -> int:
        self._size += memoryview(data).nbytes
        if self._memfd is None:
            if self._bytes.tell() + len(data) <= _IN_MEMORY:
                return self._bytes.write(data)
            self._memfd = in_memory(self._bytes.getbuffer())
        return _write_all(self._memfd, data)


def pickles_of(content: memoryview) -> Iterator[memoryview]:
    """What a Payload was made of."""
    begin = 0
    for end in _ENDS.unpack_from(content, len(content) - _ENDS.size):
        yield content[begin:end]
        begin = end


def in_memory(content: Any) -> io.FileIO:
    """A memfd that has it, open at its end."""
    file = io.FileIO("cleanfork", "wb", opener=_memfd)
    try:
        _write_all(file, content)
    except BaseException:
        file.close()
        raise
    return file


def _memfd(name: str, _: int) -> int:
    return os.memfd_create(name, os.MFD_CLOEXEC)


def _write_all(file: io.FileIO, data: Any) -> int:
    view = memoryview(data)
    left = view.cast("B")
    while left:
        left = left[file.write(left) :]
    return view.nbytes


def dump(value: Any, file: Any, main_is_importable: bool) -> None:
    """As reduction.dump(), but the exception names what failed and the way out."""
    by_name = main_is_importable or by_value.used() is not None
    kind = reduction.ForkingPickler if by_name else _WithoutMain
    try:
        kind(file, pickle.HIGHEST_PROTOCOL).dump(value)
    except _FAILURES as e:
        path, culprit = _find(value, kind)
        told = (f"cannot pickle {path} of {value!r}, which is {_describe(culprit)}: {e}. "
                f"What a process gets must be picklable: {_way_out(culprit)}")
        raise _again(e, told) from e


def _again(e: Exception, told: str) -> Exception:
    # A caller that catches what multiprocessing raises goes on to catch it.
    try:
        return type(e)(told)
    except Exception:
        return pickle.PicklingError(told)


def _describe(value: Any) -> str:
    if isinstance(value, (type, FunctionType)):
        kind = "function" if isinstance(value, FunctionType) else "class"
        return f"{kind} {value.__module__}.{value.__qualname__}"
    text = repr(value)
    return text if len(text) <= 200 else f"a {type(value).__qualname__}"


def _way_out(culprit: Any) -> str:
    if not isinstance(culprit, (type, FunctionType)):
        return "make it in the process, or leave it out with __getstate__"
    if "<" in culprit.__qualname__:  # <lambda>, <locals>
        return ("define it at module level with def or class, or have it pickled by value: "
                "get_context(pickler='cloudpickle')")
    return "define it in a module that can be imported"


def _parts(value: Any) -> list[tuple[str, Any]]:
    """What `value` holds, each with how it is written after the name of `value`."""
    if isinstance(value, dict):
        return [(f"[{k!r}]", v) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{i}]", v) for i, v in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [("{...}", v) for v in value]
    if isinstance(value, (type, FunctionType)):
        return []
    if hasattr(value, "__self__") and hasattr(value, "__func__"):
        return [(".__self__", value.__self__)]
    try:
        state = value.__getstate__() if hasattr(value, "__getstate__") else vars(value)
    except Exception:
        return []
    return [(f".{k}", v) for k, v in state.items()] if isinstance(state, dict) else []


def _fails(value: Any, kind: Any) -> bool:
    try:
        kind(io.BytesIO(), pickle.HIGHEST_PROTOCOL).dump(value)
        return False
    except Exception:
        return True


def _find(value: Any, kind: Any) -> tuple[str, Any]:
    """The innermost part that fails, and its path: "_args[0]['callback']"."""
    path = ""
    for _ in range(_DEPTH):
        for written, part in _parts(value):
            if _fails(part, kind):
                path += written
                value = part
                break
        else:
            break
    return path.lstrip(".").replace("_args", "args").replace("_target", "target").replace(
        "_kwargs", "kwargs") or "this", value
