from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from observability.viewer.ingest import ingest_logs, ingest_traces
from observability.viewer.store import Store
from observability.viewer.telemetry_json import telemetry_json
from tests.observability.viewer.samples import START_NS, deep, failed, log_request, request, span_id, text, trace_id


def _attributes() -> list[KeyValue]:
    """One of each type of value, and what JSON's numbers cannot hold."""
    group = AnyValue()
    group.kvlist_value.values.append(text("key", "value"))
    values = {
        "text": AnyValue(string_value="é\u202e<b>"),
        "yes": AnyValue(bool_value=True),
        "no": AnyValue(bool_value=False),
        "zero": AnyValue(int_value=0),
        "large": AnyValue(int_value=-(2**63)),
        "half": AnyValue(double_value=0.5),
        "infinite": AnyValue(double_value=float("-inf")),
        "bytes": AnyValue(bytes_value=b"\0\xff"),
        "deep": deep(30),
        "group": group,
        "nothing": AnyValue(),
    }
    return [KeyValue(key=key, value=value) for key, value in values.items()]


def _whole_span() -> Span:
    span = Span(
        trace_id=trace_id(1),
        span_id=span_id(2),
        parent_span_id=span_id(1),
        trace_state="a=b",
        flags=0x101,
        name="PUT",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=START_NS + 1,
        end_time_unix_nano=START_NS + 3,
        attributes=_attributes(),
        dropped_attributes_count=1,
        dropped_events_count=2,
        dropped_links_count=3,
        status=failed("why"),
    )
    span.events.add(time_unix_nano=START_NS + 2, name="retry", attributes=_attributes(), dropped_attributes_count=4)
    span.links.add(trace_id=trace_id(3), span_id=span_id(4), trace_state="c=d", flags=1, attributes=_attributes())
    return span


def _with_base64_ids(value: Any) -> Any:
    """Protobuf's own JSON has base64 where OTLP's has hexadecimal digits; all else is alike."""
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {
        name: base64.b64encode(bytes.fromhex(item)).decode() if name in ids else _with_base64_ids(item)
        for name, item in value.items()
    }


def test_spans_are_whole(store: Store) -> None:
    """Everything that was sent of a span, its resource and its scope is in the JSON, to the nanosecond."""
    sent = request([_whole_span(), Span(trace_id=trace_id(1), span_id=span_id(9))])
    sent.resource_spans[0].resource.attributes.extend(_attributes())
    scope = InstrumentationScope(name="scope", version="1", attributes=_attributes())
    sent.resource_spans[0].scope_spans[0].scope.CopyFrom(scope)
    ingest_traces(sent.SerializeToString(), store)
    shown = json.loads(json.dumps(telemetry_json(store.trace(trace_id(1)), []), allow_nan=False))
    found = ParseDict(_with_base64_ids({"resourceSpans": shown["resourceSpans"]}), TracesData())
    found.resource_spans[0].scope_spans[0].spans.sort(key=lambda span: bytes(span.span_id))
    assert found == TracesData(resource_spans=sent.resource_spans)


def test_logs_are_whole(store: Store) -> None:
    """Everything that was sent of a log record is in the JSON; of its resource, the service."""
    record = LogRecord(
        time_unix_nano=START_NS,
        observed_time_unix_nano=START_NS + 1,
        severity_number=SeverityNumber.SEVERITY_NUMBER_INFO,
        severity_text="INFO",
        event_name="event",
        body=AnyValue(string_value="order placed"),
        attributes=_attributes(),
        dropped_attributes_count=1,
        flags=1,
        trace_id=trace_id(1),
        span_id=span_id(2),
    )
    sent = log_request(record)
    ingest_logs(sent.SerializeToString(), store)
    shown = json.loads(json.dumps(telemetry_json([], store.logs(trace_id(1))), allow_nan=False))
    found = ParseDict(_with_base64_ids({"resourceLogs": shown["resourceLogs"]}), LogsData())
    assert found == LogsData(resource_logs=sent.resource_logs)


@pytest.mark.parametrize(("number", "shown"), [(float("nan"), "NaN"), (float("inf"), "Infinity"), (1e300, 1e300)])
def test_doubles(store: Store, number: float, shown: object) -> None:
    """What JSON has no number for is text, as protobuf's JSON has it."""
    span = Span(trace_id=trace_id(1), span_id=span_id(1))
    span.attributes.add(key="double").value.double_value = number
    ingest_traces(request([span]).SerializeToString(), store)
    (found,) = telemetry_json(store.trace(trace_id(1)), [])["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert found["attributes"] == [{"key": "double", "value": {"doubleValue": shown}}]
