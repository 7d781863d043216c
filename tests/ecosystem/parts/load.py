"""Requests over HTTP/1.1, all the time, by connections that stay and by new ones."""

import asyncio
import json


class Lost(Exception):
    pass


async def answer(reader, writer, path):
    """The body, and whether the connection stays."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise Lost(head.partition(b"\r\n")[0].decode())
    if b"transfer-encoding: chunked" in head:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
    return json.loads(body), b"connection: close" not in head


class Load:
    """Counts, by whether it was the first request of its connection."""

    def __init__(self, port):
        self.port = port
        self.answered, self.pids = 0, set()
        self.lost = {"new": [], "reused": []}
        self.ending = asyncio.Event()

    async def client(self, path, stays, pause):
        """One request after the other."""
        while not self.ending.is_set():
            first, writer = True, None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                while not self.ending.is_set():
                    told, open_yet = await answer(reader, writer, path)
                    self.answered += 1
                    self.pids.add(told["pid"])
                    if not (stays and open_yet):
                        break
                    first = False
                    await asyncio.sleep(pause)
            except (OSError, asyncio.IncompleteReadError, Lost) as e:
                self.lost["new" if first else "reused"].append(repr(e)[:80])
            finally:
                if writer is not None:
                    writer.close()
            if not stays:
                await asyncio.sleep(pause)

    async def during(self, what, path="/", clients=12, pause=0.002):
        """Until `what` has been done."""
        at_work = [asyncio.ensure_future(self.client(path, i % 2 == 0, pause))
                   for i in range(clients)]
        try:
            return await what
        finally:
            self.ending.set()
            await asyncio.gather(*at_work)
