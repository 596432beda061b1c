"""The page of one trace in a real Chromium."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import (
    START_NS,
    failed,
    log_request,
    nested,
    number,
    request,
    span_id,
    text,
    trace_id,
)

MS = 1_000_000


def _span(
    index: int,
    parent: int | None = None,
    *,
    name: str = "",
    kind: Span.SpanKind.ValueType = Span.SPAN_KIND_INTERNAL,
    start: float = 0,
    end: float = 100,
    attributes: list[KeyValue] | None = None,
    error: str | None = None,
) -> Span:
    """A span of trace 1, from and to so many milliseconds after its start."""
    return Span(
        trace_id=trace_id(1),
        span_id=span_id(index),
        parent_span_id=b"" if parent is None else span_id(parent),
        name=name or f"span {index}",
        kind=kind,
        start_time_unix_nano=START_NS + round(start * MS),
        end_time_unix_nano=START_NS + round(end * MS),
        attributes=attributes or [],
        status=None if error is None else failed(error),
    )


def _log(body: str, span: int) -> LogRecord:
    return LogRecord(
        trace_id=trace_id(1), span_id=span_id(span), severity_text="INFO", body=AnyValue(string_value=body)
    )


def _address(viewer: Viewer, index: int = 1) -> str:
    return f"{viewer.url}/trace/{trace_id(index).hex()}"


def _show(page: Page, address: str) -> None:
    """Open a page and wait until its trace is drawn, so that keys are heard."""
    page.goto(address)
    expect(page.locator(".row").first).to_be_visible()


def _lines(page: Page) -> list[str]:
    """The rows that are drawn, from the top one down."""
    rows = page.locator(".row").all()
    by_place = sorted(rows, key=lambda row: int(row.get_attribute("data-index") or 0))
    return [re.sub(r"\s+", " ", row.text_content() or "").strip() for row in by_place]


def _chosen(page: Page) -> Locator:
    return page.locator(".row[aria-selected=true]")


def _attempt(index: int, start: float, end: float, *, resent: int = 0, error: str | None = None) -> Span:
    attributes = [
        text("server.address", "payments"),
        *([number("http.request.resend_count", resent)] if resent else []),
    ]
    return _span(
        index, 1, name="PUT", kind=Span.SPAN_KIND_CLIENT, start=start, end=end, attributes=attributes, error=error
    )


def _three_attempts(viewer: Viewer) -> None:
    """A request whose call is answered at its third attempt."""
    spans = [
        _span(1, name="POST /orders", kind=Span.SPAN_KIND_SERVER),
        _attempt(2, 5, 20, error="answered 503"),
        _attempt(3, 40, 50, resent=1, error="answered 503"),
        _attempt(4, 80, 95, resent=2),
        _span(5, 1, start=96, end=99, name="INSERT orders", kind=Span.SPAN_KIND_CLIENT),
    ]
    viewer.send("traces", request(spans))


def test_order_on_one_screen(viewer: Viewer, page: Page) -> None:
    """Logs stand under their span, durations are exact, and an order's size fits one screen with the details."""
    message = nested(1, [f"step {depth}" for depth in range(1, 17)])
    message.resource_spans[0].scope_spans[0].spans[15].end_time_unix_nano = START_NS + 16_000_400
    viewer.send("traces", message)
    for depth in (1, 3, 5, 99):
        viewer.send("logs", log_request(_log(f"at {depth}", depth)))
    _show(page, _address(viewer))
    expect(page.locator(".row.span")).to_have_count(16)
    lines = _lines(page)
    assert lines[:4] == ["orders step 198.0 ms", "INFO at 1", "orders step 296.0 ms", "orders step 394.0 ms"]
    assert lines[-2:] == ["orders step 16400 ns", "INFO at 99"]
    page.keyboard.press("j")
    expect(page.locator("#pane h2").first).to_have_text("step 1")
    last = page.locator(".row").last.bounding_box()
    assert last is not None
    assert last["y"] + last["height"] < 800
    assert page.evaluate("document.documentElement.scrollWidth") == 1280


def test_keys(viewer: Viewer, page: Page) -> None:
    """Keys move, fold, find the next error and close; the grid tells a screen reader where it is."""
    spans = [_span(1), _span(2, 1), _span(3, 2), _span(4, 1, error="out of stock"), _span(5, 1)]
    viewer.send("traces", request(spans))
    _show(page, _address(viewer))
    press, chosen = page.keyboard.press, _chosen(page)
    press("j")
    press("j")
    expect(chosen).to_contain_text("span 2")
    expect(chosen).to_have_attribute("aria-level", "2")
    expect(chosen).to_have_attribute("aria-expanded", "true")
    expect(chosen).to_have_attribute("aria-setsize", "3")
    grid = page.locator("#waterfall")
    expect(grid).to_have_attribute("aria-activedescendant", chosen.get_attribute("id") or "")
    press("h")
    expect(chosen).to_have_attribute("aria-expanded", "false")
    expect(chosen).to_contain_text("+1")
    expect(grid).to_have_attribute("aria-rowcount", "6")  # with the headings and the problem
    press("l")
    press("j")
    expect(chosen).to_contain_text("span 3")
    press("h")
    expect(chosen).to_contain_text("span 2")
    press("e")
    expect(chosen).to_contain_text("span 4")
    expect(page.locator(".row.problem")).to_have_text("failed out of stock")
    press("k")
    expect(chosen).to_contain_text("span 3")
    press("?")
    expect(page.locator("#help")).to_be_visible()
    press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    expect(page.locator("#pane")).to_be_visible()
    press("Escape")
    expect(page.locator("#pane")).to_be_hidden()


def test_folded_away(viewer: Viewer, page: Page) -> None:
    """What is chosen and then folded away leaves its place to what it is in."""
    viewer.send("traces", request([_span(1), _span(2, 1), _span(3, 2)]))
    _show(page, f"{_address(viewer)}?span={span_id(3).hex()}")
    page.locator(".row", has_text="span 2").locator(".fold").click()
    expect(_chosen(page)).to_contain_text("span 2")
    expect(page.locator("#pane h2").first).to_have_text("span 2")
    page.keyboard.press("L")
    expect(page.locator(".row")).to_have_count(3)
    page.keyboard.press("H")
    expect(page.locator(".row")).to_have_count(2)


def test_attempts(viewer: Viewer, page: Page) -> None:
    """The attempts of one call are one row with the waits between them, which opens into them."""
    _three_attempts(viewer)
    _show(page, _address(viewer))
    group = page.locator(".row.attempts")
    expect(group).to_contain_text("3 attempts")
    expect(group.locator(".bar:not(.wait)")).to_have_count(3)
    expect(group.locator(".bar.wait")).to_have_count(2)
    expect(group.locator(".bar.failed")).to_have_count(2)
    expect(page.locator(".row.span")).to_have_count(2)
    group.click()
    expect(page.locator("#pane tr")).to_have_text(
        [
            re.compile("attempt 1.*answered 503.*15.0 ms"),
            re.compile("wait.*20.0 ms"),
            re.compile("attempt 2.*answered 503.*10.0 ms"),
            re.compile("wait.*30.0 ms"),
            re.compile("attempt 3.*15.0 ms"),
        ]
    )
    page.locator("#pane a", has_text="attempt 2").click()
    expect(_chosen(page)).to_have_attribute("aria-level", "3")
    expect(page.locator(".row.span")).to_have_count(5)


def test_outbox_delay(viewer: Viewer, page: Page) -> None:
    """The wait of an event is grey: in the row of its delivery, and as a bridge to its consumer."""
    sends = [text("messaging.operation.type", "send")]
    message = request(
        [
            _span(1, end=20),
            _span(2, 1, name="create order.placed", kind=Span.SPAN_KIND_PRODUCER, start=10, end=12),
            _span(4, 2, name="send order.placed", kind=Span.SPAN_KIND_CLIENT, start=40, end=60, attributes=sends),
            _span(5, 2, name="process order.placed", kind=Span.SPAN_KIND_CONSUMER, start=45, end=55),
        ]
    )
    waits = message.resource_spans[0].scope_spans.add()
    waits.scope.name = "observability.events"
    waits.spans.append(_span(3, 2, name="wait order.placed", start=11, end=40))
    viewer.send("traces", message)
    _show(page, _address(viewer))
    delivery = page.locator(".row.attempts")
    expect(delivery).to_contain_text("send order.placed49.0 ms")
    expect(delivery.locator(".bar.wait")).to_have_count(1)
    expect(page.locator(".row.span", has_text="process").locator(".bridge")).to_have_count(1)
    expect(page.locator(".backdrop .idle")).to_have_count(1)  # between the request and the delivery


def test_idle_times(viewer: Viewer, page: Page) -> None:
    """Where a trace is idle for most of its time, that is squeezed and says how long it is, until it is asked for."""
    viewer.send("traces", request([_span(1, end=10), _span(2, 1, start=2000, end=2010)]))
    _show(page, _address(viewer))
    expect(page.locator(".idle.squeezed")).to_have_text("1.99 s")
    page.keyboard.press("w")
    expect(page.locator(".idle")).to_have_count(1)
    expect(page.locator(".idle.squeezed")).to_have_count(0)
    page.wait_for_url(re.compile("squeezed=no"))
    _show(page, page.url)
    expect(page.locator(".idle.squeezed")).to_have_count(0)


def test_oddities(viewer: Viewer, page: Page) -> None:
    """What is odd about a span is marked, and said in words."""
    spans = [
        _span(1),
        _span(2, 1, start=-5),
        _span(3, 1, start=50, end=40),
        _span(4, 77),
        _span(5, 6),
        _span(6, 5),
        _span(7, 1, start=5),
    ]
    spans[0].dropped_attributes_count = 3
    spans[6].end_time_unix_nano = 0
    viewer.send("traces", request(spans))
    _show(page, _address(viewer))
    expect(page.locator("#facts")).to_contain_text("6 odd")
    marks = {
        (row.locator(".operation").text_content() or ""): row.locator(".mark").get_attribute("aria-label")
        for row in page.locator(".row:has(.mark)").all()
    }
    assert marks == {
        "span 1": "dropped by its sender: 3 attributes",
        "span 2": "starts before its parent: clock skew",
        "span 3": "ends before it starts",
        "span 4": "its parent has not come",
        "span 5": "is its own ancestor",
        "span 7": "has not ended",
    }
    expect(page.locator(".row.span")).to_have_count(7)


def test_address(viewer: Viewer, page: Page) -> None:
    """The chosen span, the zoom and what is looked for are part of the address, which shows the same again."""
    _three_attempts(viewer)
    _show(page, _address(viewer))
    page.keyboard.press("j")
    page.keyboard.press("z")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("z")
    page.keyboard.press("/")
    page.keyboard.type("INSERT")
    expect(page.locator("#matches")).to_have_text("1 of 5")
    page.wait_for_url(re.compile("find=INSERT"))
    ticks = page.locator(".tick").all_text_contents()
    assert "80 ms" not in ticks
    _show(page, page.url)
    expect(_chosen(page)).to_contain_text("INSERT orders")
    expect(page.locator("#find")).to_have_value("INSERT")
    expect(page.locator(".row.other")).to_have_count(2)
    assert page.locator(".tick").all_text_contents() == ticks
    page.keyboard.press("0")
    expect(page.locator(".tick", has_text="80 ms")).to_have_count(1)


def test_brush(viewer: Viewer, page: Page) -> None:
    """What is brushed over in the strip above becomes the view; a double click shows everything again."""
    _three_attempts(viewer)
    _show(page, _address(viewer))
    expect(page.locator(".tick").last).to_have_text("100 ms")
    box = page.locator("#minimap").bounding_box()
    assert box is not None
    x, y, width = box["x"], box["y"] + 20, box["width"]
    page.mouse.move(x + width / 4, y)
    page.mouse.down()
    page.mouse.move(x + width / 2, y, steps=3)
    page.mouse.up()
    expect(page.locator(".tick").first).to_have_text("25 ms")
    expect(page.locator(".handle").first).to_have_attribute("aria-valuetext", re.compile(r"^\+2[45]\.\d ms$"))
    page.locator(".handle").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".handle").first).to_have_attribute("aria-valuetext", re.compile(r"^\+24\.\d ms$"))
    page.locator("#minimap").dblclick()
    expect(page.locator(".tick").first).to_have_text("0")


def test_width_of_the_names(viewer: Viewer, page: Page) -> None:
    """The edge of the names is dragged, moved by keys and taken back, stays within bounds, and is kept."""
    viewer.send("traces", request([_span(1), _span(2, 1)]))
    _show(page, _address(viewer))
    edge, name = page.get_by_role("separator"), page.locator(".row .name").first

    def width() -> float:
        box = name.bounding_box()
        assert box is not None
        return round(box["width"])

    usual = width()
    place = edge.bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + 5, place["y"] + 10)
    page.mouse.down()
    page.mouse.move(place["x"] + 105, place["y"] + 200)
    page.mouse.up()
    assert width() == usual + 100
    page.reload()
    expect(name).to_be_visible()
    assert width() == usual + 100
    edge.focus()
    before = edge.get_attribute("aria-valuenow")
    page.keyboard.press("ArrowLeft")
    assert width() < usual + 100
    assert int(edge.get_attribute("aria-valuenow") or 0) == int(before or 0) - 2
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    expect(edge).to_have_attribute("aria-valuenow", "10")
    expect(page.locator(".row[aria-expanded=false]")).to_have_count(0)
    edge.dblclick()
    assert width() == usual
    page.reload()
    expect(name).to_be_visible()
    assert width() == usual


def test_links(viewer: Viewer, page: Page) -> None:
    """Links are shown at both ends, and lead to the span within the trace; that a trace is not kept is told."""
    spans = [_span(1), _span(2, 1), _span(3, 1)]
    spans[2].links.add(trace_id=trace_id(1), span_id=span_id(2))
    spans[2].links.add(trace_id=trace_id(9), span_id=span_id(8))
    viewer.send("traces", request(spans))
    _show(page, f"{_address(viewer)}?span={span_id(2).hex()}")
    pane = page.locator("#pane")
    pane.get_by_text("from orders span 3").locator("a").click()
    expect(pane.locator("h2").first).to_have_text("span 3")
    not_kept = f"to span {span_id(8).hex()} of trace {trace_id(9).hex()}, which is not kept here"
    expect(pane.get_by_text(not_kept)).to_have_count(1)
    expect(pane.locator("a", has_text="of trace")).to_have_count(0)
    pane.locator("a", has_text="orders span 2").click()
    expect(pane.locator("h2").first).to_have_text("span 2")


def test_links_of_other_traces(viewer: Viewer, page: Page) -> None:
    """A link to a span of another trace has its name, and leads there and back from there."""
    viewer.send("traces", nested(1, ["linked"]))
    linking = nested(2, ["linking"])
    linking.resource_spans[0].scope_spans[0].spans[0].links.add(trace_id=trace_id(1), span_id=span_id(1))
    viewer.send("traces", linking)
    _show(page, f"{_address(viewer)}?span={span_id(1).hex()}")
    expect(page.locator("#pane")).to_contain_text("from orders linking in another trace")
    page.locator("#pane p > a").click()
    expect(page.locator("#title")).to_have_text("linking")
    expect(_chosen(page)).to_contain_text("linking")
    expect(page.locator("#pane")).to_contain_text("to orders linked in another trace")
    page.locator("#pane p > a").click()
    expect(_chosen(page)).to_contain_text("linked")


def test_details(viewer: Viewer, page: Page) -> None:
    """Attributes stand under their namespaces with units, and each leads to the traces that have its value."""
    attributes = [number("http.response.body.size", 20480), text("http.route", '/a "b"'), text("plain", "x")]
    viewer.send("traces", request([_span(1, attributes=attributes)]))
    _show(page, f"{_address(viewer)}?span={span_id(1).hex()}")
    pane = page.locator("#pane")
    expect(pane.locator("dt.namespace")).to_have_text(["http"])
    expect(pane.locator("dd", has_text="20480")).to_contain_text("20480 bytes, 20.5 kB")
    link = pane.get_by_label("Find traces with this http.route")
    expect(link).to_have_attribute("href", "/traces?q=http.route%3D%22%2Fa+%5C%22b%5C%22%22")
    expect(pane.locator("details pre")).to_contain_text('"spanId": "0000000000000001"')


def test_file(viewer: Viewer, page: Page, tmp_path: Path) -> None:
    """A saved trace, opened again, is shown as it was, to the nanosecond, and without anything being sent."""
    viewer.send("traces", nested(1, ["first", "second"]))
    viewer.send("logs", log_request(_log("kept", 2)))
    _show(page, _address(viewer))
    expect(page.locator(".row")).to_have_count(3)
    lines = _lines(page)
    with page.expect_download() as saving:
        page.locator("#download").click()
    assert saving.value.suggested_filename == f"trace-{trace_id(1).hex()}.json"
    path = tmp_path / "saved.json"
    saving.value.save_as(path)
    assert json.loads(path.read_text())["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["startTimeUnixNano"] == str(
        START_NS + MS
    )
    page.goto(f"{viewer.url}/open")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url.removeprefix(viewer.url)}"))
    page.locator("#file").set_input_files(path)
    expect(page.locator("#title")).to_have_text("first")
    assert _lines(page) == lines
    assert all(re.fullmatch(r"GET /(open|pages/.*)", one) for one in asked)
    page.reload()
    expect(page.locator("#title")).to_have_text("first")


def test_file_of_many_traces(viewer: Viewer, page: Page, tmp_path: Path) -> None:
    """Of a file of several traces, a line of JSON each, one is chosen; one that cannot be read is told so."""
    lines = []
    for index, name in enumerate(("first", "second"), 1):
        span = {"traceId": trace_id(index).hex(), "spanId": span_id(1).hex(), "name": name, "kind": "SPAN_KIND_SERVER"}
        lines.append(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(lines))
    page.goto(f"{viewer.url}/open")
    page.locator("#file").set_input_files(path)
    page.locator("#choices a", has_text="second").click()
    expect(page.locator("#title")).to_have_text("second")
    path.write_text('{"resourceSpans": 7}\nnot json')
    page.goto(f"{viewer.url}/open")
    page.locator("#file").set_input_files(path)
    expect(page.locator("#notice")).to_have_text("line 2 is no JSON")


@pytest.mark.parametrize("path", ["/", "/logs", f"/trace/{trace_id(1).hex()}"])
def test_dropped_file(viewer: Viewer, page: Page, path: str) -> None:
    """A file that is dropped on any page is opened."""
    viewer.send("traces", nested(1, ["another"]))
    page.goto(f"{viewer.url}{path}")
    page.evaluate(
        """() => {
            const span = { traceId: "1".repeat(32), spanId: "2".repeat(16), name: "dropped" };
            const transfer = new DataTransfer();
            const text = JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] });
            transfer.items.add(new File([text], "a.json"));
            const how = { dataTransfer: transfer, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new DragEvent("drop", how));
        }"""
    )
    expect(page.locator("#title")).to_have_text("dropped")


def test_many_spans(viewer: Viewer, page: Page) -> None:
    """Of 5,000 spans only those in sight are elements, and the last one can be reached."""
    viewer.send("traces", request([_span(1), *(_span(index, 1, start=index / 100) for index in range(2, 5001))]))
    _show(page, _address(viewer))
    expect(page.locator("#facts")).to_contain_text("5000 spans")
    assert page.locator(".row").count() < 100
    page.keyboard.press("End")
    expect(_chosen(page)).to_contain_text("span 5000")
    expect(_chosen(page)).to_be_in_viewport()
    assert page.locator(".row").count() < 100
    page.keyboard.press("/")
    page.keyboard.type("span 2500")
    page.keyboard.press("Enter")
    expect(_chosen(page)).to_contain_text("span 2500")
    expect(_chosen(page)).to_be_in_viewport()


def test_numbers_lead_on(viewer: Viewer, page: Page) -> None:
    """The numbers of errors and oddities lead to the next one, a service's to its spans."""
    viewer.send("traces", request([_span(1), _span(2, 1, error="no"), _span(3, 77)]))
    viewer.send("traces", request([_span(4, 1)], service="payments"))
    _show(page, _address(viewer))
    page.locator("#facts").get_by_text("1 error").click()
    expect(_chosen(page)).to_contain_text("span 2")
    page.locator("#facts").get_by_text("1 odd").click()
    expect(_chosen(page)).to_contain_text("span 3")
    page.locator("#services").get_by_text("payments").click()
    expect(page.locator("#matches")).to_have_text("1 of 4")
    expect(page.locator(".row.span:not(.other)")).to_have_text(re.compile("payments.*span 4"))


def test_growing_trace(viewer: Viewer, page: Page) -> None:
    """Spans that come later are told of, and shown when the reader asks, who stays where they are."""
    now = time.time_ns()
    spans = [
        Span(
            trace_id=trace_id(1),
            span_id=span_id(index),
            name=f"span {index}",
            start_time_unix_nano=now,
            end_time_unix_nano=now + index,
        )
        for index in (1, 2, 3)
    ]
    viewer.send("traces", request(spans[:2]))
    _show(page, _address(viewer))
    page.keyboard.press("j")
    page.wait_for_url(re.compile("span="))
    chosen = _chosen(page).text_content()
    viewer.send("traces", request(spans[2:]))
    fresh = page.locator("#fresh")
    expect(fresh).to_have_text("1 new")
    expect(page.locator(".row")).to_have_count(2)
    fresh.click()
    expect(page.locator(".row")).to_have_count(3)
    expect(_chosen(page)).to_have_text(chosen or "")


def test_theme(viewer: Viewer, page: Page) -> None:
    """The page is light or dark as the system is, until the reader chooses; the choice stays."""
    page.emulate_media(color_scheme="dark")
    viewer.send("traces", nested(1, ["first"]))
    _show(page, _address(viewer))

    def scheme() -> object:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = scheme()
    page.get_by_label("Light").click()
    light = scheme()
    assert light == "rgb(255, 255, 255)" != dark
    page.reload()
    assert scheme() == light
    page.get_by_label("Dark").click()
    assert scheme() == dark


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_accessible(viewer: Viewer, page: Page, width: int, scheme: str) -> None:
    """Axe finds nothing serious, whatever is open."""
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    _three_attempts(viewer)
    viewer.send("logs", log_request(_log("order placed", 1)))
    for keys in ("", "jje", "s", "?"):
        _show(page, _address(viewer))
        for key in keys:
            page.keyboard.press(key)
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_unknown_trace(viewer: Viewer, page: Page) -> None:
    """A trace that is not kept is told so."""
    page.goto(f"{viewer.url}/trace/abc")
    expect(page.locator("#title")).to_have_text("This trace cannot be shown: trace not found")
