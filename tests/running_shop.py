"""The shop as `make run` starts it: real processes, real HTTP, real OTLP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from observability.launcher import BASE_PORT, OTLP_PORT, PAGE_PORT, read_services
from tests.ports import free_base_port

ROOT = Path(__file__).parents[1]
STOP_TIMEOUT_S = 15


@dataclass
class RunningShop:
    """A running `clearspan up`: where it answers, and what it has written so far."""

    process: subprocess.Popen[str]
    base: int
    data_dir: Path
    reader: threading.Thread
    output: list[str]

    @property
    def orders(self) -> str:
        """Where orders answers."""
        return f"http://127.0.0.1:{self.base}"

    @property
    def inventory(self) -> str:
        """Where inventory answers."""
        return f"http://127.0.0.1:{self.base + 1}"

    @property
    def pages(self) -> str:
        """Where the viewer answers."""
        return f"http://127.0.0.1:{self.base - BASE_PORT + PAGE_PORT}"

    @property
    def otlp(self) -> str:
        """Where the viewer takes telemetry."""
        return f"http://127.0.0.1:{self.base - BASE_PORT + OTLP_PORT}"

    def child(self, name: str) -> psutil.Process:
        """The process of a service, or of the viewer."""
        (found,) = [one for one in psutil.Process(self.process.pid).children() if name in one.cmdline()[3:5]]
        return found

    def stop(self) -> int:
        """Stop it as Ctrl-C does, and read to the end what it writes; its exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(STOP_TIMEOUT_S)
        self.reader.join(STOP_TIMEOUT_S)
        return code


@contextmanager
def running_shop(data_dir: Path, environment: dict[str, str]) -> Iterator[RunningShop]:
    """The shop around a block, and stopped at its end if it still runs."""
    base = free_base_port([service.port for service in read_services(ROOT / "pyproject.toml")])
    process = subprocess.Popen(
        [sys.executable, "-m", "observability.cli", "up", "--port", str(base), "--data-dir", str(data_dir)],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output: list[str] = []
    started = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if line.startswith("curl "):
                started.set()
        started.set()

    reader = threading.Thread(target=read)
    reader.start()
    shop = RunningShop(process, base, data_dir, reader, output)
    try:
        assert started.wait(30)
        assert process.poll() is None, "".join(output)
        yield shop
    finally:
        if process.poll() is None:
            shop.stop()
        reader.join(STOP_TIMEOUT_S)
        process.communicate()  # closes the pipe
