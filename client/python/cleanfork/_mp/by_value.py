"""What has no name to be found by, such as a closure: pickled by another package, cloudpickle.

Tasks of pools and executors, and what goes through queues and pipes, are pickled by the one
ForkingPickler of multiprocessing, in threads that know no context. So it is that which falls
back, in the whole program once a context has asked for it, for what else could not be pickled.
"""

from __future__ import annotations

import ast
import copyreg
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable
from importlib import import_module
from multiprocessing import reduction
from types import FunctionType, ModuleType
from typing import Any

from cleanfork import _compat

_Forking: Any = reduction.ForkingPickler
_used: ModuleType | None = None
_kind: Any = None  # its pickler, which also knows what multiprocessing can send
main_is_importable: Callable[[], bool] = bool  # by others; templates, which knows, sets it
_guarded: frozenset[str] | None = None  # of the main module; None: not looked at yet

_PACKAGES = {"cloudpickle": "python3-cloudpickle", "dill": "python3-dill"}  # of Debian


def module_of(pickler: str | ModuleType) -> ModuleType:
    """The module of that name, with Pickler and loads()."""
    if isinstance(pickler, ModuleType):
        module = pickler
    else:
        try:
            module = import_module(pickler)
        except ModuleNotFoundError as e:
            if e.name != pickler.partition(".")[0]:
                raise
            debian = _PACKAGES.get(pickler)
            raise ModuleNotFoundError(
                f"pickler={pickler!r}: the package {pickler} is not installed (pip install "
                f"{pickler}{f', or of Debian {debian}' if debian else ''})", name=pickler) from None
    if not (hasattr(module, "Pickler") and hasattr(module, "loads")):
        raise TypeError(f"pickler={module.__name__!r} has no Pickler and loads(), as cloudpickle has")
    return module


def used() -> str | None:
    """The name of the module that is used; None: there is none."""
    return _used.__name__ if _used is not None else None


def use(pickler: str | ModuleType) -> None:
    """From now on, in this process and those that it starts."""
    global _used, _kind
    _used = module_of(pickler)
    base: Any = _used.Pickler
    # Read of the class when one is made.
    table = ChainMap(_compat.extra_reducers(),
                     getattr(base, "dispatch_table", copyreg.dispatch_table))
    _kind = type("Pickler", (_ByValue, base),
                 {"_next": base, "origin": _used.__name__, "dispatch_table": table})
    _Forking.reducer_override = _reduce


class _ByValue:
    """Before the package's own Pickler: by name what has one, and multiprocessing's objects."""

    _next: Any

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, (type, FunctionType)) and value.__module__ in _MAIN and _named(value):
            return NotImplemented
        override = getattr(self._next, "reducer_override", None)
        return NotImplemented if override is None else override(self, value)


_MAIN = ("__main__", "__mp_main__")


def _reduce(_: Any, value: Any) -> Any:
    """reducer_override() of multiprocessing's pickler."""
    if not isinstance(value, (type, FunctionType)) or _named(value):
        return NotImplemented
    file, kind = io.BytesIO(), _kind  # of another thread's use() it may be another next time
    kind(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return _load, (kind.origin, file.getvalue())


def _load(module: str, data: bytes) -> Any:
    return module_of(module).loads(data)


def _named(value: Any) -> bool:
    """Another process finds it by its name."""
    module, name = value.__module__, value.__qualname__
    if module in _MAIN and (not main_is_importable() or name.partition(".")[0] in _under_guard()):
        return False
    find: Any = pickle
    found: Any = sys.modules.get(module or find.whichmodule(value, name))
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _under_guard() -> frozenset[str]:
    """What the main module defines under `if __name__ == "__main__"`, so nowhere else."""
    global _guarded
    if _guarded is None:
        try:
            with open(sys.modules["__main__"].__file__ or "", "rb") as file:
                blocks = ast.parse(file.read()).body
        except (AttributeError, OSError, SyntaxError, ValueError):  # a compiled one
            blocks = []
        _guarded = frozenset(
            each.name for block in blocks
            if isinstance(block, ast.If) and "__name__" in ast.dump(block.test)
            for each in ast.walk(block)
            if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)))
    return _guarded
