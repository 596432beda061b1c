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
    expect(page.locator("#service option")).to_have_text(["all", HOSTILE])
    expect(page.locator(".chip")).to_have_text(f"{HOSTILE} 1")
    page.locator("#traces a").click()
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
    expect(page.locator("#traces a")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#traces a").click()
    page.locator(".row.span").last.click()
    expect(page.locator("#pane")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_list_is_live(viewer: Viewer, page: Page) -> None:
    """Without traces the page says how to send some; the first one and later ones appear by themselves."""
    page.goto(viewer.url)
    expect(page.locator("#empty")).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={viewer.otlp_url}")
    viewer.send("traces", nested(1, ["first", "child"]))
    expect(page.locator("#traces a")).to_have_text(["first"])
    expect(page.locator("#empty")).to_be_hidden()
    page.locator("tbody tr").hover()
    viewer.send("traces", nested(2, ["second"]))
    expect(page.locator("#fresh")).to_have_text("1 new")
    expect(page.locator("#traces a")).to_have_text(["first"])
    page.locator("#fresh").click()
    expect(page.locator("#traces a")).to_have_count(2)


def test_restart(viewer: Viewer, page: Page) -> None:
    """While the viewer is away the page says so and keeps its rows; when it is back, the page goes on."""
    viewer.send("traces", nested(1, ["before"]))
    page.goto(viewer.url)
    expect(page.locator("#traces a")).to_have_text(["before"])
    viewer.stop()
    expect(page.locator("body")).to_have_class("offline")
    expect(page.locator("#traces a")).to_have_text(["before"])
    viewer.start()
    viewer.send("traces", nested(2, ["after"]))
    expect(page.locator("#traces a")).to_have_count(2)
    expect(page.locator("body")).not_to_have_class("offline")


def test_back_and_forward(viewer: Viewer, page: Page) -> None:
    """A chosen service is part of the URL, and back and forward lead through list and trace."""
    viewer.send("traces", nested(1, ["order"]))
    viewer.send("traces", nested(2, ["payment"], service="payments"))
    rows = page.locator("#traces a")
    page.goto(viewer.url)
    expect(rows).to_have_count(2)
    page.locator("#service").select_option("payments")
    expect(rows).to_have_text(["payment"])
    rows.click()
    expect(page.locator(".row.span")).to_have_count(1)
    page.go_back()
    expect(rows).to_have_text(["payment"])
    expect(page.locator("#service")).to_have_value("payments")
    page.go_back()
    expect(rows).to_have_count(2)
    page.go_forward()
    expect(rows).to_have_text(["payment"])
