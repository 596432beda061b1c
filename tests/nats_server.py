"""A real NATS server of the tests' own: its port and folder on loopback, killed and started again at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from observability.launcher import end_with_parent


@dataclass
class NatsServer:
    """A server with JetStream, which ends with the process that starts it.

    Attributes:
        folder: Where it keeps its streams.
        max_payload: Of a message, in bytes.
    """

    folder: Path
    max_payload: int = 1024 * 1024
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """For `BROKER_URL`."""
        return f"nats://127.0.0.1:{self.port}"

    def reserve(self) -> None:
        """Choose the port, on which it then always starts."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        program = shutil.which("nats-server")
        if program is None:
            pytest.fail("nats-server is needed: it is Debian's package of that name")
        if not self.port:
            self.reserve()
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\nmax_payload: {self.max_payload}\n'
            f'jetstream {{ store_dir: "{self.folder}", max_file_store: 4GB }}\n'
        )
        self._process = subprocess.Popen(
            [program, "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - before any thread
        )
        for _ in range(500):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.settimeout(1)
                    if connection.recv(4) == b"INFO":
                        return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("nats-server does not start")

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def freeze(self) -> None:
        """Let it answer nobody, and keep its connections; only `kill` helps."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # until then it goes on on another core

    def forget(self) -> None:
        """Kill it, and lose all that it kept."""
        self.kill()
        shutil.rmtree(self.folder)
