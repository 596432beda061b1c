"""A viewer as a process, and a real Chromium."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from google.protobuf.message import Message
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.forked import ForkedCommand
from tests.observability.viewer.process import options
from tests.observability.viewer.samples import PROTOBUF

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


class Viewer:
    """A viewer as a process, always on the same ports and the same folder."""

    def __init__(self, ports: tuple[int, int], folder: Path) -> None:
        self._options = options(*ports, folder)
        self.url, self.otlp_url = (f"http://127.0.0.1:{port}" for port in ports)
        self.start()

    def start(self) -> None:
        """Start and wait until it listens."""
        self._process = ForkedCommand(["viewer", *self._options])
        assert self._process.readline().startswith("traces are at")

    def stop(self) -> None:
        """End it in order."""
        with closing(self._process):
            self._process.terminate()
            self._process.communicate(timeout=10)
            assert self._process.returncode == 0

    def send(self, signal: str, message: Message) -> None:
        """Send it telemetry."""
        # By hand: an httpx.Client reads all certificates, which takes longer than sending.
        with closing(HTTPConnection(self.otlp_url.removeprefix("http://"), timeout=30)) as connection:
            connection.request("POST", f"/v1/{signal}", message.SerializeToString(), PROTOBUF)
            assert connection.getresponse().status == 200


@pytest.fixture(scope="package")
def ports() -> Iterator[tuple[int, int]]:
    """Where all viewers listen, one after the other, so that to Chromium they are one; nobody else is given them."""
    with socket.socket() as pages, socket.socket() as otlp:
        for held in (pages, otlp):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
        yield pages.getsockname()[1], otlp.getsockname()[1]


@pytest.fixture
def viewer(ports: tuple[int, int], tmp_path: Path) -> Iterator[Viewer]:
    """A running viewer that has nothing yet."""
    viewer = Viewer(ports, tmp_path)
    yield viewer
    viewer.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, one for the tests of this folder."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def context(browser: Browser, ports: tuple[int, int]) -> Iterator[BrowserContext]:
    """What all pages share: in a new one Chromium compiles every script again."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    anchor = context.new_page()  # keeps the process of that address, with what it has compiled
    anchor.route("**", lambda route: route.fulfill(body=""))
    anchor.goto(f"http://127.0.0.1:{ports[0]}/")
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """An empty page that knows nothing of earlier ones; whatever script fails on it fails the test."""
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    context.set_storage_state({"cookies": [], "origins": []})
    assert errors == []
