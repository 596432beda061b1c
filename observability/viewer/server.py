"""The viewer as a process: pages on one port, OTLP on another, one store."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import uvicorn

from observability.viewer.app import create_pages
from observability.viewer.arrivals import Arrivals
from observability.viewer.body import Bodies
from observability.viewer.database import DatabaseError
from observability.viewer.receiver import create_receiver
from observability.viewer.store import Store

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - told apart, not listened on


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
        ViewerError: A port is taken, or the folder cannot be used.
    """
    servers: list[_Server] = []
    bodies = Bodies()
    arrivals = Arrivals()

    def stop() -> None:
        bodies.stop()
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    page_url, otlp_url = _url(host, port), _url(host, otlp_port)
    with ExitStack() as stack:
        sockets = [stack.enter_context(_listen(host, number)) for number in (port, otlp_port)]
        try:
            store = stack.enter_context(closing(Store(data_dir)))
        except DatabaseError as error:
            raise ViewerError(str(error)) from error
        servers += [
            _Server(
                uvicorn.Config(
                    app,
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    timeout_graceful_shutdown=2,
                    ws="none",
                    http="h11",  # bounds the head of a request; the faster parser reads one without end into memory
                )
            )
            for app in (create_pages(store, arrivals, otlp_url=otlp_url), create_receiver(store, bodies, arrivals))
        ]
        print(_greeting(page_url, otlp_url, whole=sys.stdout.isatty()), flush=True)  # noqa: T201 - it is asked for by hand
        async with asyncio.TaskGroup() as group:
            for server, listener in zip(servers, sockets, strict=True):
                group.create_task(server.serve(sockets=[listener]))


def _greeting(page_url: str, otlp_url: str, *, whole: bool) -> str:
    """Where the pages are and how to send; one line for a program that reads it."""
    pages = f"traces are at {page_url}"
    if not whole:
        return f"{pages}, OTLP over HTTP is received at {otlp_url}"
    return f"""{pages}

export OTEL_EXPORTER_OTLP_ENDPOINT={otlp_url}
export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
"""


def _url(host: str, port: int) -> str:
    if host in _EVERYWHERE:
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    # Only for a socket that says its protocol does asyncio turn off the delay of small answers, of 40 ms.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ViewerError(f"port {port} is taken; choose another with --port or --otlp-port") from error
        raise ViewerError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener
