"""A real server in the test's own event loop, where a socket matters."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import uvicorn
from starlette.types import ASGIApp

from observability.connection import BoundedConnection


class Serving(NamedTuple):
    """A running server: its port, and the connections that it knows to be open."""

    port: int
    connections: set[Any]


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Serving]:
    """Serve an application as the kit does."""
    config = uvicorn.Config(
        app, http=BoundedConnection, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with asyncio.timeout(10):
                while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(0.005)
            yield Serving(listener.getsockname()[1], server.server_state.connections)
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, 10)
