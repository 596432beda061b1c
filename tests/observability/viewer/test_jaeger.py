from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.ingest import ingest_logs, ingest_traces
from observability.viewer.jaeger import log_json, trace_json
from observability.viewer.store import Store
from tests.observability.viewer.samples import (
    START_NS,
    deep,
    failed,
    log_request,
    nested,
    number,
    request,
    span_id,
    text,
    trace_id,
)


def _shown(store: Store, span: Span) -> dict[str, Any]:
    span.trace_id, span.span_id = trace_id(1), span_id(1)
    ingest_traces(request([span]).SerializeToString(), store)
    shown: dict[str, Any] = trace_json(store.trace(trace_id(1)))["spans"][0]
    return shown


def test_trace(store: Store) -> None:
    """A trace has Jaeger's shape, with times in microseconds."""
    ingest_traces(nested(1, ["root", "child"]).SerializeToString(), store)
    hexadecimal = trace_id(1).hex()
    assert trace_json(store.trace(trace_id(1))) == {
        "traceID": hexadecimal,
        "spans": [
            {
                "traceID": hexadecimal,
                "spanID": span_id(1).hex(),
                "flags": 0,
                "operationName": "root",
                "references": [],
                "startTime": START_NS // 1000 + 1000,
                "duration": 98_000,
                "tags": [
                    {"key": "depth", "type": "int64", "value": 1},
                    {"key": "span.kind", "type": "string", "value": "internal"},
                ],
                "logs": [],
                "processID": "p1",
                "warnings": None,
            },
            {
                "traceID": hexadecimal,
                "spanID": span_id(2).hex(),
                "flags": 0,
                "operationName": "child",
                "references": [{"refType": "CHILD_OF", "traceID": hexadecimal, "spanID": span_id(1).hex()}],
                "startTime": START_NS // 1000 + 2000,
                "duration": 96_000,
                "tags": [
                    {"key": "depth", "type": "int64", "value": 2},
                    {"key": "span.kind", "type": "string", "value": "internal"},
                ],
                "logs": [],
                "processID": "p1",
                "warnings": None,
            },
        ],
        "processes": {"p1": {"serviceName": "orders", "tags": []}},
        "warnings": None,
    }


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        (AnyValue(bool_value=False), "bool", False),
        (AnyValue(int_value=2**53 - 1), "int64", 2**53 - 1),
        (AnyValue(int_value=2**53), "int64", "9007199254740992"),
        (AnyValue(double_value=0.5), "float64", 0.5),
        (AnyValue(double_value=float("inf")), "float64", "inf"),
        (AnyValue(bytes_value=b"\xff"), "binary", "/w=="),
        (AnyValue(), "string", ""),
        (deep(1), "string", '["bottom"]'),
        (deep(20), "string", "[" * 17 + '"…"' + "]" * 17),
    ],
)
def test_attribute(store: Store, value: AnyValue, kind: str, shown: object) -> None:
    """Each kind of value has its type, and loses nothing that JSON in a browser would lose."""
    tags = _shown(store, Span(attributes=[KeyValue(key="k", value=value)]))["tags"]
    assert tags == [{"key": "k", "type": kind, "value": shown}]


def test_failure(store: Store) -> None:
    """A failed span has the tags by which Jaeger marks it."""
    tags = {tag["key"]: tag["value"] for tag in _shown(store, Span(status=failed("broke")))["tags"]}
    assert tags == {"otel.status_code": "ERROR", "error": True, "otel.status_description": "broke"}


def test_link(store: Store) -> None:
    """A link is a reference to a span that this one follows from."""
    shown = _shown(store, Span(links=[Span.Link(trace_id=trace_id(7), span_id=span_id(8))]))
    assert shown["references"] == [
        {"refType": "FOLLOWS_FROM", "traceID": trace_id(7).hex(), "spanID": span_id(8).hex()}
    ]


def test_event(store: Store) -> None:
    """An event is a log of the span."""
    shown = _shown(store, Span(events=[Span.Event(name="retry", time_unix_nano=5000, attributes=[number("n", 1)])]))
    assert shown["logs"] == [
        {
            "timestamp": 5,
            "fields": [
                {"key": "event", "type": "string", "value": "retry"},
                {"key": "n", "type": "int64", "value": 1},
            ],
        }
    ]


def test_scope(store: Store) -> None:
    """The instrumentation scope is among the tags."""
    message = request([Span(trace_id=trace_id(1), span_id=span_id(1))])
    message.resource_spans[0].scope_spans[0].scope.CopyFrom(InstrumentationScope(name="httpx", version="1"))
    ingest_traces(message.SerializeToString(), store)
    tags = trace_json(store.trace(trace_id(1)))["spans"][0]["tags"]
    assert [tag["value"] for tag in tags] == ["httpx", "1"]


def test_clock_that_went_back(store: Store) -> None:
    """A span that ends before it starts lasts 0."""
    assert _shown(store, Span(start_time_unix_nano=5000, end_time_unix_nano=1000))["duration"] == 0


def test_log(store: Store) -> None:
    """A log record has its exact time, severity, body and attributes."""
    record = LogRecord(
        trace_id=trace_id(1),
        span_id=span_id(2),
        time_unix_nano=START_NS + 1,
        severity_text="WARN",
        severity_number=SeverityNumber.SEVERITY_NUMBER_WARN,
        body=deep(1),
        attributes=[text("k", "v")],
    )
    ingest_logs(log_request(record).SerializeToString(), store)
    assert log_json(store.logs(trace_id(1))[0]) == {
        "traceID": trace_id(1).hex(),
        "spanID": span_id(2).hex(),
        "timeUnixNano": str(START_NS + 1),
        "service": "orders",
        "severity": "WARN",
        "severityNumber": 13,
        "body": ["bottom"],
        "attributes": [{"key": "k", "type": "string", "value": "v"}],
    }
