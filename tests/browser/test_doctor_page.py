"""The page for whoever misses something, in a real Chromium."""

from __future__ import annotations

import time

import httpx
from playwright.sync_api import Page, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import PROTOBUF, called


def test_what_arrived(viewer: Viewer, page: Page) -> None:
    """Without data it says how to send some; then who sent what, and what was refused and why."""
    page.goto(viewer.url)
    page.get_by_role("link", name="No data?").click()
    expect(page.locator("pre")).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={viewer.otlp_url}")
    expect(page.locator("#nobody")).to_be_visible()
    expect(page.locator("#unrefused")).to_be_visible()
    viewer.send("traces", called(1, "orders", "payments", start_ns=time.time_ns()))
    httpx.post(f"{viewer.otlp_url}/v1/logs", content=b"\xff", headers=PROTOBUF)
    expect(page.locator("#senders tbody tr")).to_have_count(2)
    expect(page.locator("#senders")).to_contain_text("no instruments")
    expect(page.locator("#refusals tbody tr")).to_have_count(1)
    expect(page.locator("#refusals tbody tr")).to_contain_text("logs1 requests")
    expect(page.locator("#signals tbody tr").first).to_contain_text("ago")
    page.locator("#senders .chip").first.click()
    expect(page.locator("#traces .request a")).to_have_count(1)
