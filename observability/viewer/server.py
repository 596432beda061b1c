"""The viewer as a process: pages, OTLP over HTTP and OTLP over gRPC, each on its port, and one store."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import re
import secrets
import signal
import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import uvicorn

from observability.viewer.app import create_pages
from observability.viewer.arrivals import Arrivals
from observability.viewer.body import Bodies
from observability.viewer.grpc_receiver import create_grpc_server
from observability.viewer.intake import Intake
from observability.viewer.receiver import create_receiver
from observability.viewer.store import Store
from observability.viewer.store.database import DatabaseError
from observability.viewer.token import LEAST_CHARACTERS, Token

STOP_TIMEOUT_S = 2
"""How long requests in flight have when the viewer ends."""

_ORIGIN = re.compile(r"https?://[!-.0-~]+")
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - told apart, not listened on


class ViewerError(Exception):
    """The viewer cannot start; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the viewer listens."""

    pages: int
    otlp_http: int
    otlp_grpc: int


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `run_viewer`: they are for all servers."""
        yield


async def run_viewer(
    *, host: str, ports: Ports, data_dir: Path, token: str | None = None, origins: Collection[str] = ()
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        host: Address to listen on. On the loopback only requests that name a loopback host are answered; on any other
            only those that know the token.
        ports: Ports to listen on.
        data_dir: Folder of the database.
        token: The secret that is asked for beyond the loopback; by default a new one, which is printed.
        origins: Origins of foreign pages that may send telemetry.

    Raises:
        ViewerError: A port is taken, the folder cannot be used, the token is too short, or an origin is none.
    """
    for origin in origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise ViewerError(f"{origin!r} is no origin; write one like https://shop.example")
    servers: list[_Server] = []
    bodies = Bodies()
    stopping = asyncio.Event()
    arrivals = Arrivals()

    def stop() -> None:
        stopping.set()
        bodies.stop()
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    made = None if _is_loopback(host) or token else secrets.token_urlsafe()
    guard = None if _is_loopback(host) else _checked(token or made or "")
    otlp_url = _url(host, ports.otlp_http)
    with ExitStack() as stack:
        sockets = [stack.enter_context(_listen(host, port)) for port in (ports.pages, ports.otlp_http)]
        _listen(host, ports.otlp_grpc).close()  # gRPC itself does not tell why it cannot
        try:
            store = stack.enter_context(closing(Store(data_dir)))
        except DatabaseError as error:
            raise ViewerError(str(error)) from error
        intake = Intake(store, bodies, arrivals)
        grpc_server = create_grpc_server(intake, guard)
        address = f"[{host}]:{ports.otlp_grpc}" if ":" in host else f"{host}:{ports.otlp_grpc}"
        try:
            grpc_server.add_insecure_port(address)
        except RuntimeError as error:  # taken a moment ago
            raise ViewerError(f"cannot listen on {address}") from error
        await grpc_server.start()
        servers += [
            _Server(
                uvicorn.Config(
                    app,
                    log_level="warning",
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    timeout_graceful_shutdown=STOP_TIMEOUT_S,
                    ws="none",
                    http="h11",  # bounds the head of a request; the faster parser reads one without end into memory
                )
            )
            for app in (
                create_pages(store, arrivals, otlp_url=otlp_url, token=guard),
                create_receiver(intake, token=guard, origins=origins),
            )
        ]

        async def stop_grpc() -> None:
            await stopping.wait()
            await grpc_server.stop(STOP_TIMEOUT_S)

        print(_greeting(host, ports, made, whole=sys.stdout.isatty()), flush=True)  # noqa: T201 - it is asked for by hand
        async with asyncio.TaskGroup() as group:
            group.create_task(stop_grpc())
            for server, listener in zip(servers, sockets, strict=True):
                group.create_task(server.serve(sockets=[listener]))


def _greeting(host: str, ports: Ports, token: str | None, *, whole: bool) -> str:
    """Where the pages are and how to send; one line for a program that reads it.

    Args:
        host: Address that is listened on.
        ports: Ports that are listened on.
        token: The secret, if nobody knows it yet.
        whole: Whether there is room for more than a line.
    """
    # A browser neither sends nor logs what stands after the #.
    pages = f"traces are at {_url(host, ports.pages)}{f'/#token={token}' if token else ''}"
    http, grpc = _url(host, ports.otlp_http), _url(host, ports.otlp_grpc)
    if not whole:
        return f"{pages}, OTLP is received over HTTP at {http}, over gRPC at {grpc}"
    header = f"export OTEL_EXPORTER_OTLP_HEADERS=authorization={quote(f'Bearer {token}')}\n" if token else ""
    return f"""{pages}

export OTEL_EXPORTER_OTLP_ENDPOINT={http}
export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
{header}
or over gRPC, OTEL_EXPORTER_OTLP_PROTOCOL=grpc, at {grpc}
"""


def _checked(token: str) -> Token:
    if len(token) < LEAST_CHARACTERS or not token.isascii():
        raise ViewerError(f"CLEARSPAN_VIEWER_TOKEN must have at least {LEAST_CHARACTERS} characters, all of them ASCII")
    return Token(token)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
            raise ViewerError(
                f"port {port} is taken; choose another with --port, --otlp-port or --grpc-port"
            ) from error
        raise ViewerError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listener
