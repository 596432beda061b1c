"""The services and their map in a real Chromium."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import called, trace_id


def _send(viewer: Viewer) -> None:
    now_ns = time.time_ns()
    viewer.send("traces", called(1, "orders", "payments", start_ns=now_ns))
    viewer.send("traces", called(2, "orders", "payments", start_ns=now_ns, error="declined"))
    viewer.send("traces", called(3, "orders", "shipping", start_ns=now_ns, messaging=True))


def test_map(viewer: Viewer, page: Page) -> None:
    """Callers stand to the left of those they call; messages are dashed, and errors are red."""
    _send(viewer)
    page.goto(f"{viewer.url}/services")
    map_ = page.locator("#map")
    expect(map_.locator(".node .name")).to_have_text(["orders", "payments", "shipping"])
    boxes = {name: map_.get_by_role("link", name=name).bounding_box() for name in ("orders", "payments", "shipping")}
    orders, payments, shipping = (boxes[name] for name in ("orders", "payments", "shipping"))
    assert orders
    assert payments
    assert shipping
    assert orders["x"] + orders["width"] < payments["x"] == shipping["x"]
    told = map_.locator(".edge.messaging").get_attribute("aria-label") or ""
    assert re.fullmatch(r"orders sends messages to shipping: [\d.]+/s, 0 % errors", told)
    expect(map_.locator(".edge .errors")).to_have_count(1)
    expect(page.locator("#services tbody tr")).to_have_count(3)


def test_service(viewer: Viewer, page: Page) -> None:
    """A service shows its operations; a bar of their durations opens a trace that took so long."""
    _send(viewer)
    page.goto(f"{viewer.url}/services")
    page.locator("#map").get_by_role("link", name="payments").click()
    expect(page).to_have_url(f"{viewer.url}/services?service=payments")
    expect(page.locator("#title")).to_have_text("payments")
    expect(page.locator("#operations tbody tr")).to_have_count(1)
    expect(page.locator("#dependencies .node .name")).to_have_text(["orders", "payments"])
    page.go_back()
    expect(page.locator("#services")).to_be_visible()
    page.go_forward()
    bars = page.locator("#histogram a .column")
    expect(bars).to_have_count(1)
    bars.click()
    expect(page).to_have_url(re.compile(f"/trace/({trace_id(1).hex()}|{trace_id(2).hex()})$"))


def test_time(viewer: Viewer, page: Page) -> None:
    """How far back is looked is chosen, and part of the URL; where nothing was, that is said."""
    viewer.send("traces", called(1, "orders", "payments", start_ns=time.time_ns() - 30 * 60 * 10**9))
    page.goto(f"{viewer.url}/services")
    expect(page.locator("#empty")).to_be_visible()
    page.locator("#last").select_option("1h")
    expect(page.locator("#map .node")).to_have_count(2)
    expect(page).to_have_url(f"{viewer.url}/services?last=1h")
    page.go_back()
    expect(page.locator("#last")).to_have_value("15m")
    expect(page.locator("#empty")).to_be_visible()


def test_a_redraw_keeps_the_focus(viewer: Viewer, page: Page) -> None:
    """Whoever goes through the map by keyboard stays where they are when the figures change."""
    _send(viewer)
    page.goto(f"{viewer.url}/services?last=15m")
    page.locator("#map").get_by_role("link", name="payments").focus()
    viewer.send("traces", called(4, "orders", "inventory", start_ns=time.time_ns()))
    page.locator("#last").evaluate("node => node.dispatchEvent(new Event('change'))")
    expect(page.locator("#map .node")).to_have_count(4)
    expect(page.locator("#map").get_by_role("link", name="payments")).to_be_focused()


@pytest.mark.parametrize("width", [1280, 400])
def test_many_services(viewer: Viewer, page: Page, width: int) -> None:
    """Calls in circles, to oneself, over several layers and of long names are all drawn within the page's width."""
    names = [f"{'W' * 60}{number}" for number in range(6)]
    calls = [(0, 1), (1, 2), (2, 0), (0, 3), (3, 4), (0, 4), (4, 4), (5, 5)]
    for number, (caller, callee) in enumerate(calls, 1):
        viewer.send("traces", called(number, names[caller], names[callee], start_ns=time.time_ns()))
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{viewer.url}/services")
    expect(page.locator("#map .node")).to_have_count(6)
    expect(page.locator("#map .edge")).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth") == width
