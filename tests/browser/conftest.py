"""A viewer as a process, and a real Chromium."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from google.protobuf.message import Message
from playwright.sync_api import Browser, Page, sync_playwright

from tests.observability.viewer.process import command, free_ports
from tests.observability.viewer.samples import PROTOBUF

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


class Viewer:
    """A viewer as a process, always on the same ports and the same folder."""

    def __init__(self, folder: Path) -> None:
        port, otlp_port = free_ports()
        self._command = command(port, otlp_port, folder)
        self.url, self.otlp_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{otlp_port}"
        self.start()

    def start(self) -> None:
        """Start and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("traces are at")

    def stop(self) -> None:
        """End it in order."""
        self._process.terminate()
        self._process.communicate(timeout=10)
        assert self._process.returncode == 0

    def send(self, signal: str, message: Message) -> None:
        """Send it telemetry."""
        url, content = f"{self.otlp_url}/v1/{signal}", message.SerializeToString()
        httpx.post(url, content=content, headers=PROTOBUF, timeout=30).raise_for_status()


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[Viewer]:
    """A running viewer that has nothing yet."""
    viewer = Viewer(tmp_path)
    yield viewer
    viewer.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, one for the tests of a module."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page; whatever script fails on it fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []
