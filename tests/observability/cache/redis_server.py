"""A real Redis of the test's own: its port and folder, no persistence, killed and restarted at will."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest


class RedisServer:
    """A Redis that a test may kill and start again on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            pytest.skip("redis-server is not installed: apt-get install redis-server")
        options = ("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self._process = subprocess.Popen(
            [program, *options, "--dir", str(self._folder), "--daemonize", "no"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        told = []
        for line in self._process.stdout:
            told.append(line)
            if "Ready to accept connections" in line:
                return
        raise AssertionError("".join(told))

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=10)
            self._process = None
