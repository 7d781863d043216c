"""Fresh processes for programs that must not fork.

    import cleanfork.subprocess as subprocess      # the standard module's API
    import cleanfork.asyncio                       # create_subprocess_exec, _shell

    cleanfork.start()                              # early; else at the first use
    p = cleanfork.client().spawn("sleep", ["60"])  # all the options of a spawn

Processes come from a small forkserver that is no copy of this program: threads, gRPC
and a large heap here are no concern of theirs. Importing this module starts nothing and
loads nothing; each name is loaded at its first use.

PYTEST_DONT_REWRITE (its plugin has no assertions, and pytest would warn of an early import.)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cleanfork import asyncio as asyncio
    from cleanfork import prefork as prefork
    from cleanfork import subprocess as subprocess
    from cleanfork._cleanfork import INHERIT as INHERIT
    from cleanfork._cleanfork import Client as Client
    from cleanfork._cleanfork import ExitStatus as ExitStatus
    from cleanfork._cleanfork import Process as Process
    from cleanfork._cleanfork import __version__ as __version__
    from cleanfork._cleanfork import attach as attach
    from cleanfork._cleanfork import connect as connect
    from cleanfork._cleanfork import launch as launch
    from cleanfork._cleanfork import read_result as read_result
    from cleanfork._events import events as events
    from cleanfork._errors import SpawnError as SpawnError
    from cleanfork._errors import StatusUnknown as StatusUnknown
    from cleanfork._events import events as events
    from cleanfork._freeze_support import freeze_support as freeze_support
    from cleanfork._lifetime import KEEP as KEEP
    from cleanfork._lifetime import Lifetime as Lifetime
    from cleanfork._output import RotatedFile as RotatedFile
    from cleanfork._server import client as client
    from cleanfork._server import start as start
    from cleanfork._server import stop as stop
    from cleanfork.multiprocessing import get_context as get_context
    from cleanfork.multiprocessing import install as install
    from cleanfork.multiprocessing import reload as reload

# Where each name is found.
_HOMES = {
    "asyncio": "",
    "multiprocessing": "",
    "prefork": "",
    "subprocess": "",
    "INHERIT": "_cleanfork",
    "Client": "_cleanfork",
    "ExitStatus": "_cleanfork",
    "Process": "_cleanfork",
    "__version__": "_cleanfork",
    "attach": "_cleanfork",
    "connect": "_cleanfork",
    "launch": "_cleanfork",
    "read_result": "_cleanfork",
    "events": "_events",
    "SpawnError": "_errors",
    "StatusUnknown": "_errors",
    "freeze_support": "_freeze_support",
    "KEEP": "_lifetime",
    "Lifetime": "_lifetime",
    "RotatedFile": "_output",
    "client": "_server",
    "start": "_server",
    "stop": "_server",
    "get_context": "multiprocessing",
    "install": "multiprocessing",
    "reload": "multiprocessing",
}

__all__ = [name for name in _HOMES if not name.startswith("_")]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if not home:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def _registered() -> object:
    from cleanfork.multiprocessing import get_context

    return get_context()


def _add_start_method(context: object) -> None:
    import sys

    from cleanfork._compat import know_start_method

    know_start_method(context, _registered)
    if getattr(sys, "frozen", False):
        # The package has the method that its module of contexts made of the class.
        package = sys.modules["multiprocessing"]
        made = hasattr(package, "freeze_support")
        _support_freezing(package if made else context.BaseContext)  # type: ignore[attr-defined]


def _register_start_method() -> None:
    """multiprocessing knows the name "cleanfork" as soon as both are imported."""
    import sys

    loaded = sys.modules.get("multiprocessing.context")
    if loaded is not None:
        return _add_start_method(loaded)

    class Finder:
        # Once, and without a trace: lets the others find it, then adds the name.
        def find_spec(self, name: str, path: object = None, target: object = None) -> object:
            if name != "multiprocessing.context":
                return None
            sys.meta_path.remove(self)  # type: ignore[arg-type]
            from importlib.util import find_spec

            spec = find_spec(name)
            if spec is None or spec.loader is None:
                return spec
            run = spec.loader.exec_module

            def exec_module(module: object) -> None:
                run(module)  # type: ignore[arg-type]
                _add_start_method(module)

            setattr(spec.loader, "exec_module", exec_module)
            return spec

    sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]


def _support_freezing(holder: object) -> None:
    from cleanfork._freeze_support import supporting

    stock = holder.freeze_support  # type: ignore[attr-defined]
    setattr(holder, "freeze_support", supporting(stock))


_register_start_method()
