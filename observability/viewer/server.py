"""The viewer as a process: pages on one port, OTLP on another, one store."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import uvicorn

from observability.viewer.app import create_pages
from observability.viewer.receiver import create_receiver
from observability.viewer.store import Store


class ViewerError(Exception):
    """The viewer cannot start; the message says what to change."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `run_viewer`: they are for both servers."""
        yield


async def run_viewer(*, host: str, port: int, otlp_port: int, data_dir: Path) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        host: Address to listen on; only requests that name a loopback host are answered.
        port: Port of the pages and of Jaeger's API.
        otlp_port: Port of OTLP over HTTP.
        data_dir: Folder of the database.

    Raises:
        ViewerError: A port is taken.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(_listen(host, number)) for number in (port, otlp_port)]
        store = stack.enter_context(closing(Store(data_dir)))
        servers = [
            _Server(
                uvicorn.Config(
                    app,
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    timeout_graceful_shutdown=2,
                )
            )
            for app in (create_pages(store), create_receiver(store))
        ]

        def stop() -> None:
            for server in servers:
                server.should_exit = True

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        async with asyncio.TaskGroup() as group:
            for server, listener in zip(servers, sockets, strict=True):
                group.create_task(server.serve(sockets=[listener]))


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ViewerError(
            f"port {port} is taken ({error.strerror}); choose another with --port or --otlp-port"
        ) from error
    return listener
