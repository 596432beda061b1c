"""A TCP proxy in front of a server, which can be slow, silent, or talk nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

Mode = Literal["pass", "silent", "nonsense"]


class Proxy:
    """What stands between a client and a server, changed at any time by its attributes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.mode: Mode = "pass"
        self.delay_s = 0.0
        self.received = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where the proxy stands in for a Redis."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        onward: asyncio.StreamWriter | None = None
        back: asyncio.Task[None] | None = None
        try:
            server, onward = await asyncio.open_connection("127.0.0.1", self._target)
            back = asyncio.create_task(self._answers(server, writer))
            while data := await reader.read(65536):
                self.received += 1
                if self.mode == "pass":
                    onward.write(data)
                elif self.mode == "nonsense":
                    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            if back is not None:
                back.cancel()
            for one in (onward, writer):
                if one is not None:
                    one.close()

    async def _answers(self, server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await server.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
        writer.close()

    async def aclose(self) -> None:
        """End every connection."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)


@asynccontextmanager
async def proxy_before(port: int) -> AsyncIterator[Proxy]:
    """A proxy before a server on this machine."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()
