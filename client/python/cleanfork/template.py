"""A Python interpreter as a template, begun by _run_template.py.

It imports what its configuration says, once, and from then on every child is forked from
it with all of that in memory. The configuration is a pickle in a descriptor.
"""

from __future__ import annotations

import gc
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

from cleanfork import _compat
from cleanfork import _imported as imported
from cleanfork._cleanfork import serve_template
from cleanfork._seeds import Seeds

_CONTROL = "CLEANFORK_TEMPLATE"


def _import_main(config: dict[str, Any]) -> None:
    """The program's main module, as __mp_main__: once here, and not in each child."""
    from multiprocessing import spawn

    with _compat.Inheriting():
        spawn.prepare(config["main"])


def _preload(name: str, on_error: str) -> None:
    try:
        __import__(name)  # never a lazy import of PEP 810
    except ImportError as e:
        if on_error == "fail":
            raise
        if on_error == "warn":
            import warnings

            warnings.warn(f"cannot preload {name}: {e}", ImportWarning)


class _Semaphores:
    """Named semaphores of the imported modules, such as a Lock at module level.

    Children get them by the fork. Their names go at once: a tracker, which would see
    to that, is a process, and a template has none.
    """

    def __enter__(self) -> None:
        self._names: set[str] = set()
        self._send = _compat.divert_tracker(self._note)

    def _note(self, command: str, name: str, kind: str) -> None:
        if kind == "semaphore":
            (self._names.add if command == "REGISTER" else self._names.discard)(name)
        else:
            _compat.start_tracker_after_all()
            self._send(command, name, kind)

    def __exit__(self, *_: object) -> None:
        _compat.restore_tracker()
        _compat.unlink_semaphores(self._names)


class Host:
    """What the loop calls; see forkserver/template/host.hpp."""

    def __init__(self, config: dict[str, Any], control: int, lazy: str | None) -> None:
        self._config = config
        self._lazy = lazy
        self._control = control
        self._signals = imported.Signals()
        self._environment = imported.Environment()

    def entries(self) -> list[str]:
        return ["process"]

    def has_entry(self, name: str) -> bool:
        return name == "process"

    def initialize(self) -> None:
        try:
            self._load()
        except BaseException:
            # The caller gets one line; all of it goes where the template writes to.
            import traceback

            traceback.print_exc()
            raise

    def _load(self) -> None:
        # What every child needs is imported here, and never again: before the program's own
        # path is there, on which a file may have a name of the standard library.
        import multiprocessing.forkserver
        import multiprocessing.resource_tracker
        import multiprocessing.spawn  # noqa: F401

        import cleanfork.multiprocessing
        from cleanfork._mp import child

        seeds = Seeds()
        cleanfork.multiprocessing.register()
        if self._config.get("drop_in"):
            cleanfork.multiprocessing.install()
        if self._lazy is not None:
            _compat.set_lazy_imports(self._lazy)
        multiprocessing.spawn.prepare(self._config["preparation"])
        with _Semaphores():
            _import_main(self._config)
            for name in self._config["preload"]:
                _preload(name, self._config["on_error"])
        seeds.imported()
        self._seeds = seeds
        self._signals.imported()
        self._environment.imported()
        child.forget_exits()
        if self._is_as_prepared():
            child.prepared = self._config["common"]
        _compat.prepare_stdin()
        imported.tell_of_files(self._control)
        imported.tell_of_threads()
        # Children do not touch, and so do not copy, what the collector would mark.
        gc.collect()
        gc.freeze()

    def _is_as_prepared(self) -> bool:
        """The imports have left it as it is for each child."""
        import multiprocessing.process

        process: Any = multiprocessing.process
        data = pickle.loads(self._config["common"])  # that of prepare() is sys.path itself now
        now = {"sys_path": sys.path, "sys_argv": sys.argv,
               "orig_dir": process.ORIGINAL_DIR,
               "start_method": multiprocessing.get_start_method(allow_none=True)}
        return all(now.get(name) == value for name, value in data.items() if name in now)

    def rehearsal(self) -> Callable[[], None]:
        """Everything a child does for an empty target: see hot_pages.hpp."""
        from cleanfork._mp import child

        rehearse = child.rehearsal()

        def whole() -> None:
            self.in_child()
            self._environment.change()
            rehearse()

        return whole

    def in_child(self) -> None:
        self._signals.in_child()
        self._environment.in_child()
        self._seeds.in_child()
        for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
            if stream is not None and os.isatty(fd):
                terminal: Any = stream
                terminal.reconfigure(line_buffering=True)

    def run(self, entry: str, payload: memoryview, arguments: list[bytes],
            descriptors: dict[str, int], result_fd: int) -> int:
        from cleanfork._mp import child

        if not arguments:  # else it was given an environment of its own: exactly that
            self._environment.change()
        else:
            self._environment.leave()
        return child.run(payload, descriptors)

    def flush(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, ValueError, OSError):
                pass


def _configuration(fd: int) -> dict[str, Any]:
    # Read from its beginning: a template that is started again has the same open file.
    with open(fd, "rb") as file:
        return dict(pickle.loads(os.pread(fd, os.fstat(file.fileno()).st_size, 0)))


def main(lazy: str | None = None) -> int:
    """``lazy``: how the program has its imports, sys.get_lazy_imports() of Python 3.15 on."""
    control = os.environ.pop(_CONTROL, None)
    if control is None or len(sys.argv) != 2:
        print("cleanfork: only the forkserver starts a template", file=sys.stderr)
        return 2
    serve_template(int(control), Host(_configuration(int(sys.argv[1])), int(control), lazy))
    return 0
