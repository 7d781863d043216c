"""Which template a process comes from: looked up, started, explained when it fails."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import select
import sys
import time
import warnings
from multiprocessing import reduction, spawn
from threading import RLock
from typing import Any

from cleanfork import _compat, _frozen, _server
from cleanfork._cleanfork import current_umask, ignored_signals
from cleanfork._errors import SpawnError
from cleanfork._mp import by_value, pickling, protocol
from cleanfork._server import HOME
from cleanfork._mp.protocol import Options

# Seconds that a template which died may take to come back, and from one look to the next.
_PATIENCE = 10.0
_PAUSE = 0.02

_SCRIPT = os.path.join(HOME, "_run_template.py")
_CONFIG_NUMBER = 3  # the descriptor that a template has its configuration in

# The standard library and this package: nobody edits them, nor site-packages, under a program.
_INSTALLED = (os.path.dirname(os.__file__) + "/", HOME + "/")

# Of one session: those used least recently are removed when there are more.
_MOST = 16

_Key = tuple[str, str]  # forkserver's instance, template's name
_Files = dict[str, tuple[int, int, int] | None]

# Those that are ready or on their way, and the files they were made of.
_ready: dict[_Key, _Files] = {}
# Those that this process has added, the one used least recently first.
_added: dict[_Key, None] = {}
_lock = RLock()  # reentrant for signal handlers that start a process
installed = False  # the start method "forkserver" is served by cleanfork


def _forget() -> None:
    global _lock
    _lock = RLock()
    _ready.clear()
    _added.clear()


os.register_at_fork(after_in_child=_forget)


def _complete_main() -> None:
    """What the standard function needs of the main module, and is not always there."""
    main: Any = sys.modules["__main__"]
    if not hasattr(main, "__spec__"):  # pdb has made it
        main.__spec__ = None
    path = getattr(getattr(main, "__loader__", None), "path", None)
    if path is not None and not hasattr(main, "__file__"):  # it has ended: threads, atexit
        main.__file__ = path


def _others_can_read(path: str) -> bool:
    return os.path.isfile(path) and not path.startswith(("/dev/fd/", "/proc/self/fd/"))


def preparation_data(name: str) -> dict[str, Any]:
    """As multiprocessing's, without a main module that cannot be imported."""
    _complete_main()
    data: dict[str, Any]
    try:
        data = spawn.get_preparation_data(name)
    except FileNotFoundError:
        # The child has the directory as it is, by the request.
        data = _compat.preparation_data_without_directory(name)
        data["sys_path"] = [entry for entry in data["sys_path"] if entry is not None]
    module = data.get("init_main_from_name")
    if module is not None and (module == "__main__" or module.endswith(".__main__")):
        del data["init_main_from_name"]  # of a directory or an archive: it has no guard
    path = data.get("init_main_from_path")
    if path is not None and (_frozen.is_frozen() or not _others_can_read(path)):
        del data["init_main_from_path"]  # "<stdin>", or a pipe
    return data


def has_main(data: dict[str, Any]) -> bool:
    # A frozen program is run again, as the template, up to freeze_support().
    return _frozen.is_frozen() or "init_main_from_name" in data or "init_main_from_path" in data


# What is of each process, or comes with the request.
_OF_PROCESS = ("name", "authkey", "log_to_stderr", "log_level", "dir")
# Of the preparation data, what is to be imported as the main module.
_MAIN = ("init_main_from_name", "init_main_from_path")

_last_common: tuple[dict[str, Any], bytes] = ({}, b"")


def _pickled(common: dict[str, Any]) -> bytes:
    """The same bytes as the last time, while nobody changes it."""
    global _last_common
    last, pickled = _last_common
    if last != common:
        kept = {k: list(v) if isinstance(v, list) else v for k, v in common.items()}
        pickled = bytes(reduction.ForkingPickler.dumps(common))
        _last_common = kept, pickled
    return pickled


class Preparation:
    """The preparation data in two parts: what is of one process, and what a template, which was
    made with it, has done already. The directory comes with the request.
    """

    def __init__(self, options: Options, data: dict[str, Any]) -> None:
        of_process = _OF_PROCESS if options.main else (*_OF_PROCESS, *_MAIN)
        self.own = {k: v for k, v in data.items() if k in of_process and k != "dir"}
        self.common = _pickled({k: v for k, v in data.items() if k not in of_process})
        self.has_main = has_main(data)


by_value.main_is_importable = lambda: has_main(preparation_data("pickler"))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        s = os.stat(path)
    except (OSError, ValueError):
        return None
    return s.st_mtime_ns, s.st_size, s.st_ino


def _files(options: Options, main: dict[str, Any]) -> _Files:
    """The main module's, and those of the program's own modules, which it imports.

    A preload stays as it is until reload(), as with the standard method.
    """
    if not main:
        return {}
    path = main.get("init_main_from_path") or getattr(sys.modules["__main__"], "__file__", None)
    found = {path or ""}
    kept = tuple(f"{name}." for name in options.preload)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if (isinstance(file, str) and not file.startswith(_INSTALLED) and "-packages/" not in file
                and not f"{name}.".startswith(kept)):
            found.add(file)
    return {file: _stamp(file) for file in found}


def _edited(files: _Files) -> bool:
    return any(_stamp(file) != stamp for file, stamp in files.items())


def _config(options: Options, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "common": Preparation(options, data).common,
        "preparation": {k: v for k, v in data.items() if k not in (*_MAIN, *_OF_PROCESS)},
        "main": {k: data[k] for k in _MAIN if options.main and k in data},
        "preload": [name for name in (*options.preload, options.pickler,
                                      "cleanfork._mp.logs" if options.logging else None)
                    if name not in ("__main__", None)],
        "on_error": options.on_error,
        "drop_in": installed,
    }


def _identity(options: Options, data: dict[str, Any], config: dict[str, Any]) -> str:
    """Of one program: another interpreter, another main module or other preloads are another.

    What has changed since in its variables, arguments or path is for the children, which get
    them as they are. Programs share what has a name, if its imports could see no difference.
    """
    told = [
        os.fsdecode(spawn.get_executable()), sys.version, _compat.interpreter_flags(),
        config["main"], config["preload"], config["on_error"], config["drop_in"], options.warm,
        options.unclean, options.shared,
    ]
    if options.shared is None:
        return _digest([protocol.program(), *told])
    known = protocol.shared_identities
    seen = [
        [str(entry) for entry in data["sys_path"]], data["sys_argv"], data["dir"],
        sorted(os.environb.items()), current_umask(), os.getresuid(), os.getresgid(),
        os.getgroups(), sorted(ignored_signals()), sorted(_files(options, config["main"]).items()),
    ]
    return known.setdefault(_digest(told), _digest([*told, *seen]))


def _digest(told: list[Any]) -> str:
    return f"python-{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}"


def _current(info: dict[str, Any]) -> dict[str, Any] | None:
    """The generation that calls go to; it is ready."""
    number = info["generation"]
    return next((g for g in info["generations"] if g["generation"] == number), None)


def _add(client: Any, options: Options, name: str, config: dict[str, Any], anew: bool) -> bool:
    """Adds it and waits until it is ready; false when another has added it, unless `anew`."""
    executable = os.fsdecode(spawn.get_executable())
    how = [_frozen.WORD] if _frozen.is_frozen() else [*_compat.interpreter_flags(), _SCRIPT]
    try:
        with pickling.in_memory(pickle.dumps(config)) as file:
            info = client.add_template(name, executable, [*how, str(_CONFIG_NUMBER)],
                                       fds={_CONFIG_NUMBER: file},
                                       like_caller=True, warm=options.warm, start_timeout=300.0,
                                       tolerate_unclean=options.unclean == "warn",
                                       ends_with_session=options.shared is None,
                                       unless_there=not anew)
    except SpawnError as e:
        # No fault of the template.
        if not client.connected or e.errno == errno.ECANCELED or e.step == "identity":
            raise
        raise _explained(client, name, e) from None
    current = _current(info)
    if current is not None and current["unclean"] and not info["was_there"]:
        warnings.warn(f"children of this template may break: it has {current['unclean']}",
                      RuntimeWarning, stacklevel=4)
    return not info["was_there"]


# What keeps a library from having threads, by the name of its object file.
_THREADS = {"openblas": "OPENBLAS_NUM_THREADS=1", "libblas": "OPENBLAS_NUM_THREADS=1",
            "mkl": "MKL_NUM_THREADS=1", "omp": "OMP_NUM_THREADS=1", "torch": "OMP_NUM_THREADS=1",
            "numexpr": "NUMEXPR_NUM_THREADS=1"}


def _without_threads(detail: str) -> str:
    told = {variable for name, variable in _THREADS.items() if name in detail}
    words = f" with {' '.join(sorted(told))} in the environment," if told else ""
    return (f",{words} or import it in the child: leave it out of preload, and import it there in "
            "a function, or say main=False")


def _explained(client: Any, name: str, e: SpawnError) -> Exception:
    try:
        tail = client.template_info(name)["stderr_tail"].strip()
    except SpawnError:
        tail = ""
    if e.step == "clean":
        way_out = ("a preload or the main module starts that when it is imported: start it under "
                   "if __name__ == '__main__'")
        if "no /proc" in e.detail:
            way_out = "mount it"
        elif "extra thread" in e.detail:
            way_out += _without_threads(e.detail)
        why = (f"the template of Python processes is not clean: {e.detail}; {way_out}, "
               "or say unclean='warn'")
    else:
        # The end of what it wrote is the traceback.
        why = f"the template of Python processes did not start:{'' if tail else f' {e}'}"
    return RuntimeError(f"{why}\n{tail}" if tail else why)


class Patience:
    """Of one who needs what has died, a template or the forkserver: another is started."""

    def __init__(self) -> None:
        self._give_up: float | None = None

    def lasts(self) -> bool:
        """Waits for a moment; false when it has taken too long since the first time."""
        now = time.monotonic()
        if self._give_up is None:
            self._give_up = now + _PATIENCE
        if now > self._give_up:
            return False
        time.sleep(_PAUSE)
        return True


def ensure(options: Options, data: dict[str, Any], anew: bool = False) -> tuple[Any, str]:
    """The session, and the name of a template that is ready or on its way.

    ``data``: the preparation data of now, which tell what it imports. ``anew``: also when
    there is one, of which the new one takes the place.
    """
    if _frozen.was_asked():
        raise RuntimeError(
            "this frozen program was started again, to be the template of its processes, and began "
            "its work anew: call cleanfork.freeze_support() first under if __name__ == '__main__'")
    config = _config(options, data)
    name = _identity(options, data, config)
    patience = Patience()
    while True:
        client = _server.client()
        key = (client.server["instance"], name)
        try:
            if anew or not _is_current(key):
                with _lock:
                    if anew or not _is_current(key):
                        _ensure(client, options, key, config, anew)
            _use(key)
            return client, name
        except SpawnError as e:
            # It may have been another's, who took it along at its end.
            if (client.connected and e.errno != errno.ECANCELED) or not patience.lasts():
                raise


def _is_current(key: _Key) -> bool:
    files = _ready.get(key)
    return files is not None and not _edited(files)


def _ensure(client: Any, options: Options, key: _Key, config: dict[str, Any], anew: bool) -> None:
    files = _files(options, config["main"])
    added = _add(client, options, key[1], config, anew or key in _ready)
    if added and options.shared is None:
        _added[key] = None
        _remove_least_used(client, key)
    _ready[key] = files


def _use(key: _Key) -> None:
    # Not worth waiting for one who starts a template.
    if len(_added) > 1 and _lock.acquire(blocking=False):
        if key in _added:
            del _added[key]
            _added[key] = None
        _lock.release()


def _remove_least_used(client: Any, newest: _Key) -> None:
    mine = [key for key in _added if key[0] == newest[0]]
    for key in mine[:-_MOST]:
        _added.pop(key, None)
        _ready.pop(key, None)  # before it is gone: whoever needs it adds it again
        try:
            client.remove_template(key[1])
        except SpawnError:  # somebody else did
            pass


def look_again(client: Any, name: str) -> None:
    """The template may be gone: the next ensure() asks."""
    _ready.pop((client.server["instance"], name), None)


def ready_pid(options: Options) -> int:
    """The process that children are forked from now: of the generation that is ready.

    One that has ended, which the forkserver notices in a moment, is not named.
    """
    data = preparation_data("template")
    patience = Patience()
    while True:
        client, name = ensure(options, data)
        try:
            info = client.template_info(name)
        except SpawnError:  # the forkserver was lost: ensure() starts another, or tells why not
            info = {"state": "lost", "generation": 0, "generations": []}
        current = _current(info)
        if current is not None and not _has_ended(current["pid"]):
            return int(current["pid"])
        look_again(client, name)
        if info["state"] == "starting":
            patience = Patience()  # its imports may take longer
        if not patience.lasts():
            raise RuntimeError("the template of Python processes ends as soon as it is ready")


def _has_ended(pid: int) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        return bool(ended.poll(0))
    finally:
        os.close(pidfd)


def reload(options: Options) -> None:
    ensure(options, preparation_data("template"), anew=True)
