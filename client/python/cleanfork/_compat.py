"""All that is private in CPython and used here: no other file of the package names any of it.

Beside each: what it is there for, and the versions, 3.10 to 3.15, in which it differs, with the
change that did it. What has no version beside it is the same in all. Where a version has a public
way, that is taken. Modules are loaded by the functions that need them: `import cleanfork` is cheap.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What classes of the package have of their bases: used through self, or put in its place.
# tests/python/test_compat.py looks each up in the interpreter that it runs on.
INHERITED: dict[str, tuple[str, ...]] = {
    # _execute_child: `process_group` is its last argument from 3.11 on.
    "subprocess.Popen": (
        "_execute_child", "_internal_poll", "_wait", "_communicate", "_close_pipe_fds",
        "_child_created", "_communication_started", "_sigint_wait_secs"),
    # _launch: runs atexit's functions in the child from 3.13 on (gh-83856); here run_exits() does.
    # interrupt(), which is public, goes by _send_signal from 3.14 on (gh-131913).
    "multiprocessing.popen_fork.Popen": ("_launch", "_send_signal"),
    "multiprocessing.process.BaseProcess": ("_Popen", "_popen", "_target"),
    "multiprocessing.context.SpawnProcess": ("_start_method", "_Popen", "_after_fork"),
    "multiprocessing.context.ForkServerContext": ("_name",),
    # Signals go by os.kill() from 3.13 on (gh-87744), which may hit another
    # process (gh-127049), so send_signal() and its like are ours.
    "asyncio.base_subprocess.BaseSubprocessTransport": (
        "_start", "_wait", "_process_exited", "_check_proc", "_loop", "_proc", "_returncode"),
}


# ---- the interpreter

def is_safe_path() -> bool:
    """-P, of 3.11 on (gh-57684); -I means it in all versions."""
    return bool(getattr(sys.flags, "safe_path", sys.flags.isolated))


def add_note(e: BaseException, note: str) -> None:
    """add_note() is of 3.11 on (PEP 678); before it the note is a part of the error's words."""
    if sys.version_info >= (3, 11):
        e.add_note(note)
    elif isinstance(e, OSError):
        e.strerror = f"{e.strerror}; {note}"


def set_lazy_imports(how: str) -> None:
    """Of 3.15 on (PEP 810)."""
    if sys.version_info >= (3, 15):
        sys.set_lazy_imports(how)


def signal_setter() -> Callable[[int, Any], Any]:
    """signal.signal() without its enumerations, which a forked child would copy pages for."""
    setter: Callable[[int, Any], Any] = __import__("_signal").signal
    return setter


def interpreter_flags() -> list[str]:
    import subprocess

    module: Any = subprocess
    return list(module._args_from_interpreter_flags())


def run_module_as_main(name: str, **options: Any) -> None:
    """As -m does; run_module() of runpy leaves another main module behind."""
    import runpy

    module: Any = runpy
    module._run_module_as_main(name, **options)


def set_environ(variables: dict[bytes, bytes]) -> None:
    """os.environ as C has it already; reload_environ() is of 3.14 on (gh-120057)."""
    import os

    if sys.version_info >= (3, 14):
        return os.reload_environ()
    data: Any = os.environ
    data._data.clear()
    data._data.update(variables)


def forget_exits() -> None:
    """What was registered with atexit and weakref.finalize so far is for this process not to do."""
    import atexit
    import weakref

    exits: Any = atexit
    exits._clear()
    finalize: Any = weakref.finalize
    for each in finalize._registry.values():
        each.atexit = False
    finalize._registered_with_atexit = False  # the first one of this process does it again


def run_exits() -> None:
    import atexit

    exits: Any = atexit
    exits._run_exitfuncs()
    _util()._flush_std_streams()


def target_of(thing: Any) -> Any:
    """The function of a Thread or a Process."""
    return getattr(thing, "_target", None)


def global_random() -> Any:
    """The Random that the functions of the module random are methods of."""
    import random

    module: Any = random
    return module._inst


def forget_drawn_node() -> None:
    """Of uuid: a node that is no address of hardware was drawn, and is another process's."""
    uuid: Any = sys.modules.get("uuid")
    if uuid is not None and uuid._node is not None and uuid._node & 1 << 40:
        uuid._node = None


# ---- subprocess and asyncio

def communicate_by(selector: Any, kind: Any, popen: Any) -> Any:
    """_communicate() of the class `kind`, bound to `popen`, which waits with this selector.

    From 3.15 on its loop is a function beside it (gh-47798).
    """
    from types import FunctionType

    function = kind._communicate
    names = {**function.__globals__, "_PopenSelector": selector}
    loop: Any = names.get("_communicate_io_posix")
    if loop is not None:
        names["_communicate_io_posix"] = FunctionType(
            loop.__code__, names, loop.__name__, loop.__defaults__)
        names["_communicate_io_posix"].__kwdefaults__ = loop.__kwdefaults__
    return FunctionType(function.__code__, names).__get__(popen)


def keep_what_was_read(popen: Any) -> None:
    """The next communicate() goes on from it."""
    popen._communication_started = True


def transport_of(process: Any) -> Any:
    return process._transport


def stream_limit() -> int:
    from asyncio import streams

    return int(getattr(streams, "_DEFAULT_LIMIT", 2**16))


# ---- multiprocessing

def _util() -> Any:
    from multiprocessing import util

    return util


class _Contexts(dict):  # type: ignore[type-arg]
    """multiprocessing's, and ours when it is asked for: it is not among those that are listed.

    get_all_start_methods() is a constant before 3.14, and these names from then on: a program that
    tries each of them gets Python's own in all versions.
    """

    make: Any = None

    def __missing__(self, name: str) -> Any:
        if name != "cleanfork":
            raise KeyError(name)
        return self.make()


def know_start_method(context: Any, make: Callable[[], object]) -> None:
    """multiprocessing.context finds "cleanfork": what `make` returns, at the first need."""
    if not isinstance(context._concrete_contexts, _Contexts):
        context._concrete_contexts = _Contexts(context._concrete_contexts)
    context._concrete_contexts.make = make


def set_default_context(chosen: Any) -> None:
    """Of a program that chooses none; stock it is "fork", and "forkserver" from 3.14 on
    (gh-84559)."""
    from multiprocessing import context

    default: Any = context
    default._default_context._default_context = chosen


class Inheriting:
    """Unpickling what a process is made of: authentication keys, locks and queues may be."""

    def __enter__(self) -> None:
        from multiprocessing import process

        self._process: Any = process.current_process()
        self._process._inheriting = True

    def __exit__(self, *_: object) -> None:
        del self._process._inheriting


def bootstrap(process: Any, parent_sentinel: int) -> int:
    """Runs util._exit_function() itself up to 3.12; from 3.13 on atexit does (gh-83856)."""
    return int(process._bootstrap(parent_sentinel))


def register_exit_function() -> None:
    """For 3.13 on; before it has been run by then, and does nothing the second time."""
    import atexit

    atexit.register(_util()._exit_function)


def prepare_stdin() -> None:
    """_bootstrap() closes it and opens /dev/null: here once for all children, which have
    /dev/null as their descriptor 0 anyway, unless they keep_stdin()."""
    if sys.stdin is None:
        return
    nothing = open(0, encoding="utf-8", closefd=False)

    def close_stdin() -> None:
        sys.stdin = nothing

    _util()._close_stdin = close_stdin


def keep_stdin() -> None:
    """_bootstrap() would put /dev/null in its place."""
    _util()._close_stdin = lambda: None


def extra_reducers() -> dict[type, Any]:
    """What register() of ForkingPickler has been given."""
    from multiprocessing.reduction import ForkingPickler

    pickler: Any = ForkingPickler
    reducers: dict[type, Any] = pickler._extra_reducers
    return reducers


def preparation_data_without_directory(name: str) -> dict[str, Any]:
    """get_preparation_data() asks for the directory; for a program whose directory is gone."""
    import os
    from multiprocessing import spawn
    from types import FunctionType, SimpleNamespace

    nowhere = SimpleNamespace(path=os.path, getcwd=lambda: "")
    function = FunctionType(spawn.get_preparation_data.__code__, {**vars(spawn), "os": nowhere})
    data: dict[str, Any] = function(name)
    return data


# ---- the forkserver and the resource tracker of multiprocessing

def _forkserver() -> Any:
    from multiprocessing import forkserver

    module: Any = forkserver
    return module._forkserver


def set_inherited_fds(fds: list[int]) -> None:
    """What get_inherited_fds() returns."""
    _forkserver()._inherited_fds = fds


def set_forkserver_pid(pid: int | None) -> None:
    """Nothing of ours reads it: CPython's own tests and programs like them do."""
    _forkserver()._forkserver_pid = pid


def replace_forkserver(ensure_running: Any, set_preload: Any, stop: Any) -> None:
    """_stop_unlocked: what the finalizers of tests call. _forkserver_authkey, of 3.14 on
    (gh-97514), is for connect_to_new_process(), which nobody calls then."""
    from multiprocessing import forkserver

    server = _forkserver()
    server.ensure_running = forkserver.ensure_running = ensure_running
    server.set_forkserver_preload = forkserver.set_forkserver_preload = set_preload
    server._stop = server._stop_unlocked = stop


def tracker() -> Any:
    from multiprocessing import resource_tracker

    module: Any = resource_tracker
    return module._resource_tracker


def use_tracker(fd: int) -> None:
    """The one of the parent: what its writing end is."""
    tracker()._fd = fd


def tracker_lives(one: Any) -> bool:
    try:
        return one._fd is not None and bool(one._check_alive())
    except TypeError:  # another thread has just found out that it does not
        return False


def tracker_is_in_use(one: Any) -> bool:
    """By this thread: the lock is an RLock, and a second entry an error, from 3.12 on and
    in 3.11.6 and later (gh-109593); before it is a Lock, on which that would hang."""
    return bool(getattr(one._lock, "_is_owned", bool)())


def start_tracker_before_sends() -> None:
    """_send() calls ensure_running(), but from 3.14 on, and from 3.13.7 (gh-131788), what is
    within that: it is not called there, and so not by us."""
    from multiprocessing.resource_tracker import ResourceTracker

    kind: Any = ResourceTracker
    stock = kind._send
    if not hasattr(kind, "_ensure_running_and_write"):
        return

    def send(one: Any, command: str, name: str, rtype: str) -> None:
        if one._fd is None and not tracker_is_in_use(one):
            one.ensure_running()
        stock(one, command, name, rtype)

    kind._send = send


def divert_tracker(note: Callable[[str, str, str], None]) -> Callable[[str, str, str], None]:
    """`note` gets what was to be sent until restore_tracker(), and no process is started for it.

    register() and unregister() send by this in all versions. Returns the function that sends.
    """
    one = tracker()
    send: Callable[[str, str, str], None] = one._send
    one._send = note
    one.ensure_running = lambda: None
    return send


def start_tracker_after_all() -> None:
    tracker().__dict__.pop("ensure_running", None)


def restore_tracker() -> None:
    start_tracker_after_all()
    del tracker()._send


def unlink_semaphores(names: set[str]) -> None:
    if names:
        module: Any = __import__("_multiprocessing")
        for name in names:
            module.sem_unlink(name)
