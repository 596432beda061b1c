"""Log records in a real Chromium."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import START_NS, log_request, record, span_id, text, trace_id

MESSAGES = ".record .message"


def test_live(viewer: Viewer, page: Page) -> None:
    """Without records the page says how to send some; they appear by themselves, the newest first."""
    page.goto(f"{viewer.url}/logs")
    expect(page.locator("#empty")).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={viewer.otlp_url}")
    viewer.send("logs", log_request(record("placed")))
    expect(page.locator(MESSAGES)).to_have_text(["placed"])
    viewer.send("logs", log_request(record("shipped", time_unix_nano=START_NS + 1)))
    expect(page.locator(MESSAGES)).to_have_text(["shipped", "placed"])


def test_pause_and_reading(viewer: Viewer, page: Page) -> None:
    """While a record is open, or the page paused, nothing moves."""
    viewer.send("logs", log_request(record("placed")))
    page.goto(f"{viewer.url}/logs")
    page.locator(".record summary").click()
    viewer.send("logs", log_request(record("shipped", time_unix_nano=START_NS + 1)))
    expect(page.locator("#fresh")).to_have_text("1 new")
    expect(page.locator(MESSAGES)).to_have_text(["placed"])
    page.locator("#fresh").click()
    expect(page.locator(MESSAGES)).to_have_text(["shipped", "placed"])
    expect(page.locator(".record").last).to_have_attribute("open", "")
    page.locator("#pause").click()
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")


def test_a_record(viewer: Viewer, page: Page) -> None:
    """A row opens to its attributes, each of which narrows the list, and to its place in the trace."""
    viewer.send("logs", log_request(record("placed", attributes=[text("sku", "large mug")], span_id=span_id(1))))
    viewer.send("logs", log_request(record("shipped")))
    page.goto(f"{viewer.url}/logs")
    expect(page.locator(MESSAGES)).to_have_count(2)
    row = page.locator(".record", has_text="placed")
    row.locator("summary").click()
    expect(row.get_by_role("link", name="Its place in the trace")).to_have_attribute(
        "href", f"/trace/{trace_id(1).hex()}?span={span_id(1).hex()}"
    )
    row.get_by_role("link", name="Only records whose sku").click()
    expect(page.locator(MESSAGES)).to_have_text(["placed"])
    expect(page.get_by_role("combobox")).to_have_value('sku="large mug"')
    page.go_back()
    expect(page.locator(MESSAGES)).to_have_count(2)


def test_levels(viewer: Viewer, page: Page) -> None:
    """Levels are told apart by their number or, without one, by their name."""
    levels = [(17, "ERROR"), (13, "WARN"), (9, "INFO"), (5, "DEBUG"), (0, "error"), (0, "Warning"), (0, "")]
    for number, (severity, name) in enumerate(levels):
        fields = {"severity_number": severity, "severity_text": name, "time_unix_nano": START_NS - number}
        viewer.send("logs", log_request(record(f"level {number}", **fields)))
    page.goto(f"{viewer.url}/logs")
    expect(page.locator(".record")).to_have_count(7)
    classes = page.locator(".record").evaluate_all("nodes => nodes.map((node) => node.classList[1])")
    assert classes == ["error", "warning", "info", "debug", "error", "warning", "info"]


def test_same_records(viewer: Viewer, page: Page) -> None:
    """Records that are the same in everything are all shown, and only once each."""
    viewer.send("logs", log_request(record("again"), record("again")))
    page.goto(f"{viewer.url}/logs")
    expect(page.locator(MESSAGES)).to_have_count(2)
    viewer.send("logs", log_request(record("another", time_unix_nano=START_NS + 1)))
    expect(page.locator(MESSAGES)).to_have_text(["another", "again", "again"])


def test_older(viewer: Viewer, page: Page) -> None:
    """Older records come on demand."""
    records = [record(f"number {number}", time_unix_nano=START_NS + number * 1000) for number in range(250)]
    viewer.send("logs", log_request(*records))
    page.goto(f"{viewer.url}/logs")
    expect(page.locator(MESSAGES)).to_have_count(200)
    page.get_by_role("button", name="Show older").click()
    expect(page.locator(MESSAGES)).to_have_count(250)


def test_query(viewer: Viewer, page: Page) -> None:
    """A query is part of the URL; one that nothing meets leads back to all."""
    viewer.send("logs", log_request(record("placed")))
    page.goto(f"{viewer.url}/logs?q=shipped")
    expect(page.locator("#none")).to_be_visible()
    page.get_by_role("combobox").fill("NOT")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("NOT stands before a condition")
    page.get_by_role("combobox").fill("plac")
    page.keyboard.press("Enter")
    expect(page.locator(MESSAGES)).to_have_text(["placed"])
    expect(page).to_have_url(f"{viewer.url}/logs?q=plac")


def test_unfinished_search(viewer: Viewer, page: Page) -> None:
    """A search that has not looked at everything says how far it came, not that there is nothing, and goes on there."""
    viewer.send("logs", log_request(record("placed")))
    searched_to = START_NS // 1000 + 60_000_000
    page.route(
        "**/api/logs*",
        lambda route: (
            route.continue_()
            if f"end={searched_to}" in route.request.url
            else route.fulfill(json={"logs": [], "complete": False, "searchedTo": searched_to, "otlp": ""})
        ),
    )
    page.goto(f"{viewer.url}/logs?q=placed")
    expect(page.locator("#older")).to_contain_text("Searched until")
    expect(page.locator("#none")).to_be_hidden()
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(MESSAGES)).to_have_text(["placed"])
