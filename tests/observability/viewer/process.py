"""The viewer as a process of its own."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack
from pathlib import Path

_given: set[int] = set()


def free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on, and that none of a few later calls will give again."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(2)]
        while True:
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            ports = tuple(one.getsockname()[1] for one in sockets)
            if not _given.intersection(ports):
                _given.update(ports)
                return ports[0], ports[1]
            sockets = [held.enter_context(socket.socket()) for _ in range(2)]


def command(port: int, otlp_port: int, folder: Path) -> list[str]:
    """What starts it."""
    options = ["--port", str(port), "--otlp-port", str(otlp_port), "--data-dir", str(folder)]
    return [sys.executable, "-m", "observability.cli", "viewer", *options]
