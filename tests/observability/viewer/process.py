"""The viewer as a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_given: set[int] = set()


def free_ports() -> tuple[int, int]:
    """Two ports that nobody listens on, and that none of a few later calls will give again."""
    first, second = _free(2)
    return first, second


def options(port: int, otlp_port: int, folder: Path, *more: str, grpc_port: int | None = None) -> list[str]:
    """What `clearspan viewer` is told."""
    if grpc_port is None:
        (grpc_port,) = _free(1)
    ports = ["--port", str(port), "--otlp-port", str(otlp_port), "--grpc-port", str(grpc_port)]
    return [*ports, "--data-dir", str(folder), *more]


def command(port: int, otlp_port: int, folder: Path, *more: str, grpc_port: int | None = None) -> list[str]:
    """What starts it."""
    told = options(port, otlp_port, folder, *more, grpc_port=grpc_port)
    return [sys.executable, "-m", "observability.cli", "viewer", *told]


@dataclass(frozen=True, slots=True)
class RunningViewer:
    """Where a viewer answers, and its process."""

    page: str
    otlp: str
    grpc: str
    pid: int


@contextmanager
def running_viewer(folder: Path, *more: str) -> Iterator[RunningViewer]:
    """A viewer on free ports that listens; it has to end in order, and without a word on stderr."""
    port, otlp_port, grpc_port = _free(3)
    starting = command(port, otlp_port, folder, *more, grpc_port=grpc_port)
    process = subprocess.Popen(starting, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("traces are at")
        page, otlp, grpc = (f"http://127.0.0.1:{one}" for one in (port, otlp_port, grpc_port))
        yield RunningViewer(page, otlp, grpc, process.pid)
        process.terminate()
        assert process.communicate(timeout=20) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


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
