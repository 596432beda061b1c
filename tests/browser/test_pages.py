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
    START_NS,
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
    expect(page.locator(".log")).to_have_count(2)
    page.locator(".span").click()
    details = page.locator("#details")
    expect(details.locator("h1")).to_have_text(HOSTILE)
    expect(details.locator("dt", has_text=HOSTILE)).to_have_count(5)  # span, event, two logs, resource
    expect(details.locator("dd", has_text=HOSTILE)).to_have_count(9)  # and scope, its version, status, event's name
    expect(details.locator("h2", has_text=HOSTILE)).to_have_count(2)
    expect(details.locator("a")).to_have_attribute("href", f"/trace/{HOSTILE.encode().hex()}")
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
    page.locator(".span").last.click()
    expect(page.locator("#details")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_trace(viewer: Viewer, page: Page) -> None:
    """Logs stand under their span, durations are exact, and an order's size fits one screen with the details."""
    names = [f"step {depth}" for depth in range(1, 17)]
    message = nested(1, names)
    message.resource_spans[0].scope_spans[0].spans[15].end_time_unix_nano = START_NS + 16_000_400
    viewer.send("traces", message)
    for depth in (1, 3, 5, 99):
        viewer.send("logs", log_request(_log(AnyValue(string_value=f"at {depth}"), span=depth)))
    page.goto(f"{viewer.url}/trace/{trace_id(1).hex()}")
    expect(page.locator(".span")).to_have_count(16)
    lines = [re.sub(r"\s+", " ", line) for line in page.locator("#waterfall > *").all_text_contents()]
    assert lines[:4] == ["orders step 198.0 ms", "INFO at 1", "orders step 296.0 ms", "orders step 394.0 ms"]
    assert lines[-2:] == ["orders step 16400 ns", "INFO at 99"]
    page.keyboard.press("j")
    expect(page.locator("#details h1")).to_have_text("step 1")
    page.keyboard.press("j")
    expect(page.locator("#details h1")).to_have_text("step 2")
    page.keyboard.press("k")
    expect(page.locator("#details h1")).to_have_text("step 1")
    last = page.locator("#waterfall > *").last.bounding_box()
    assert last is not None
    assert last["y"] + last["height"] < 800
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


def test_many_spans(viewer: Viewer, page: Page) -> None:
    """A large trace is drawn in portions, and spans that are each other's parents are not left out."""
    spans = [Span(trace_id=trace_id(1), span_id=span_id(index), name=f"{index}") for index in range(1, 1501)]
    spans[0].parent_span_id, spans[1].parent_span_id = span_id(2), span_id(1)
    viewer.send("traces", request(spans))
    page.goto(f"{viewer.url}/trace/{trace_id(1).hex()}")
    expect(page.locator(".span")).to_have_count(1000)
    page.get_by_text("Show 500 more of 1500 spans").click()
    expect(page.locator(".span")).to_have_count(1500)


def test_unknown_trace(viewer: Viewer, page: Page) -> None:
    """A trace that is not kept is told so."""
    page.goto(f"{viewer.url}/trace/abc")
    expect(page.locator("#title")).to_have_text("This trace cannot be shown: trace not found")
