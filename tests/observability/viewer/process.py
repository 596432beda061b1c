"""The viewer as a process of its own."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from pathlib import Path

_given: set[int] = set()


def free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on, and that none of a few later calls will give again."""
    first, second = _free(2)
    return first, second


def command(port: int, otlp_port: int, folder: Path, *options: str, grpc_port: int | None = None) -> list[str]:
    """What starts it."""
    if grpc_port is None:
        (grpc_port,) = _free(1)
    ports = ["--port", str(port), "--otlp-port", str(otlp_port), "--grpc-port", str(grpc_port)]
    return [sys.executable, "-m", "observability.cli", "viewer", *ports, "--data-dir", str(folder), *options]


def _free(count: int) -> list[int]:
    with ExitStack() as held:
        while True:
            sockets = [held.enter_context(socket.socket()) for _ in range(count)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            ports = [int(one.getsockname()[1]) for one in sockets]
            if not _given.intersection(ports):
                _given.update(ports)
                return ports
