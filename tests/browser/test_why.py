"""What sets some of the listed traces apart, in a real Chromium."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import request, span, text

MS, SECOND = 10**6, 10**9
ROWS = "#why tbody tr"


def _orders(viewer: Viewer, many: int = 40) -> None:
    """Orders, one a second, of which every fifth takes long in its payment, and fails."""
    for trace in range(1, many + 1):
        at, bad = trace * SECOND, trace % 5 == 0
        end = at + (800 if bad else 20) * MS
        sku = text("sku", "anvil" if trace % 2 else "mug")
        viewer.send(
            "traces",
            request([span(trace, 1, name="POST /orders", start_ns=at, end_ns=end, error=bad, attributes=[sku])]),
        )
        bank = [text("bank", "far" if bad else "near"), text("note", '<b>"slow"' if bad else "ok")]
        paid = [span(trace, 2, 1, name="pay", start_ns=at, end_ns=end, attributes=bank)]
        viewer.send("traces", request(paid, service="payments"))


def test_errors(viewer: Viewer, page: Page) -> None:
    """Asked why the errors, the page shows what they have more often; a click narrows to it, back leads back."""
    _orders(viewer)
    page.goto(f"{viewer.url}/traces")
    page.get_by_role("button", name="The errors").click()
    expect(page).to_have_url(f"{viewer.url}/traces?why=errors")
    expect(page.locator("#why")).to_contain_text("8 traces with errors against 32 without.")
    rows = page.locator(ROWS)
    expect(rows).to_have_count(1)
    expect(rows.locator("td > a")).to_have_text("bank=far")
    expect(rows.locator(".figure")).to_have_text(["100 %", "0 %"])
    rows.locator("summary").click()
    rows.locator("details a").click()
    expect(page.get_by_role("combobox")).to_have_value('note="<b>\\"slow\\""')
    expect(page.locator("#traces tbody tr")).to_have_count(8)
    expect(page.locator("#why")).to_contain_text("Too few to tell")
    page.go_back()
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#why")).to_be_hidden()
    expect(page).to_have_url(f"{viewer.url}/traces")


def test_query(viewer: Viewer, page: Page) -> None:
    """Traces that meet the query are set apart from the others; what no span has beside it is shown alone."""
    _orders(viewer)
    page.goto(f"{viewer.url}/traces?q=operation%3D%22POST+%2Forders%22+error")
    page.get_by_role("button", name="These").click()
    expect(page.locator("#why")).to_contain_text("8 traces that meet the query against 32 that do not")
    page.locator(ROWS).locator("td > a", has_text="bank=far").click()
    expect(page.get_by_role("combobox")).to_have_value("bank=far")
    expect(page.locator("#traces tbody tr")).to_have_count(8)


def test_box(viewer: Viewer, page: Page) -> None:
    """A box that is drawn around traces asks what sets them apart; the list stays, and the box is in the address."""
    _orders(viewer)
    page.goto(f"{viewer.url}/traces")
    expect(page.locator("#traces tbody tr")).to_have_count(40)
    chart = page.locator(".scatter").bounding_box()
    assert chart is not None
    page.mouse.move(chart["x"] + 60, chart["y"] + 2)
    page.mouse.down()
    page.mouse.move(chart["x"] + chart["width"] - 14, chart["y"] + 50)
    page.mouse.up()
    expect(page.locator("#why")).to_contain_text("8 traces in the box against 32 others, ")
    expect(page.locator(ROWS).locator("td > a").first).to_have_text("bank=far")
    asked = parse_qs(urlsplit(page.url).query)
    assert 20 * MS < int(asked["shortest"][0]) < 800 * MS
    assert "longest" not in asked
    expect(page.locator(".scatter .box")).to_have_count(1)
    expect(page.locator("#traces tbody tr")).to_have_count(40)
    page.reload()
    expect(page.locator("#why")).to_contain_text("8 traces in the box against 32 others, ")
    page.get_by_role("button", name="The slowest tenth").click()
    expect(page).to_have_url(re.compile("shortest=800000000"))


def test_drag_along(viewer: Viewer, page: Page) -> None:
    """A drag along the time narrows it, and asks nothing."""
    _orders(viewer, many=10)
    page.goto(f"{viewer.url}/traces")
    expect(page.locator("#traces tbody tr")).to_have_count(10)
    chart = page.locator(".scatter").bounding_box()
    assert chart is not None
    page.mouse.move(chart["x"] + chart["width"] / 2, chart["y"] + 50)
    page.mouse.down()
    page.mouse.move(chart["x"] + chart["width"] - 14, chart["y"] + 60)
    page.mouse.up()
    expect(page.locator("#traces tbody tr")).to_have_count(5)
    expect(page.locator("#why")).to_be_hidden()


def test_nothing_to_ask(viewer: Viewer, page: Page) -> None:
    """Few traces without errors are not asked about; a question that makes no sense is answered in words."""
    _orders(viewer, many=4)
    page.goto(f"{viewer.url}/traces")
    expect(page.locator("#traces tbody tr")).to_have_count(4)
    expect(page.locator("#asks")).to_be_hidden()
    page.goto(f"{viewer.url}/traces?why=box&from=x")
    expect(page.locator("#why .error")).to_have_text("from must be a whole number")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (400, "light")])
def test_accessible(viewer: Viewer, page: Page, width: int, scheme: str) -> None:
    """Axe finds nothing serious, and nothing is wider than the window."""
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    _orders(viewer)
    page.goto(f"{viewer.url}/traces?why=errors")
    expect(page.locator(ROWS).first).to_be_visible()
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
