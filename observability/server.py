"""Serving one application in the foreground, and stopping it so that nobody notices.

On SIGTERM or SIGINT, in this order: readiness fails, so that no new requests are routed here; a pause, in which they
are still served, for the router to notice, and each answer asks its client to leave; no new connections; requests in
flight end; the application's lifespan ends, which flushes the telemetry; exit code 0. uvicorn by itself stops accepting
at once (Kludex/uvicorn#2414).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import signal
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from observability.connection import BoundedConnection
from observability.garbage import rare_collections
from observability.health import Health

logger = logging.getLogger(__name__)


class ServerError(Exception):
    """The server cannot start; the message says what to change."""


def serve(
    app: FastAPI,
    *,
    host: str,
    port: int,
    drain_delay_s: float = 0.0,
    shutdown_timeout_s: float = 5.0,
) -> None:
    """Serve an application until a signal stops it.

    Args:
        app: An application that `observe` was called on.
        host: Address to listen on.
        port: Port to listen on.
        drain_delay_s: How long to keep serving after readiness failed, in seconds. Behind a router, longer than it
            takes to notice, and than an idle connection is kept (5 s), so that none is open when the server closes.
        shutdown_timeout_s: How long requests in flight may take to end, in seconds; then they are cancelled.

    Raises:
        ServerError: The address cannot be listened on, or the application failed to start.
    """
    if not 0 <= drain_delay_s < math.inf:
        raise ServerError(f"drain_delay_s={drain_delay_s} is no number of seconds")
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        loop="auto",  # uvloop where it is installed
        http=BoundedConnection,  # over httptools
        log_config=None,  # records go where `configure_logging` sends them
        access_log=False,  # each request has its own line, with its trace
        server_header=False,
        proxy_headers=False,  # believed only from a proxy that is named
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(shutdown_timeout_s)),
    )
    server = _Server(config, app.state.health, drain_delay_s)
    with listener, server.collecting:
        try:
            server.run(sockets=[listener])
        except SystemExit:  # what uvicorn makes of a lifespan that failed
            raise ServerError("the application failed to start; the log above says why") from None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, health: Health, drain_delay_s: float) -> None:
        super().__init__(config)
        self._health = health
        self._drain_delay_s = drain_delay_s
        self.collecting = ExitStack()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, and say where."""
        await super().startup(sockets)
        if self.started:
            self.collecting.enter_context(rare_collections())  # all is loaded
            for listener in sockets or ():
                host, port, *_ = listener.getsockname()
                logger.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle signals in the event loop; uvicorn would raise them again at the end and spoil the exit code."""
        loop = asyncio.get_running_loop()
        handled = (signal.SIGTERM, signal.SIGINT)
        for number in handled:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Drain at the first signal; at the second stop waiting for requests in flight."""
        if self._health.draining:
            self.should_exit = True
            self.force_exit = True
            return
        self._health.drain()
        for connection in self.server_state.connections:
            if isinstance(connection, BoundedConnection):
                connection.leave()  # requests that come from now on are told by LeaveWhileDraining
        logger.info("stopping: not ready any more, requests in flight end")
        asyncio.get_running_loop().call_later(self._drain_delay_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, since asyncio turns Nagle's delay off only then.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        hint = "; choose another with --port" if error.errno == errno.EADDRINUSE else ""
        raise ServerError(f"cannot listen on {host}:{port}: {error.strerror or error}{hint}") from error
    return listener
