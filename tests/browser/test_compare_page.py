"""The page of two traces in a real Chromium."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from playwright.sync_api import Page, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import START_NS, failed, nested, request, span_id, trace_id

MS = 1_000_000


def _order(viewer: Viewer, index: int, *steps: tuple[str, int], error: str | None = None) -> None:
    """A trace of an order, of steps one after the other that take so many milliseconds."""
    start = START_NS + index * 10**10
    spans = []
    at = start
    for step, (name, length) in enumerate(steps, 2):
        spans.append(
            Span(
                trace_id=trace_id(index),
                span_id=span_id(step),
                parent_span_id=span_id(1),
                name=name,
                start_time_unix_nano=at,
                end_time_unix_nano=at + length * MS,
            )
        )
        at += length * MS
    root = Span(
        trace_id=trace_id(index),
        span_id=span_id(1),
        name="POST /orders",
        start_time_unix_nano=start,
        end_time_unix_nano=at,
        status=None if error is None else failed(error),
    )
    viewer.send("traces", request([root, *spans]))


def _address(viewer: Viewer) -> str:
    return f"{viewer.url}/compare?a={trace_id(1).hex()}&b={trace_id(2).hex()}"


def test_comparison(viewer: Viewer, page: Page) -> None:
    """Two traces are one tree that says what is slower and by how much, what is new, and what is missing."""
    _order(viewer, 1, ("reserve", 10), ("pay", 20), ("cheer", 5))
    _order(viewer, 2, ("reserve", 11), ("pay", 100), ("apologise", 5), error="late")
    page.goto(_address(viewer))
    rows = page.locator("#tree tbody tr")
    expect(rows).to_have_count(5)
    cells = [[cell.text_content() for cell in row.locator("td").all()[:4]] for row in rows.all()]
    assert cells == [
        ["orders POST /orders", "35.0 ms", "116 ms", "3.3\u00d7 slower"],
        ["orders reserve", "10.0 ms", "11.0 ms", ""],
        ["orders pay", "20.0 ms", "100 ms", "5.0\u00d7 slower"],
        ["orders cheer", "5.00 ms", "", "missing"],
        ["orders apologise", "", "5.00 ms", "added"],
    ]
    expect(page.locator("#why li").first).to_have_text("orders pay +80.0 ms")
    page.get_by_label("Only differences").check()
    expect(rows).to_have_count(4)
    page.locator("#both a").last.click()
    expect(page).to_have_url(f"{viewer.url}/trace/{trace_id(2).hex()}")


def test_choice(viewer: Viewer, page: Page) -> None:
    """A trace's page leads to others of the same request, to compare it with one."""
    _order(viewer, 1, ("pay", 20))
    _order(viewer, 2, ("pay", 100))
    viewer.send("traces", nested(3, ["GET /"]))
    page.goto(f"{viewer.url}/trace/{trace_id(1).hex()}")
    page.locator("#compare").click()
    expect(page.locator("#choices li")).to_have_count(1)
    expect(page.get_by_role("link", name="what is usual")).to_have_attribute(
        "href", f"/compare?a={trace_id(1).hex()}&b=usual"
    )
    page.locator("#choices a").click()
    expect(page.locator("#tree tbody tr")).to_have_count(2)
    expect(page).to_have_url(_address(viewer))


def test_usual(viewer: Viewer, page: Page) -> None:
    """From its page a trace is compared with what is usual for its request: new, missing, rare, slower."""
    for index in range(1, 12):
        _order(viewer, index, ("reserve", 10 + index % 3), ("pay", 20), ("cheer", 5), *([("retry", 1)] * (index == 3)))
    _order(viewer, 12, ("reserve", 11), ("pay", 100), ("retry", 1), ("apologise", 5), error="late")
    page.goto(f"{viewer.url}/trace/{trace_id(12).hex()}")
    page.locator("#usual").click()
    expect(page).to_have_url(f"{viewer.url}/compare?a={trace_id(12).hex()}&b=usual")
    rows = page.locator("#tree tbody tr")
    expect(rows).to_have_count(6)
    cells = [[cell.text_content() for cell in row.locator("td").all()[:4]] for row in rows.all()]
    assert cells == [
        ["orders POST /orders", "36.0 ms", "117 ms", "3.3\u00d7 slower"],
        ["orders reserve", "11.0 ms", "11.0 ms", ""],
        ["orders pay", "20.0 ms", "100 ms", "5.0\u00d7 slower"],
        ["orders cheer", "5.00 ms", "", "missing"],
        ["orders retry", "1.00 ms", "1.00 ms", "in 1 of 11"],
        ["orders apologise", "", "5.00 ms", "new"],
    ]
    expect(page.locator("#why li").first).to_have_text("orders pay +80.0 ms")
    expect(page.locator("#both")).to_contain_text("in the middle of 11 others")
    page.get_by_label("Only differences").check()
    expect(rows).to_have_count(5)


def test_no_usual_shape(viewer: Viewer, page: Page) -> None:
    """Too few others have no usual shape, and that is told."""
    page.goto(f"{viewer.url}/compare?a={trace_id(1).hex()}&b=usual")
    expect(page.locator("#title")).to_have_text("These traces cannot be compared: trace not found")
    _order(viewer, 1, ("pay", 20))
    page.reload()
    expect(page.locator("#ask")).to_have_text("No other of this request: no usual shape yet.")
    _order(viewer, 2, ("pay", 20))
    _order(viewer, 3, ("pay", 20))
    page.reload()
    expect(page.locator("#ask")).to_have_text("Only 2 others of this request: no usual shape yet.")


def test_unknown_trace(viewer: Viewer, page: Page) -> None:
    """That a trace is not kept, or that none is named, is told."""
    page.goto(f"{viewer.url}/compare?a=abc&b=abd")
    expect(page.locator("#title")).to_have_text("These traces cannot be compared: trace not found")
    page.goto(f"{viewer.url}/compare")
    expect(page.locator("#title")).to_contain_text("the address names none")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_accessible(viewer: Viewer, page: Page, width: int, scheme: str) -> None:
    """Axe finds nothing serious, and nothing is wider than the window."""
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    _order(viewer, 1, ("reserve", 10), ("pay", 20), ("cheer", 5))
    _order(viewer, 2, ("reserve", 11), ("pay", 100), ("apologise", 5), error="late")
    for index in range(3, 9):
        _order(viewer, index, ("reserve", 11), ("pay", 20), ("apologise", 5))
    page.goto(_address(viewer) if width == 400 else f"{viewer.url}/compare?a={trace_id(2).hex()}&b=usual")
    expect(page.locator("#tree tbody tr").first).to_be_visible()
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
