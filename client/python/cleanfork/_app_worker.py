"""A worker of python3 -m cleanfork.prefork: an application in uvicorn, drained without a loss.

Imported by the template, so that uvicorn is there once for all workers.
"""
# mypy: disable-error-code="import, misc"

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import uvicorn
from uvicorn.importer import import_from_string

from cleanfork._worker import Worker

# What the servers of its choice need, in the template; each may be missing.
for _name in ("uvicorn.lifespan.on", "uvicorn.logging", "uvicorn.loops.auto",
              "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto", "uvloop",
              "uvicorn.middleware.proxy_headers", "a2wsgi"):
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)

# Seconds: from one look to the next, and what is left of the grace for the end itself.
_LOOK_AGAIN = 0.05
_FOR_THE_END = 2.0


class Options(NamedTuple):
    """What the command line said, for each worker."""

    app: str
    interface: str
    factory: bool
    threads: int
    grace: float
    counted: bool  # requests, for Limits.requests
    settings: dict[str, Any]  # of uvicorn.Config


def interface_of(app: Any) -> str:
    """"wsgi" for what is called with an environment and a function, else uvicorn finds out."""
    called = app if inspect.isfunction(app) or inspect.isclass(app) else type(app).__call__
    if inspect.iscoroutinefunction(called) or hasattr(app, "__await__"):
        return "asgi"
    try:
        parameters = list(inspect.signature(app).parameters.values())
    except (TypeError, ValueError):
        return "asgi"
    needed = [p for p in parameters if p.default is p.empty
              and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return "wsgi" if len(needed) == 2 else "asgi"


def _counted(app: Any, worker: Worker) -> Any:
    async def counted(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                worker.served()

    return counted


def _application(worker: Worker, options: Options) -> tuple[Any, dict[str, Any]]:
    app = import_from_string(options.app)
    settings: dict[str, Any] = {"interface": "auto", **options.settings}
    if options.factory:
        app = app()
    interface = interface_of(app) if options.interface == "auto" else options.interface
    if interface == "wsgi":
        from a2wsgi import WSGIMiddleware

        app = WSGIMiddleware(app, workers=options.threads)
        settings |= {"interface": "asgi3", "lifespan": "off"}
    if options.counted:
        app = _counted(app, worker)
        settings["interface"] = "asgi3"
    return app, settings


class _Server(uvicorn.Server):
    """Signals are the worker's, and it is ready when this has started."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


async def _drain(server: _Server, grace: float) -> None:
    """No new connection, and the end of each at its next answer, or when it has been idle.

    The listening socket is the supervisor's: what waits in it is for the others. To close a
    connection that is idle would lose the request that is on its way.
    """
    for each in server.servers:
        each.close()
    close = (b"connection", b"close")
    server.config.encoded_headers.append(close)
    server.server_state.default_headers = [*server.server_state.default_headers, close]
    loop = asyncio.get_running_loop()
    give_up = loop.time() + grace
    # One that was accepted in this turn of the loop is not among them before the next.
    await asyncio.sleep(_LOOK_AGAIN)
    while server.server_state.connections and loop.time() < give_up:
        await asyncio.sleep(_LOOK_AGAIN)
    # Those that are left: idle ones end, a websocket is closed with 1012, "service restart".
    server.should_exit = True


async def _serve(worker: Worker, sockets: list[socket.socket], options: Options) -> None:
    app, settings = _application(worker, options)
    config = uvicorn.Config(app, timeout_graceful_shutdown=int(_FOR_THE_END), **settings)
    server = _Server(config, worker.ready)

    async def drain() -> None:
        await worker.wait_async()
        await _drain(server, max(options.grace - _FOR_THE_END, 0))

    draining = asyncio.ensure_future(drain())
    await server.serve(sockets)
    draining.cancel()


def serve(worker: Worker, sockets: list[socket.socket], options: Options) -> None:
    """The target of a worker."""
    settings = {k: v for k, v in options.settings.items() if k == "loop"}
    make = uvicorn.Config(options.app, **settings).get_loop_factory()
    loop = make() if make is not None else asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_serve(worker, sockets, options))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
