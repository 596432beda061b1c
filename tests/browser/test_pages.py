"""The pages in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from playwright.sync_api import ConsoleMessage, Dialog, Page, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import (
    failed,
    log_request,
    nested,
    request,
    span_id,
    text,
    trace_id,
)

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def _log(
    body: AnyValue, *, span: int = 1, severity_text: str = "INFO", attributes: Sequence[KeyValue] = ()
) -> LogRecord:
    return LogRecord(
        trace_id=trace_id(1), span_id=span_id(span), severity_text=severity_text, body=body, attributes=attributes
    )


def test_hostile_text_is_text(viewer: Viewer, page: Page) -> None:
    """From the list to a span's details a stranger's text is shown as text: no element, no dialog, no complaint."""
    trouble: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        trouble.append(dialog.message)
        dialog.dismiss()

    def note(message: ConsoleMessage) -> None:
        trouble.append(message.text)

    page.on("dialog", dismiss)
    page.on("console", note)
    attributes = [text(HOSTILE, HOSTILE)]
    span = Span(
        trace_id=trace_id(1),
        span_id=span_id(1),
        name=HOSTILE,
        trace_state=HOSTILE,
        attributes=attributes,
        events=[Span.Event(name=HOSTILE, attributes=attributes)],
        links=[Span.Link(trace_id=HOSTILE.encode(), span_id=HOSTILE.encode(), attributes=attributes)],
        status=failed(HOSTILE),
    )
    message = request([span], service=HOSTILE)
    message.resource_spans[0].resource.attributes.extend(attributes)
    message.resource_spans[0].scope_spans[0].scope.CopyFrom(InstrumentationScope(name=HOSTILE, version=HOSTILE))
    viewer.send("traces", message)
    structured = AnyValue()
    structured.kvlist_value.values.append(text(HOSTILE, HOSTILE))
    for body in (AnyValue(string_value=HOSTILE), structured):
        viewer.send("logs", log_request(_log(body, severity_text=HOSTILE, attributes=attributes)))

    page.goto(viewer.url)
    expect(page.locator("#traces .chip")).to_have_text(f"{HOSTILE} 1 · 1 ✕")
    page.locator("#traces .request a").click()
    expect(page).to_have_title(f"{HOSTILE} · Clearspan")
    expect(page.locator(".row.log")).to_have_count(2)
    expect(page.locator(".row.problem .text")).to_have_text(HOSTILE)
    page.locator(".row.span").click()
    pane = page.locator("#pane")
    expect(pane.locator("h2")).to_have_text(HOSTILE)
    expect(pane.locator("dt", has_text=HOSTILE)).to_have_count(6)  # span, event, link, two logs, resource
    expect(pane.locator("dd", has_text=HOSTILE)).to_have_count(9)  # and service, scope, trace state
    expect(pane.locator("h4", has_text=HOSTILE)).to_have_count(2)
    expect(pane.locator("p > a")).to_have_attribute("href", re.compile(f"^/trace/{HOSTILE.encode().hex()}[?]"))
    page.keyboard.press("s")
    expect(pane.locator("svg text").first).to_have_text(HOSTILE[:14] + "…")
    assert page.locator("main img, main script").count() == 0
    assert trouble == []


@pytest.mark.parametrize("width", [1280, 400])
def test_long_names(viewer: Viewer, page: Page, width: int) -> None:
    """Names without end, or that turn the direction of writing, do not widen a page."""
    page.set_viewport_size({"width": width, "height": 800})
    viewer.send("traces", nested(1, ["W" * 500, "\u202e" + "W" * 500], service="\u202e" + "W" * 500))
    page.goto(viewer.url)
    expect(page.locator("#traces .request a")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#traces .request a").click()
    page.locator(".row.span").last.click()
    expect(page.locator("#pane")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
