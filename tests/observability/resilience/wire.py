"""A server that a test plays byte by byte."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Request:
    """One request as it came: its head to the letter, its body out of its chunks."""

    head: bytes
    body: bytes

    @property
    def target(self) -> bytes:
        return self.head.split(b" ")[1]

    def header(self, name: bytes) -> list[bytes]:
        """Every value of one header."""
        lines = [line.partition(b": ") for line in self.head.split(b"\r\n")[1:]]
        return [value for found, _, value in lines if found.lower() == name]


@dataclass
class Server:
    """What reached it so far, and where it is."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def change(self) -> None:
        """Something happened."""
        self._changed.set()

    async def received(self, requests: int) -> None:
        """Wait until so many requests have come."""
        await self._until(lambda: len(self.requests) == requests)

    async def all_ended(self) -> None:
        """Wait until each connection so far is closed."""
        await self._until(lambda: self.ended == self.connections)

    async def _until(self, happened: Callable[[], bool]) -> None:
        while not happened():
            self._changed.clear()
            await self._changed.wait()


class Peer:
    """The server's side of one connection."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self._writer = writer

    async def receive(self) -> Request:
        """Read a request.

        Raises:
            asyncio.IncompleteReadError: The client has closed the connection.
        """
        request = Request(await self.reader.readuntil(b"\r\n\r\n"), b"")
        if request.header(b"transfer-encoding"):
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        else:
            body = await self.reader.readexactly(int((request.header(b"content-length") or [b"0"])[0]))
        request = Request(request.head, body)
        self.server.requests.append(request)
        self.server.change()
        return request

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def hang(self) -> None:
        """Do nothing until the test is over."""
        await self.server.over.wait()

    def reset(self) -> None:
        """Close with RST in the place of FIN."""
        self._writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        while await self.reader.read(65536):
            pass


Play = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def serving(play: Play | bytes) -> AsyncIterator[Server]:
    """Serve on a free port: each connection is played to its end, then closed; or each request gets these bytes."""
    server = Server()
    playing: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def answer_all(peer: Peer) -> None:
        assert isinstance(play, bytes)
        while True:
            await peer.receive()
            await peer.send(play)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.current_task()
        assert task is not None
        playing[task] = writer
        task.add_done_callback(playing.pop)
        try:
            await (answer_all if isinstance(play, bytes) else play)(Peer(server, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            server.ended += 1
            server.change()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        server.over.set()
        for writer in list(playing.values()):
            writer.transport.abort()
        if playing:
            await asyncio.wait(playing)
