"""What the servers of servers_row.py serve: an ASGI and a WSGI application."""

import asyncio
import os
import time

import fastapi

app = fastapi.FastAPI()


@app.get("/")
async def root():
    return {"pid": os.getpid()}


@app.get("/busy")
async def busy():
    time.sleep(0.05)  # nobody else is served by this process
    return {"pid": os.getpid()}


@app.get("/slow")
async def slow():
    await asyncio.sleep(1)
    return {"pid": os.getpid()}


@app.websocket("/echo")
async def echo(socket: fastapi.WebSocket):
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except fastapi.WebSocketDisconnect:
        pass


def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    time.sleep({"/busy": 0.05, "/slow": 1}.get(path, 0))
    start_response("200 OK", [("content-type", "application/json")])
    return [b'{"pid":%d}' % os.getpid()]
