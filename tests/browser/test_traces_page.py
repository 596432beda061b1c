"""The live list of traces in a real Chromium."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import START_NS, called, nested, trace_id

NAMES = "#traces .request a"


def test_empty(viewer: Viewer, page: Page) -> None:
    """Without traces the page says how to send some; the first one appears by itself."""
    page.goto(viewer.url)
    expect(page.locator("#empty")).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={viewer.otlp_url}")
    viewer.send("traces", nested(1, ["first", "child"]))
    expect(page.locator(NAMES)).to_have_text(["first"])
    expect(page.locator("#empty")).to_be_hidden()


def test_new_ones_do_not_move_what_is_read(viewer: Viewer, page: Page) -> None:
    """While the pointer is on a row new traces are only counted; what the row says is kept true."""
    page.goto(viewer.url)
    viewer.send("traces", nested(1, ["first", "child"]))
    expect(page.locator(NAMES)).to_have_text(["first"])
    page.locator("tbody tr").first.hover()
    viewer.send("traces", nested(2, ["second"]))
    expect(page.locator("#fresh")).to_have_text("1 new")
    viewer.send("traces", nested(1, ["first", "child", "late"]))
    expect(page.locator("#traces .chip")).to_have_text(["orders 3"])
    expect(page.locator(NAMES)).to_have_text(["first"])
    page.locator("#fresh").click()
    expect(page.locator(NAMES)).to_have_count(2)


def test_pause(viewer: Viewer, page: Page) -> None:
    """A paused list stays as it is until the reader goes on."""
    viewer.send("traces", nested(1, ["first"]))
    page.goto(f"{viewer.url}/traces")
    expect(page.locator(NAMES)).to_have_text(["first"])
    page.locator("#pause").click()
    with page.expect_request("**/api/find*"):  # of this goto only: the list itself asks no more
        viewer.send("traces", nested(2, ["second"]))
        page.evaluate("fetch('/api/find?q=')")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(NAMES)).to_have_text(["first"])
    page.locator("#pause").click()
    expect(page.locator(NAMES)).to_have_count(2)


def test_restart(viewer: Viewer, page: Page) -> None:
    """While the viewer is away the page says so and keeps its rows; when it is back, the page goes on."""
    viewer.send("traces", nested(1, ["before"]))
    page.goto(f"{viewer.url}/traces")
    expect(page.locator(NAMES)).to_have_text(["before"])
    viewer.stop()
    expect(page.locator("body")).to_have_class("offline")
    expect(page.locator(NAMES)).to_have_text(["before"])
    viewer.start()
    viewer.send("traces", nested(2, ["after"]))
    expect(page.locator(NAMES)).to_have_count(2)
    expect(page.locator("body")).not_to_have_class("offline")


def test_query_is_in_the_url(viewer: Viewer, page: Page) -> None:
    """A query is part of the URL, and back and forward lead through queries and traces."""
    viewer.send("traces", nested(1, ["order"]))
    viewer.send("traces", nested(2, ["payment"], service="payments"))
    rows, box = page.locator(NAMES), page.get_by_role("combobox")
    page.goto(viewer.url)
    expect(rows).to_have_count(2)
    box.fill("service=payments")
    box.press("Enter")
    expect(page).to_have_url(f"{viewer.url}/traces?q=service%3Dpayments")
    expect(rows).to_have_text(["payment"])
    rows.click()
    expect(page).to_have_url(re.compile("/trace/"))
    page.go_back()
    expect(rows).to_have_text(["payment"])
    expect(box).to_have_value("service=payments")
    page.go_back()
    expect(rows).to_have_count(2)
    expect(box).to_have_value("")
    page.go_forward()
    expect(rows).to_have_text(["payment"])


def test_chip_narrows(viewer: Viewer, page: Page) -> None:
    """A service's chip adds the service to the query, once."""
    viewer.send("traces", nested(1, ["order"]))
    viewer.send("traces", nested(2, ["payment"], service="my payments"))
    page.goto(f"{viewer.url}/traces")
    page.locator("#traces .chip", has_text="my payments").click()
    expect(page.locator(NAMES)).to_have_text(["payment"])
    expect(page.get_by_role("combobox")).to_have_value('service="my payments"')
    page.locator("#traces .chip").click()
    expect(page.get_by_role("combobox")).to_have_value('service="my payments"')


def test_completion(viewer: Viewer, page: Page) -> None:
    """With the keyboard alone: a key, then its value, then the search; Escape closes the list."""
    viewer.send("traces", nested(1, ["place order"]))
    viewer.send("traces", nested(2, ["pay"]))
    page.goto(f"{viewer.url}/traces")
    expect(page.locator(NAMES)).to_have_count(2)
    box, options = page.get_by_role("combobox"), page.get_by_role("option")
    page.keyboard.press("/")
    page.keyboard.type("oper")
    expect(options).to_have_count(1)
    expect(box).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("Escape")
    expect(options.first).to_be_hidden()
    page.keyboard.press("ArrowDown")
    expect(options).to_have_count(1)
    page.keyboard.press("ArrowDown")
    expect(box).to_have_attribute("aria-activedescendant", "completion-0")
    page.keyboard.press("Enter")
    expect(box).to_have_value("operation=")
    expect(options).to_have_text(["pay", "place order"])
    page.keyboard.press("ArrowUp")
    expect(options.last).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(box).to_have_value('operation="place order" ')
    page.keyboard.press("Enter")
    expect(page.locator(NAMES)).to_have_text(["place order"])


def test_malformed_query(viewer: Viewer, page: Page) -> None:
    """What is wrong about a query stands under its box, and goes with the next one that is right."""
    viewer.send("traces", nested(1, ["order"]))
    page.goto(f"{viewer.url}/traces?q=%22order")
    expect(page.get_by_role("alert")).to_contain_text("is a quote missing?")
    expect(page.locator("body")).not_to_have_class("offline")
    page.get_by_role("combobox").fill('"order"')
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("")
    expect(page.locator(NAMES)).to_have_text(["order"])


def test_nothing_found(viewer: Viewer, page: Page) -> None:
    """A query that nothing meets says so, and leads back to all."""
    viewer.send("traces", nested(1, ["order"]))
    page.goto(f"{viewer.url}/traces?q=nothing")
    page.get_by_role("link", name="Show all traces").click()
    expect(page.locator(NAMES)).to_have_text(["order"])


def test_older(viewer: Viewer, page: Page) -> None:
    """Older traces come on demand, and new ones then push none of them out."""
    for number in range(1, 121):
        viewer.send("traces", called(number, "orders", "payments", start_ns=START_NS + number * 10**6))
    page.goto(f"{viewer.url}/traces")
    expect(page.locator(NAMES)).to_have_count(100)
    page.get_by_role("button", name="Show older").click()
    expect(page.locator(NAMES)).to_have_count(120)
    expect(page.locator("#older")).to_be_hidden()


def test_unfinished_search(viewer: Viewer, page: Page) -> None:
    """A search that did not look at everything says how far it came, and goes on from there."""
    viewer.send("traces", nested(1, ["order"]))
    searched_to = 1_600_000_000_000_000
    page.route(
        re.compile("/api/find"),
        lambda route: (
            route.continue_()
            if f"end={searched_to}" in route.request.url
            else route.fulfill(json={"traces": [], "complete": False, "searchedTo": searched_to, "otlp": ""})
        ),
    )
    page.goto(f"{viewer.url}/traces?q=rare")
    expect(page.locator("#older")).to_contain_text("Searched until")
    expect(page.locator("#none")).to_be_hidden()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#none")).to_be_visible()


def test_scatter(viewer: Viewer, page: Page) -> None:
    """A dot opens its trace, and a drag narrows the time until it is taken back."""
    start_ns = time.time_ns() - 60 * 10**9
    for number in (1, 2, 3):
        sent = called(number, "orders", "payments", start_ns=start_ns + number * 10**9)
        viewer.send("traces", sent)
    page.goto(f"{viewer.url}/traces")
    dots = page.locator("#scatter [data-trace]")
    expect(dots).to_have_count(3)
    box = page.locator("#scatter svg").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 40)
    page.mouse.up()
    expect(page.locator(NAMES)).to_have_count(1)
    expect(page).to_have_url(re.compile(r"start=\d+&end=\d+"))
    page.locator("#range").click()
    expect(dots).to_have_count(3)
    page.locator(f'#scatter [data-trace="{trace_id(2).hex()}"]').click()
    expect(page).to_have_url(f"{viewer.url}/trace/{trace_id(2).hex()}")


def test_now(viewer: Viewer, page: Page) -> None:
    """The first page begins with what is wrong now: services with their rates, and errors in groups."""
    now_ns = time.time_ns()
    for number in (1, 2):
        error = f"card {number} was declined"
        viewer.send("traces", called(number, "orders", "payments", error=error, start_ns=now_ns - 10**9 * number))
    page.goto(viewer.url)
    expect(page.locator("#now .trends .chip")).to_have_text(["orders", "payments"])
    expect(page.locator("#now .shape")).to_have_text(["card 1 was declined"])
    expect(page.locator("#now .times")).to_have_text(["2\u00d7"])
    page.locator("#now .times a").click()
    expect(page.locator(NAMES)).to_have_count(2)
    expect(page.locator("#now")).to_be_hidden()
    page.get_by_role("link", name="Now").click()
    expect(page.locator("#now .shape")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 400])
def test_widths(viewer: Viewer, page: Page, width: int) -> None:
    """Names without end do not widen the page."""
    page.set_viewport_size({"width": width, "height": 800})
    sent = called(1, "W" * 400, "V" * 400, error="E" * 400, start_ns=time.time_ns())
    viewer.send("traces", sent)
    page.goto(viewer.url)
    expect(page.locator("#now .shape")).to_be_visible()
    expect(page.locator(NAMES)).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") == width
