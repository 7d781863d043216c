"""The parent's side of a process: its template, its start, and how it ended."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
import warnings
from multiprocessing import (context, forkserver, popen_fork, reduction, resource_tracker,
                             spawn, util)
from typing import Any

from cleanfork import _mp_child, _server
from cleanfork._cleanfork import INHERIT
from cleanfork._errors import SpawnError, StatusUnknown
from cleanfork._lifetime import KEEP, Lifetime
from cleanfork.multiprocessing import CleanforkContext, _registered

# How long a template that died may take to come back.
_PATIENCE = 10.0
_PACKAGE_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_ready: set[tuple[str, str]] = set()  # forkserver's instance, template's name
_parent_fd: tuple[int, int] | None = None  # pid, pidfd


# ---- templates


def _main_of_program() -> dict[str, Any]:
    data = spawn.get_preparation_data("template")
    main: dict[str, Any] = {}
    if "init_main_from_name" in data:
        main["main_name"] = data["init_main_from_name"]
    elif "init_main_from_path" in data and os.path.exists(data["init_main_from_path"]):
        main["main_path"] = data["init_main_from_path"]
    main["sys_path"] = data["sys_path"]
    main["sys_argv"] = data["sys_argv"]
    return main


def _time_stamp(path: str | None) -> list[int]:
    if path is None:
        return []
    try:
        s = os.stat(path)
    except OSError:
        return []
    return [s.st_mtime_ns, s.st_size, s.st_ino]


def _config(ctx: CleanforkContext) -> dict[str, Any]:
    config = _main_of_program()
    if "__main__" not in ctx.preload:
        config.pop("main_name", None)
        config.pop("main_path", None)
    config["preload"] = [name for name in ctx.preload if name != "__main__"]
    config["drop_in"] = ctx.drop_in or _installed
    return config


def _identity(ctx: CleanforkContext, config: dict[str, Any]) -> str:
    """Another interpreter, an edited main file or other preloads never share a template."""
    main = sys.modules.get("__main__")
    told = [
        sys.executable, sys.version, util._args_from_interpreter_flags(),
        {k: v for k, v in config.items() if k != "sys_argv"},
        _time_stamp(config.get("main_path") or getattr(main, "__file__", None)),
        ctx.warm, ctx.unclean,
    ]
    digest = hashlib.sha256(json.dumps(told).encode(errors="surrogateescape")).hexdigest()
    return f"python-{digest[:16]}"


def _add(client: Any, ctx: CleanforkContext, name: str, config: dict[str, Any]) -> None:
    env = dict(os.environ)
    env["PYTHONPATH"] = os.pathsep.join(
        p for p in (_PACKAGE_HOME, env.get("PYTHONPATH", "")) if p)
    args = [*util._args_from_interpreter_flags(), "-m", "cleanfork.template", json.dumps(config)]
    executable = os.fsdecode(spawn.get_executable())
    try:
        info = client.add_template(name, executable, args, warm=ctx.warm, env=env,
                                   tolerate_unclean=ctx.unclean == "warn", start_timeout=300.0)
    except SpawnError as e:
        raise _explained(client, name, e) from None
    current = [g for g in info["generations"] if g["generation"] == info["generation"]]
    if current and current[0]["unclean"]:
        warnings.warn(f"children of this template may break: it has {current[0]['unclean']}",
                      RuntimeWarning, stacklevel=4)


def _explained(client: Any, name: str, e: SpawnError) -> Exception:
    try:
        tail = client.template_info(name)["stderr_tail"].strip()
    except SpawnError:
        tail = ""
    if e.step == "clean":
        why = (f"the template of Python processes is not clean: {e.detail}; a preload or the "
               "main module starts that when it is imported: start it under "
               "if __name__ == '__main__', or say unclean='warn'")
    else:
        why = f"the template of Python processes did not start: {e}"
    return RuntimeError(f"{why}\n{tail}" if tail else why)


def ensure_template(ctx: CleanforkContext) -> tuple[Any, str]:
    client = _server.client()
    config = _config(ctx)
    name = _identity(ctx, config)
    key = (client.server["instance"], name)
    if key not in _ready:
        try:
            known = client.template_info(name)["state"] in ("ready", "starting")
        except SpawnError as e:
            if e.step != "template_name":
                raise
            known = False
        if not known:
            _add(client, ctx, name, config)
        _ready.add(key)
    return client, name


def reload_template(ctx: CleanforkContext) -> None:
    client, name = ensure_template(ctx)
    try:
        client.reload_template(name)
    except SpawnError as e:
        raise _explained(client, name, e) from None


# ---- processes


def _own_pidfd() -> int:
    """Readable once this process has ended: what parent_process() waits for."""
    global _parent_fd
    if _parent_fd is None or _parent_fd[0] != os.getpid():
        _parent_fd = os.getpid(), os.pidfd_open(os.getpid())
    return _parent_fd[1]


class _DupFd:
    def __init__(self, index: int) -> None:
        self.index = index

    def detach(self) -> int:
        fds = forkserver.get_inherited_fds()
        assert fds is not None
        return int(fds[self.index])


def _extra(ctx: CleanforkContext) -> dict[str, Any]:
    extra: dict[str, Any] = {"child_hook": ctx.child_hook, "warnings": warnings.filters}
    handler = sys.modules.get("faulthandler")
    if handler is not None and handler.is_enabled():
        extra["faulthandler"] = True
    try:
        reduction.pickle.dumps(extra["warnings"])
    except Exception:  # a filter for a class that cannot be pickled
        extra["warnings"] = None
    return extra


class Popen(popen_fork.Popen):
    method = "cleanfork"
    DupFd = _DupFd

    def __init__(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        self._process: Any = None
        self.timing: dict[str, float] = {}
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        self._fds.append(fd)
        return len(self._fds) - 1

    def _pickled(self, process_obj: Any, ctx: CleanforkContext) -> memoryview:
        data = spawn.get_preparation_data(process_obj._name)
        buffer = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(data, buffer)
            reduction.dump(_extra(ctx), buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        return buffer.getbuffer()

    def _launch(self, process_obj: Any) -> None:
        begun = time.monotonic()
        ctx = getattr(process_obj, "_cleanfork_context", None) or _context_of_method(self.method)
        payload = self._pickled(process_obj, ctx)
        pickled = time.monotonic()
        attributes: dict[str, Any] = {"stdout": INHERIT, "stderr": INHERIT, **ctx.attributes,
                                      **getattr(process_obj, "_cleanfork_attributes", {})}
        if "lifetime" not in attributes:
            dies = process_obj.daemon or ctx.die_with_parent
            attributes["lifetime"] = Lifetime() if dies else KEEP
        named = {str(i): fd for i, fd in enumerate(self._fds[: _mp_child.FDS_AT_ONCE])}
        named[_mp_child.PARENT] = _own_pidfd()
        named[_mp_child.TRACKER] = resource_tracker.getfd()
        more = None
        if len(self._fds) > _mp_child.FDS_AT_ONCE:
            more = _mp_child.send_more(self._fds[_mp_child.FDS_AT_ONCE :])
            named[_mp_child.MORE] = more.fileno()
        try:
            self._process = _call(ctx, payload, named, attributes)
        finally:
            if more is not None:
                more.close()
        self.pid = self._process.pid
        self.sentinel = self._process.pidfd
        self.finalizer = None
        now = time.monotonic()
        self.timing = {"pickle": pickled - begun, "start": now - pickled}

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        if self.returncode is None:
            status = self._process.poll() if flag == os.WNOHANG else self._process.wait()
            if status is not None:
                if status.unknown:
                    raise StatusUnknown(status.why)
                self.returncode = status.code if status.exited else -status.signal
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            try:
                self._process.signal(sig)
            except (ProcessLookupError, SpawnError):
                pass

    @property
    def rusage(self) -> Any:
        import resource

        return resource.struct_rusage(self._process.usage)


def _call(ctx: CleanforkContext, payload: memoryview, named: dict[str, int],
          attributes: dict[str, Any]) -> Any:
    give_up = time.monotonic() + _PATIENCE
    while True:
        client, name = ensure_template(ctx)
        session = client.open_session()
        try:
            return client.call(name, "process", payload,
                               named_fds={**named, _mp_child.SESSION: session},
                               like_caller=True, **attributes)
        except SpawnError as e:
            _ready.discard((client.server["instance"], name))
            # The template, or the forkserver, died: it is on its way back.
            if e.step not in ("fork", "template_name", "connect") or time.monotonic() > give_up:
                raise
            time.sleep(0.02)
        finally:
            os.close(session)


# ---- the name "forkserver"

_installed = False
_drop_in = CleanforkContext()
_drop_in.drop_in = True


def _context_of_method(method: str) -> CleanforkContext:
    return _drop_in if method == "forkserver" else _registered


class _DropInPopen(Popen):
    method = "forkserver"


def _ensure_running() -> None:
    resource_tracker.ensure_running()
    client, name = ensure_template(_drop_in)
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    for g in client.template_info(name)["generations"]:
        if g["pid"] > 0:
            server._forkserver_pid = g["pid"]


def _set_preload(modules_names: list[str]) -> None:
    if not all(type(name) is str for name in modules_names):
        raise TypeError("module_names must be a list of strings")
    _drop_in.preload = tuple(modules_names)


def _stop() -> None:
    _server.stop()
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    server._forkserver_pid = None


def install() -> None:
    global _installed
    if _installed:
        return
    _installed = True
    import multiprocessing.popen_forkserver as stock

    stock.Popen = _DropInPopen  # type: ignore[assignment, misc]
    server: Any = forkserver._forkserver  # type: ignore[attr-defined]
    server.ensure_running = forkserver.ensure_running = _ensure_running
    server.set_forkserver_preload = forkserver.set_forkserver_preload = _set_preload
    server._stop = server._stop_unlocked = _stop
