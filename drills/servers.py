"""A real PostgreSQL and a real NATS as members of the shop."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.nats_server import NatsServer
from tests.postgres import PostgresServer, postgres_server, programs

_Result = TypeVar("_Result")


def missing() -> list[str]:
    """Which of the two is not installed."""
    found = {"PostgreSQL": programs(), "nats-server": shutil.which("nats-server")}
    return [name for name, program in found.items() if program is None]


@dataclass
class ServerMember:
    """A server that the tests have too: killed and started like any other member.

    Attributes:
        name: What it is called.
        url: Where its clients find it.
    """

    name: str
    url: str
    _server: PostgresServer | NatsServer
    _thread: ThreadPoolExecutor

    async def start(self) -> None:
        """Start it, and return when it answers."""
        await _in_thread(self._thread, self._server.start)

    async def ready(self) -> None:
        """It is when it has been started."""

    async def kill(self) -> None:
        """End it without a warning."""
        await _in_thread(self._thread, self._server.kill)


@asynccontextmanager
async def postgresql_and_nats(folder: Path) -> AsyncIterator[dict[str, ServerMember]]:
    """Both, running, around a block."""
    async with AsyncExitStack() as stack:
        # One thread for the whole drill: a server ends with the thread that started it.
        thread = stack.enter_context(ThreadPoolExecutor(1))
        postgresql = postgres_server()
        postgres = await _in_thread(thread, postgresql.__enter__)
        stack.push_async_callback(_in_thread, thread, lambda: postgresql.__exit__(None, None, None))
        nats = NatsServer(folder / "nats")
        await _in_thread(thread, nats.start)
        stack.push_async_callback(_in_thread, thread, nats.kill)
        yield {
            "postgresql": ServerMember("postgresql", postgres.url, postgres, thread),
            "nats": ServerMember("nats", nats.url, nats, thread),
        }


async def _in_thread(thread: ThreadPoolExecutor, work: Callable[[], _Result]) -> _Result:
    return await asyncio.get_running_loop().run_in_executor(thread, work)
