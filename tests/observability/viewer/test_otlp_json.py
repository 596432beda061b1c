from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf.internal import api_implementation
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Exemplar,
    Gauge,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from observability.viewer.otlp_json import MAX_VALUES, from_protobuf, to_protobuf
from observability.viewer.refusals import BrokenError, TooLargeError
from tests.observability.viewer.samples import as_json, deep, request, span_id, trace_id

VALUES = st.one_of(
    st.builds(AnyValue),
    st.builds(AnyValue, string_value=st.text()),
    st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
    st.builds(AnyValue, double_value=st.floats(allow_nan=False)),
    st.builds(AnyValue, bytes_value=st.binary()),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.integers(0, 10).map(deep),
)
SPANS = st.builds(
    Span,
    trace_id=st.integers(1, 9).map(trace_id),
    span_id=st.integers(1, 9).map(span_id),
    parent_span_id=st.just(b"") | st.integers(1, 9).map(span_id),
    trace_state=st.text(),
    name=st.text(),
    kind=st.integers(0, 9),
    flags=st.integers(0, 2**32 - 1),
    start_time_unix_nano=st.integers(0, 2**64 - 1),
    attributes=st.lists(st.builds(KeyValue, key=st.text(), value=VALUES), max_size=3),
    events=st.lists(st.builds(Span.Event, name=st.text()), max_size=2),
    links=st.lists(st.builds(Span.Link, trace_id=st.just(trace_id(1)), span_id=st.just(span_id(1))), max_size=2),
    status=st.builds(Status, code=st.integers(0, 2), message=st.text()),
)


def _span(**members: Any) -> Span:
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [members]}]}]})
    encoded = to_protobuf(body.encode(), ExportTraceServiceRequest())
    return ExportTraceServiceRequest.FromString(encoded).resource_spans[0].scope_spans[0].spans[0]


def _value(value: dict[str, Any]) -> AnyValue:
    return _span(attributes=[{"key": "k", "value": value}]).attributes[0].value


@given(st.lists(SPANS, max_size=3))
def test_same_as_protobuf(spans: list[Span]) -> None:
    """A request in JSON is the same message as in protobuf."""
    message = request(spans)
    encoded = to_protobuf(as_json(message), ExportTraceServiceRequest())
    assert ExportTraceServiceRequest.FromString(encoded) == message


def test_exemplar() -> None:
    """The ids of an exemplar are hex too."""
    exemplar = Exemplar(trace_id=trace_id(1), span_id=span_id(1), as_int=1)
    gauge = Gauge(data_points=[NumberDataPoint(exemplars=[exemplar], as_double=0.5)])
    metrics = [ScopeMetrics(metrics=[Metric(name="m", gauge=gauge)])]
    message = ExportMetricsServiceRequest(resource_metrics=[ResourceMetrics(scope_metrics=metrics)])
    encoded = to_protobuf(as_json(message), ExportMetricsServiceRequest())
    assert ExportMetricsServiceRequest.FromString(encoded) == message


@pytest.mark.parametrize("digits", ["eee19b7ec3c1b174", "EEE19B7EC3C1B174", "eEe19B7ec3c1b174"])
def test_hex(digits: str) -> None:
    """Digits of an id are of either case."""
    assert _span(spanId=digits).span_id == bytes.fromhex(digits)


@pytest.mark.parametrize(
    "written",
    ["eee19b7ec3c1b1", "eee19b7ec3c1b17", "eee19b7ec3c1b17g", "7uGbfsPBsXQAAAAA", "ee e19b7ec3c1b17", 1, None, [], {}],
)
def test_no_id(written: object) -> None:
    """What is no id, base64 or not whole, becomes none, and is not taken for another one."""
    span = _span(traceId="0" * 31 + "1", spanId=written, parentSpanId=written, name="kept")
    assert (span.span_id, span.parent_span_id, span.name) == (b"", b"", "kept")


def test_numbers() -> None:
    """64-bit numbers are text or numbers, each exact to the last digit; enums are numbers."""
    start = 1_700_000_000_000_000_001
    assert _span(startTimeUnixNano=str(start), endTimeUnixNano=start).start_time_unix_nano == start
    assert _span(startTimeUnixNano=str(start), endTimeUnixNano=start).end_time_unix_nano == start
    assert _value({"intValue": "-9223372036854775808"}).int_value == -(2**63)
    assert _span(kind=3).kind == Span.SPAN_KIND_CLIENT
    assert _span(kind=77).kind == 77
    assert _value({"doubleValue": "-Infinity"}).double_value == -math.inf
    assert math.isnan(_value({"doubleValue": "NaN"}).double_value)
    assert _value({"doubleValue": 5}).double_value == 5
    assert _value({"doubleValue": "0.5"}).double_value == 0.5
    assert _value({"intValue": 1.7e18}).int_value == 1_700_000_000_000_000_000


def test_unknown() -> None:
    """What a newer sender adds is ignored, as are members that are null, and names that are not written as in JSON."""
    assert _span(name="root", start_time_unix_nano=1, **{"\ud800": 1}).start_time_unix_nano == 0
    assert _span(name="root", newer={"spanId": [1]}, events=None).name == "root"


def test_half_character() -> None:
    """Text that was cut within a character is kept, all but the half."""
    assert _span(name="cut \ud83d").name == "cut \ufffd"
    assert _span(name="whole \U0001f600").name == "whole \U0001f600"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"1",
        b"{",
        b"\xff",
        b'{"resourceSpans": 1}',
        b'{"resourceSpans": [1]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": NaN}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": -1}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": 1e400}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": ' + b"9" * 5000 + b"}]}]}]}",
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": {}}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": 1}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": "no kind"}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": true}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": 4294967296}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": ["text"]}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"value": {"boolValue": 1}}]}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"value": {"bytesValue": "-"}}]}]}]}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [{"value": {"doubleValue": "x"}}]}]}]}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        as_json(request([Span(attributes=[KeyValue(key="k", value=deep(40))])])).replace(
            b'{"stringValue": "bottom"}', b'{"arrayValue": {"values": [' * 10_000 + b"{}" + b"]}}" * 10_000
        ),
    ],
    ids=lambda body: body[:70].decode("latin-1"),
)
def test_broken(body: bytes) -> None:
    """What is no such message is refused, however deep it goes."""
    with pytest.raises(BrokenError):
        to_protobuf(body, ExportTraceServiceRequest())


def test_many_values() -> None:
    """A body of more values than memory should hold is refused before it is read."""
    with pytest.raises(TooLargeError):
        to_protobuf(b'{"x":[' + b"[]," * MAX_VALUES + b"[]]}", ExportLogsServiceRequest())


def test_answer() -> None:
    """An answer has names as JSON has them, and its 64-bit numbers in text."""
    assert from_protobuf(Span(start_time_unix_nano=2**63)) == b'{"startTimeUnixNano":"9223372036854775808"}'


def test_protobuf_is_bounded() -> None:
    """Messages are decoded by the implementation that has a bound on their depth."""
    assert api_implementation.Type() == "upb"
