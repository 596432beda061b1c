"""A request that hangs, from an instrumented application to the viewer of `clearspan up`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from observability.launcher import BASE_PORT, PAGE_PORT
from tests.ports import free_base_port

APP = """
import asyncio
from fastapi import FastAPI
from observability import Telemetry, observe

def create_app():
    app = FastAPI()
    released = asyncio.Event()

    @app.get("/orders/{number}")
    async def order(number: int):
        await released.wait()
        return "done"

    @app.post("/release")
    async def release():
        released.set()

    observe(app, Telemetry.from_environment("orders"))
    return app
"""


class Running:
    """An application of one service with its viewer."""

    def __init__(self, folder: Path) -> None:
        (folder / "shop.py").write_text(APP)
        (folder / "pyproject.toml").write_text(
            '[tool.clearspan.services]\norders = { app = "shop:create_app", port = 8000 }\n'
        )
        base = free_base_port()
        self.url, self._page = f"http://127.0.0.1:{base}", f"http://127.0.0.1:{base - BASE_PORT + PAGE_PORT}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "observability.cli", "up", "--port", str(base)],
            cwd=folder,
            env={**os.environ, "NO_COLOR": "1"},
            stdout=subprocess.DEVNULL,
        )

    def ask(self, path: str) -> Any:
        """What the viewer answers."""
        answer = httpx.get(self._page + path, timeout=10)
        return answer.json() if answer.is_success else None

    def in_flight(self) -> list[dict[str, Any]]:
        """The requests that take long."""
        found: list[dict[str, Any]] = self.ask("/api/in-flight")["requests"]
        return found

    def spans(self, trace: str) -> list[tuple[str, bool]]:
        """The names of a trace's spans, and whether they have ended."""
        answer = self.ask(f"/api/recent/{trace}/otlp") or {"resourceSpans": []}
        return [
            (span["name"], span["endTimeUnixNano"] != "0")
            for resource in answer["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


def _until(look: Callable[[], Any]) -> Any:
    """Look again and again until something is seen."""
    deadline = time.monotonic() + 30
    while True:
        with suppress(httpx.TransportError):
            if seen := look():
                return seen
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.05)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """An application that is stopped at the end of the test."""
    running = Running(tmp_path)
    try:
        _until(lambda: httpx.get(f"{running.url}/readyz").is_success)
        yield running
    finally:
        running.process.send_signal(signal.SIGINT)
        running.process.wait(20)


@pytest.fixture
def hanging(running: Running) -> dict[str, Any]:
    """A request that hangs, as the viewer tells of it."""

    def ask() -> None:
        with suppress(httpx.TransportError):  # its server may be killed
            httpx.get(f"{running.url}/orders/7?token=hunter2", timeout=60)

    threading.Thread(target=ask, daemon=True).start()
    (found,) = _until(running.in_flight)
    return dict(found)


def test_while_it_runs_and_after(running: Running, hanging: dict[str, Any]) -> None:
    """A request shows while it hangs, without secrets, and is a span like any other when it has ended."""
    assert (hanging["service"], hanging["name"], hanging["kind"]) == ("orders", "GET /orders/{number}", "server")
    assert ("GET /orders/{number}", False) in running.spans(hanging["traceID"])
    assert "hunter2" not in str(running.ask(f"/api/recent/{hanging['traceID']}/otlp"))
    assert not [log for log in running.ask("/api/logs")["logs"] if log["traceID"] == hanging["traceID"]]
    httpx.post(f"{running.url}/release")
    _until(lambda: ("GET /orders/{number}", True) in running.spans(hanging["traceID"]))
    assert ("GET /orders/{number}", False) not in running.spans(hanging["traceID"])
    assert running.in_flight() == []


def test_a_process_that_dies(running: Running, hanging: dict[str, Any]) -> None:
    """A request whose process was killed under it is there to be seen, though its span never comes."""
    (server,) = (one for one in psutil.Process(running.process.pid).children() if "serve" in one.cmdline())
    server.kill()
    server.wait(10)
    assert [one["traceID"] for one in running.in_flight()] == [hanging["traceID"]]
    assert running.spans(hanging["traceID"]) == [("GET /orders/{number}", False)]
