"""Spans that still run, on the pages, in a real Chromium."""

from __future__ import annotations

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from playwright.sync_api import Dialog, Locator, Page, Route, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import log_request, notice, record, request, span, span_id, text, trace_id

MS, S = 10**6, 10**9
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
REQUESTS = "#now li:has(.times)"


def _address(viewer: Viewer, index: int = 1) -> str:
    return f"{viewer.url}/trace/{trace_id(index).hex()}"


def _changes(locator: Locator) -> None:
    """Wait until a text becomes another one."""
    expect(locator).not_to_have_text(locator.text_content() or "")


def _run(viewer: Viewer) -> None:
    """A request that runs, and waits for a call, after another one that has ended."""
    viewer.send("traces", request([span(1, 2, 1, name="reserve", start_ns=5 * MS, end_ns=300 * MS)]))
    root = notice(1, 1, name="POST /orders", ran_ns=3 * S, attributes=[text("url.path", "/orders")])
    peer = text("clearspan.peer", "payments")
    call = notice(1, 3, 1, name="charge", kind="client", start_ns=400 * MS, ran_ns=2600 * MS, attributes=[peer])
    viewer.send("logs", log_request(root, call))


def _finish(viewer: Viewer) -> None:
    spans = [
        span(1, 1, name="POST /orders", end_ns=5 * S),
        span(1, 3, 1, name="charge", kind=Span.SPAN_KIND_CLIENT, start_ns=400 * MS, end_ns=4500 * MS),
    ]
    viewer.send("traces", request(spans))


def test_now(viewer: Viewer, page: Page) -> None:
    """A request that takes long shows while it runs, with its time and what it waits for, and leads to its trace."""
    page.goto(viewer.url)
    expect(page.locator("#empty")).to_be_visible()
    _run(viewer)
    viewer.send("logs", log_request(notice(2, name="only begun", ran_ns=0)))
    row = page.locator(REQUESTS, has_text="POST /orders")
    expect(row).to_contain_text("in orders charge to payments")
    expect(page.locator("h2", has_text="In flight")).to_contain_text(re.compile(r"In flight: 2 requests"))
    _changes(row.locator(".times"))
    row.get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"/trace/{trace_id(1).hex()}[?]span={span_id(1).hex()}"))
    expect(page.locator("#pane h2").first).to_have_text("POST /orders")
    page.go_back()
    expect(row).to_be_visible()
    _finish(viewer)
    expect(row).to_have_count(0)
    expect(page.locator("#traces .request a").first).to_have_text("POST /orders")


def test_only_unfinished(viewer: Viewer, page: Page) -> None:
    """A trace of which no span has ended can be looked at, with its logs."""
    working = record("half way", span_id=span_id(1))
    viewer.send("logs", log_request(notice(1, name="POST /orders", ran_ns=2 * S), working))
    page.goto(_address(viewer))
    row = page.locator(".row.span")
    expect(row.locator(".badge")).to_have_text("running")
    expect(page.locator(".row.log")).to_contain_text("half way")
    expect(page.locator("#facts")).to_contain_text("1 running")
    expect(page.locator("#facts")).not_to_contain_text("odd")
    expect(row.locator(".track")).to_have_attribute("aria-label", re.compile("running"))
    expect(row.locator(".bar.running")).to_have_count(1)


def test_a_trace_that_goes_on(viewer: Viewer, page: Page) -> None:
    """Bars grow while their spans run, and become what they are when they have ended; the reader is not disturbed."""
    _run(viewer)
    page.goto(_address(viewer))
    rows = page.locator(".row.span")
    expect(rows).to_have_count(3)
    expect(page.locator(".badge.running")).to_have_count(2)
    for where in (page.locator("#facts strong"), rows.first.locator(".number")):
        _changes(where)
    rows.nth(2).click()
    pane = page.locator("#pane")
    expect(pane.locator("h2").first).to_have_text("charge")
    _changes(pane.locator(".so-far"))
    viewer.send("traces", request([span(1, 4, 3, name="POST /charges", start_ns=500 * MS, end_ns=600 * MS)]))
    expect(rows).to_have_count(4)
    expect(pane.locator("h2").first).to_have_text("charge")
    _finish(viewer)
    expect(page.locator(".badge.running")).to_have_count(0)
    expect(page.locator("#facts strong")).to_have_text("5.00 s")
    expect(pane).to_contain_text("client · 4.10 s")
    expect(page.locator(".row[aria-selected=true]")).to_contain_text("charge")
    expect(page.locator("#fresh")).to_be_hidden()


def test_what_is_zoomed_into_stays(viewer: Viewer, page: Page) -> None:
    """While a trace grows, the part of it that is looked at stays the same."""
    _run(viewer)
    page.goto(_address(viewer))
    page.locator(".row", has_text="reserve").click()
    page.keyboard.press("z")
    expect(page.locator(".tick", has_text="300 ms")).to_have_count(1)
    ticks = page.locator(".tick").all_text_contents()
    _changes(page.locator("#facts strong"))
    assert page.locator(".tick").all_text_contents() == ticks


def test_what_is_pointed_at_stays(viewer: Viewer, page: Page) -> None:
    """A span that comes above the one that is pointed at does not move that."""
    viewer.send("logs", log_request(notice(1, 1, name="root", ran_ns=3 * S)))
    many = [
        span(1, index, 1, name=f"step {index}", start_ns=index * MS, end_ns=index * MS + 1) for index in range(10, 110)
    ]
    viewer.send("traces", request(many))
    page.goto(_address(viewer))
    expect(page.locator(".row").first).to_be_visible()
    page.locator("#waterfall").hover()
    page.mouse.wheel(0, 1000)
    row = page.locator(".row", has_text="step 65")
    row.hover()
    before = row.bounding_box()
    viewer.send("traces", request([span(1, index, 1, name="early", start_ns=index, end_ns=9) for index in (2, 3, 4)]))
    expect(page.locator("#waterfall")).to_have_attribute("aria-rowcount", "105")
    assert row.bounding_box() == before


def test_a_process_that_is_gone(viewer: Viewer, page: Page) -> None:
    """Of a span that nothing is heard of any more both pages say for how long, and its bar grows no longer."""

    def silent(route: Route) -> None:
        answer = route.fetch()
        told = answer.json()
        for one in told.get("requests", told.get("unfinished")):
            one["silentNano"], one["elapsedNano"] = 185 * S, 3 * S
        route.fulfill(response=answer, json=told)

    page.route(re.compile("/api/(in-flight|recent)"), silent)
    _run(viewer)
    page.goto(viewer.url)
    row = page.locator(REQUESTS)
    expect(row).to_contain_text("no word for 3 min")
    expect(row.locator(".times")).to_have_text("3.00 s")
    row.get_by_role("link").click()
    expect(page.locator(".badge.silent")).to_have_text(["no word for 3 min"] * 2)
    expect(page.locator("#facts strong")).to_have_text("3.40 s")
    expect(page.locator("#pane .marks")).to_have_text("has not ended, and no word for 3 min")


def test_a_trace_that_is_forgotten(viewer: Viewer, page: Page) -> None:
    """A viewer that begins anew knows what has ended; of a trace that it does not know any more the page says so."""
    _run(viewer)
    viewer.send("logs", log_request(notice(2, name="alone", ran_ns=S)))
    page.goto(_address(viewer))
    expect(page.locator(".row.span")).to_have_count(3)
    other = page.context.new_page()
    other.goto(_address(viewer, 2))
    expect(other.locator(".badge.running")).to_be_visible()
    viewer.stop()
    viewer.start()
    expect(page.locator(".row.span")).to_have_count(1)
    expect(page.locator("body")).not_to_have_class(re.compile("offline"))
    expect(other.locator("#notice")).to_contain_text("The viewer has forgotten this trace")
    expect(other.locator(".row.span")).to_have_count(1)


def test_hostile_text_is_text(viewer: Viewer, page: Page) -> None:
    """A stranger's notice is shown as text: no element, no dialog, no complaint."""
    trouble: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        trouble.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.on("console", lambda message: trouble.append(message.text))
    attributes = [text(HOSTILE, HOSTILE)]
    sent = log_request(
        notice(1, 1, name=HOSTILE, kind=HOSTILE, ran_ns=2 * S, attributes=attributes),
        notice(1, 2, 1, name=HOSTILE, ran_ns=2 * S, attributes=[*attributes, text("clearspan.peer", HOSTILE)]),
    )
    sent.resource_logs[0].resource.attributes[0].value.string_value = HOSTILE
    sent.resource_logs[0].scope_logs[0].scope.name = HOSTILE
    viewer.send("logs", sent)
    page.goto(viewer.url)
    row = page.locator(REQUESTS)
    expect(row.locator(".chip")).to_have_text([HOSTILE, HOSTILE])
    row.get_by_role("link").click()
    expect(page).to_have_title(f"{HOSTILE} · Clearspan")
    pane = page.locator("#pane")
    expect(pane.locator("h2").first).to_have_text(HOSTILE)
    expect(pane.locator("dt", has_text=HOSTILE)).to_have_count(1)
    _changes(page.locator("#facts strong"))
    assert page.locator("main img, main script").count() == 0
    assert trouble == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_accessible(viewer: Viewer, page: Page, width: int, scheme: str) -> None:
    """Axe finds nothing wrong with either page, and neither is wider than the window."""
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    _run(viewer)
    viewer.send("logs", log_request(notice(2, name="W" * 500, ran_ns=2 * S)))
    for address, drawn in ((viewer.url, REQUESTS), (_address(viewer), ".badge.running")):
        page.goto(address)
        expect(page.locator(drawn).first).to_be_visible()
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
