"""What holds for every page that lists: a stranger's text stays text, and everybody can use it."""

from __future__ import annotations

import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from playwright.sync_api import ConsoleMessage, Dialog, Page, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import called, gauge_request, log_request, record, span_id, text

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
# What shows that a page has drawn what it lists.
DRAWN = {
    "/": "#now .shape",
    "/traces": "#traces .request a",
    "/services": "#map .node",
    "/services?service={}": "#histogram .column",
    "/logs": ".record",
    "/metrics": "#chart .series",
    "/doctor": "#senders .chip",
}


def _send(viewer: Viewer, service: str, words: str, attribute: KeyValue) -> None:
    now_ns = time.time_ns()
    sent = called(1, f"{service} 1", service, error=words, start_ns=now_ns)
    for resource_spans in sent.resource_spans:
        for span in resource_spans.scope_spans[0].spans:
            span.name = words
            span.attributes.append(attribute)
            span.attributes.append(text("error.type", words))
    viewer.send("traces", sent)
    fields = {"time_unix_nano": now_ns, "severity_text": words[:20], "attributes": [attribute], "span_id": span_id(1)}
    logs = log_request(record(words, **fields), record("plain", time_unix_nano=now_ns, severity_number=17))
    logs.resource_logs[0].resource.attributes[0].value.string_value = service
    viewer.send("logs", logs)
    metrics = gauge_request(words, 3)
    resource_metrics = metrics.resource_metrics[0]
    resource_metrics.resource.attributes[0].value.string_value = service
    metric = resource_metrics.scope_metrics[0].metrics[0]
    metric.unit = metric.description = words
    metric.gauge.data_points[0].attributes.append(attribute)
    metric.gauge.data_points[0].time_unix_nano = now_ns
    viewer.send("metrics", metrics)


def test_hostile_text_is_text(viewer: Viewer, page: Page) -> None:
    """In every field, on every page, a stranger's text is shown as text: no element, no dialog, no complaint."""
    trouble: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        trouble.append(dialog.message)
        dialog.dismiss()

    def note(message: ConsoleMessage) -> None:
        trouble.append(message.text)

    page.on("dialog", dismiss)
    page.on("console", note)
    _send(viewer, HOSTILE, HOSTILE, text(HOSTILE, HOSTILE))
    for path, drawn in DRAWN.items():
        page.goto(viewer.url + path.format(HOSTILE))
        expect(page.locator(drawn).first).to_be_visible()
        for row in page.locator(".record summary").all():
            row.click()
        expect(page.get_by_text(HOSTILE[:20]).first).to_be_attached()
        assert page.locator("main img, main script").count() == 0
    page.goto(f"{viewer.url}/traces")
    box = page.get_by_role("combobox")
    box.press_sequentially("<")
    page.get_by_role("option").first.click()
    expect(page.get_by_role("option")).to_have_text([HOSTILE])
    page.get_by_role("option").click()
    box.press("Enter")
    expect(page.locator("#traces .request a")).to_have_text([HOSTILE])
    assert page.locator("main img, main script").count() == 0
    assert trouble == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_accessible(viewer: Viewer, page: Page, width: int, scheme: str) -> None:
    """Axe finds nothing wrong, with data, without, and while a query is typed."""
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")

    problems: list[tuple[str, str, list[str]]] = []

    def look(where: str) -> None:
        found = Axe().run(page).response["violations"]
        problems.extend((where, one["id"], [node["html"] for node in one["nodes"]]) for one in found)

    for path in ("/", "/services", "/logs", "/metrics", "/traces?q=nothing"):
        page.goto(viewer.url + path)
        expect(page.locator(".teach:visible")).to_have_count(1)
        look(f"empty {path}")
    _send(viewer, "orders", "declined", text("sku", "mug"))
    for path, drawn in DRAWN.items():
        page.goto(viewer.url + path.format("orders"))
        expect(page.locator(drawn).first).to_be_visible()
        for row in page.locator(".record summary").all():
            row.click()
        look(path)
    page.goto(f"{viewer.url}/traces?q=NOT")
    page.get_by_role("combobox").press_sequentially(" s")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("option").first).to_be_visible()
    look("completion")
    assert problems == []
