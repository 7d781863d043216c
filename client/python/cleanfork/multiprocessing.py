"""The start method "cleanfork" of multiprocessing, and its stand-in for "forkserver".

    ctx = cleanfork.get_context(preload=["numpy"], warm=4)
    with ctx.Pool() as pool: ...

    import cleanfork; multiprocessing.set_start_method("cleanfork")
    cleanfork.install()      # programs that ask for "forkserver" get this

Processes are children of a template: an interpreter with the main module and the
preloads imported. They get the caller's environment, directory, umask and limits of now.
"""

from __future__ import annotations

from cleanfork._mp.context import (
    CleanforkContext,
    CleanforkProcess,
    get_context,
    register,
    registered,
)

__all__ = ["CleanforkContext", "CleanforkProcess", "get_context", "install", "register", "reload"]


def install() -> None:
    """From now on the start method "forkserver" is served by cleanfork."""
    from cleanfork._mp import drop_in

    register()
    drop_in.install()


def reload() -> None:
    """Reloads the template of the registered start method."""
    registered.reload()
