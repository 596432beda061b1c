"""The pages in a real Chromium."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from playwright.sync_api import Page, sync_playwright

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[str]:
    """A running viewer that has one trace full of hostile text; the address of its pages."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        port, otlp_port = one.getsockname()[1], two.getsockname()[1]
    command = [sys.executable, "-m", "observability.cli", "viewer", "--port", str(port), "--otlp-port", str(otlp_port)]
    process = subprocess.Popen([*command, "--data-dir", str(tmp_path)])
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{otlp_port}/livez").status_code == 200:
                    break
            time.sleep(0.02)
        httpx.post(
            f"http://127.0.0.1:{otlp_port}/v1/traces",
            content=_hostile_trace(),
            headers={"content-type": "application/x-protobuf"},
        ).raise_for_status()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(timeout=10) == 0


def _hostile_trace() -> bytes:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": HOSTILE, HOSTILE: HOSTILE}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer(HOSTILE)
    with tracer.start_as_current_span(HOSTILE, attributes={HOSTILE: HOSTILE}) as span:
        span.add_event(HOSTILE, {HOSTILE: HOSTILE})
    encoded: bytes = encode_spans(exporter.get_finished_spans()).SerializeToString()
    return encoded


@pytest.fixture
def page() -> Iterator[Page]:
    """An empty page of Debian's Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser.new_page(viewport={"width": 1280, "height": 800})
        browser.close()


def test_hostile_text_is_text(viewer: str, page: Page) -> None:
    """From the list to a span's details a stranger's text is shown as text: no element, no dialog, no complaint."""
    trouble: list[str] = []
    page.on("dialog", lambda dialog: trouble.append(dialog.message))
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(viewer)
    page.locator("#traces a").click()
    page.locator(".span").click()
    details = page.locator("#details")
    assert HOSTILE in (details.locator("h1").text_content() or "")
    assert details.locator("dt", has_text=HOSTILE).count() == 3
    assert page.locator("main img, main script").count() == 0
    assert trouble == []


def test_keyboard(viewer: str, page: Page) -> None:
    """The key j chooses the first span and shows its details."""
    page.goto(viewer)
    page.locator("#traces a").click()
    page.locator(".span").wait_for()
    page.keyboard.press("j")
    assert page.locator("#details").is_visible()
