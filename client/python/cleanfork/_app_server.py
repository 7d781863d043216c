"""python3 -m cleanfork.prefork [OPTION]... MODULE:APP

Serves an ASGI or WSGI application by worker processes, each with uvicorn. The application is
imported once, in a template that has no threads, and its workers are forked from there. SIGHUP
imports it anew and replaces the workers without losing a request; SIGTERM and SIGINT let them
finish what they do; SIGTTIN and SIGTTOU make them one more or one less.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import os
import socket
import stat
import sys
from typing import Any

from cleanfork._limits import Limits
from cleanfork._supervisor import Supervisor
from cleanfork.multiprocessing import get_context

_BACKLOG = 2048


def _listen(address: str) -> socket.socket:
    if address.startswith("fd://"):
        return socket.socket(fileno=os.dup(int(address[5:])))
    if address.startswith("unix:"):
        path = address[5:]
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.unlink(path)  # of one that was killed
        one = socket.socket(socket.AF_UNIX)
        one.bind(path)
        one.listen(_BACKLOG)
        return one
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("it is HOST:PORT, unix:PATH or fd://NUMBER")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)


def _name(one: socket.socket) -> str:
    where: Any = one.getsockname()
    if not isinstance(where, tuple):
        return f"unix:{os.fsdecode(where)}"
    return f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("it is NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m cleanfork.prefork", allow_abbrev=False,
        description="Serves an ASGI or WSGI application by worker processes, each with uvicorn. "
                    "SIGHUP imports it anew and replaces them without losing a request.")
    add = parser.add_argument
    add("app", metavar="MODULE:APP", help="the application")
    add("--bind", action="append", metavar="ADDRESS",
        help="HOST:PORT, unix:PATH or fd://NUMBER; may be repeated (default 127.0.0.1:8000)")
    add("--workers", type=int, default=os.cpu_count() or 1, metavar="N",
        help="default: one for each processor")
    add("--interface", choices=("auto", "asgi", "wsgi"), default="auto")
    add("--factory", action="store_true", help="MODULE:APP is called for the application")
    add("--threads", type=int, default=10, metavar="N",
        help="of each worker, for a WSGI application (10)")
    add("--app-dir", default="", metavar="PATH", help="where MODULE is (here)")
    add("--no-preload", action="store_true",
        help="each worker imports the application: for one whose imports start threads")
    add("--preload", action="append", default=[], metavar="MODULE",
        help="what else is imported once; may be repeated")
    add("--grace", type=float, default=30.0, metavar="SECONDS",
        help="until connections that do not end, such as websockets, are closed (30)")
    add("--max-requests", type=int, metavar="N", help="after which a worker is replaced")
    add("--max-requests-jitter", type=int, default=0, metavar="N")
    add("--max-pss", type=int, metavar="MIB",
        help="proportional memory at which a worker is replaced")
    add("--hang", type=float, metavar="SECONDS",
        help="a worker whose event loop does not turn for so long is ended")
    add("--certfile", metavar="PATH", help="TLS; read by each worker, so a reload takes a new one")
    add("--keyfile", metavar="PATH")
    add("--log-level", default="info")
    add("--no-access-log", action="store_true")
    add("--pid", metavar="PATH", help="a file for the process id, where to send signals")
    add("--set", action="append", default=[], type=_setting, metavar="NAME=VALUE",
        help="another argument of uvicorn.Config, such as timeout_keep_alive=75")
    return parser


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    settings = {"log_level": given.log_level, "access_log": not given.no_access_log,
                **dict(given.set)}
    if given.certfile is not None:
        settings |= {"ssl_certfile": given.certfile, "ssl_keyfile": given.keyfile}
    return settings


def _tell(line: str) -> None:
    print(f"cleanfork: {line}", file=sys.stderr, flush=True)


def _check(given: argparse.Namespace) -> None:
    needed = ["uvicorn"] + ["a2wsgi"] * (given.interface == "wsgi")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"cleanfork: this needs what is not installed: pip install {' '.join(missing)}")
    if ":" not in given.app:
        sys.exit(f"cleanfork: {given.app!r} is not MODULE:APP")


def _supervisor(given: argparse.Namespace, sockets: list[socket.socket]) -> Supervisor:
    module = given.app.partition(":")[0]
    preload = ["cleanfork._app_worker", *given.preload, *([] if given.no_preload else [module])]
    context = get_context(preload=preload)
    try:
        context.start()
    except RuntimeError as e:
        hint = ("" if given.no_preload or "not clean" not in str(e) else
                "\ncleanfork: with --no-preload each worker imports the application itself")
        sys.exit(f"cleanfork: {e}{hint}")
    from cleanfork._app_worker import Options, serve  # after what is missing was told

    options = Options(given.app, given.interface, given.factory, given.threads, given.grace,
                      given.max_requests is not None, _settings(given))
    limits = Limits(requests=given.max_requests, requests_jitter=given.max_requests_jitter,
                    pss=None if given.max_pss is None else given.max_pss << 20, hang=given.hang)
    return Supervisor(serve, given.workers, args=(sockets, options), context=context,
                      grace=given.grace, limits=limits, tell=_tell)


def main() -> None:
    given = _parser().parse_args()
    _check(given)
    sys.path.insert(0, os.path.abspath(given.app_dir))
    with contextlib.ExitStack() as ending:
        sockets = []
        for address in given.bind or ["127.0.0.1:8000"]:
            try:
                sockets.append(ending.enter_context(_listen(address)))
            except (OSError, ValueError) as e:
                sys.exit(f"cleanfork: --bind {address}: {e}")
            if address.startswith("unix:"):
                ending.callback(os.unlink, address[5:])
        try:
            supervisor = _supervisor(given, sockets)
        except ValueError as e:
            sys.exit(f"cleanfork: {e}")
        if given.pid is not None:
            with open(given.pid, "w") as file:
                file.write(f"{os.getpid()}\n")
            ending.callback(os.unlink, given.pid)
        _tell(f"{given.app} at {', '.join(map(_name, sockets))}, pid {os.getpid()}")
        supervisor.run()
