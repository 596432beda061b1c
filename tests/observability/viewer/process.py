"""The viewer as a process of its own."""

from __future__ import annotations

import socket
import sys
from pathlib import Path


def free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def command(port: int, otlp_port: int, folder: Path) -> list[str]:
    """What starts it."""
    options = ["--port", str(port), "--otlp-port", str(otlp_port), "--data-dir", str(folder)]
    return [sys.executable, "-m", "observability.cli", "viewer", *options]
