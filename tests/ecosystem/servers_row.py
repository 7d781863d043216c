"""uvicorn and gunicorn, and the same application by python3 -m cleanfork.prefork."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time

import told
from parts.load import Load, answer

TITLE = "uvicorn, gunicorn (ASGI and WSGI)"
PACKAGES = ["uvicorn", "gunicorn", "uvicorn-worker", "fastapi", "a2wsgi", "websockets", "uvloop",
            "httptools"]
SHORT_PACKAGES = ["uvicorn", "fastapi", "a2wsgi", "websockets"]
METHODS = ["uvicorn", "gunicorn", "cleanfork"]
SHORT_METHODS = ["cleanfork"]
ROUNDS = 1
LINE = "`python3 -m cleanfork.prefork --workers 4 app:app`"
WHAT = "4 workers with FastAPI, until all answer: "
DIFFERENT = ("3 reloads under load: {cleanfork[lost]:.0f} of {cleanfork[answered]:.0f} requests lost, "
             "uvicorn {uvicorn[lost]:.0f} of {uvicorn[answered]:.0f}, gunicorn "
             "{gunicorn[lost]:.0f} of {gunicorn[answered]:.0f}; WSGI (a2wsgi; gunicorn: gthread): "
             "{cleanfork[wsgi_lost]:.0f}, {uvicorn[wsgi_lost]:.0f}, {gunicorn[wsgi_lost]:.0f}. A "
             "websocket over a reload: {cleanfork[websocket]}; uvicorn: {uvicorn[websocket]}; "
             "gunicorn: {gunicorn[websocket]}. gunicorn was run with `--preload`, and forks a program "
             "that may have threads by then")
WORKERS = told.scaled(4, 2)
RELOADS = told.scaled(3, 1)
TIMEOUT = 180
HERE = os.path.dirname(os.path.abspath(__file__))


def command(port, app):
    wsgi = app.endswith(":wsgi")
    if told.METHOD == "uvicorn":
        return ["-m", "uvicorn", "--workers", str(WORKERS), "--port", str(port), "--log-level",
                "warning", "--interface", "wsgi" if wsgi else "auto", app]
    if told.METHOD == "gunicorn":
        kind = "gthread" if wsgi else "uvicorn_worker.UvicornWorker"
        return ["-m", "gunicorn", "--preload", "--worker-class", kind, "--threads", "10",
                "--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}", "--log-level", "warning",
                app]
    return ["-m", "cleanfork.prefork", "--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}",
            "--log-level", "warning", "--no-access-log", app]


class Server:
    def __init__(self, app):
        with socket.create_server(("127.0.0.1", 0)) as one:
            self.port = one.getsockname()[1]
        self.begun = time.monotonic()
        self.process = subprocess.Popen([sys.executable, *command(self.port, app)], cwd=f"{HERE}/parts",
                                        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    async def ask(self, path):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            return (await answer(reader, writer, path))[0]["pid"]
        finally:
            writer.close()

    async def pids(self):
        """Those that answer, asked by many at once."""
        told_by = await asyncio.gather(*(self.ask("/busy") for _ in range(WORKERS * 4)),
                                       return_exceptions=True)
        return {pid for pid in told_by if isinstance(pid, int)}

    async def all_up(self, but=frozenset()):
        """Until so many have answered, none of `but` among them."""
        give_up, seen = time.monotonic() + TIMEOUT, set()
        while len(seen) < WORKERS or seen & but:
            if time.monotonic() > give_up or self.process.poll() is not None:
                raise RuntimeError(f"{len(seen)} of {WORKERS} answer")
            now = await self.pids()
            seen = (now if seen & but else seen | now)
            await asyncio.sleep(0.01)
        return seen

    async def reload(self):
        """Once only new ones answer."""
        old = await self.all_up()
        self.process.send_signal(signal.SIGHUP)
        await self.all_up(but=old)

    async def reloads(self):
        for _ in range(RELOADS):
            await self.reload()

    async def stop(self):
        """While a request is answered: its answer, and the exit code."""
        answered = asyncio.ensure_future(self.ask("/slow"))
        await asyncio.sleep(0.3)
        self.process.send_signal(signal.SIGTERM)
        try:
            pid = await answered
        except (OSError, asyncio.IncompleteReadError):
            pid = None
        return pid is not None, await asyncio.to_thread(self.process.wait, TIMEOUT)


async def websocket_over(server, change):
    """What becomes of one that is open before."""
    import websockets

    async with websockets.connect(f"ws://127.0.0.1:{server.port}/echo") as one:
        await one.send("before")
        assert await one.recv() == "before"
        await change
        try:
            await one.send("after")
            assert await one.recv() == "after"
            return "it goes on, in its old worker"
        except websockets.ConnectionClosed as e:
            return f"closed with {e.rcvd.code if e.rcvd else 'nothing'}"


async def wsgi():
    server = Server("web_app:wsgi")
    await server.all_up()
    load = Load(server.port)
    await load.during(server.reloads())
    await server.stop()
    return sum(map(len, load.lost.values()))


async def main():
    server = Server("web_app:app")
    await server.all_up()
    start = time.monotonic() - server.begun
    told.up()
    load = Load(server.port)
    await load.during(server.reloads())
    lost = sum(map(len, load.lost.values()))
    websocket = await websocket_over(server, server.reload())
    answered, code = await server.stop()
    figures = {"wsgi_lost": 0 if told.SHORT else await wsgi()}
    if told.METHOD == "cleanfork":
        assert (lost, figures["wsgi_lost"]) == (0, 0), load.lost
        assert websocket.startswith("it goes on") and code == 0, (websocket, code)
    print(load.lost, file=sys.stderr)
    told.done({"answered at the end": answered}, start, lost=lost, answered=load.answered,
              websocket=websocket, **figures)


if __name__ == "__main__":
    asyncio.run(main())
