from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.failures import failures_json
from observability.viewer.ingest import ingest_traces
from observability.viewer.store import Store
from tests.observability.viewer.samples import START_NS, called, failed, request, span_id, text, trace_id


def _groups(store: Store) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = failures_json(store, START_NS - 10**9, START_NS + 60 * 10**9)["groups"]
    return groups


def test_one_cause_is_one_group(store: Store) -> None:
    """Errors whose messages differ in ids, numbers or what was quoted are one group, shown by the newest."""
    messages = ["order 17 of 'a b' timed out", "order 204 of 'c' timed out", "refused"]
    for number, message in enumerate(messages, 1):
        sent = called(number, "orders", "payments", error=message, start_ns=START_NS + number * 1000)
        ingest_traces(sent.SerializeToString(), store)
    assert [(group["message"], group["count"], group["traceID"]) for group in _groups(store)] == [
        ("refused", 1, trace_id(3).hex()),
        ("order 204 of 'c' timed out", 2, trace_id(2).hex()),
    ]


def test_only_the_innermost_error_counts(store: Store) -> None:
    """What passes an error on is no error of its own."""
    spans = [
        Span(
            trace_id=trace_id(1),
            span_id=span_id(number),
            parent_span_id=span_id(number - 1) if number > 1 else b"",
            name=f"step {number}",
            start_time_unix_nano=START_NS,
            end_time_unix_nano=START_NS + 1,
            status=failed(f"failed at {number}") if number < 4 else None,
        )
        for number in range(1, 5)
    ]
    ingest_traces(request(spans).SerializeToString(), store)
    assert [(group["operation"], group["spanID"]) for group in _groups(store)] == [("step 3", span_id(3).hex())]


@pytest.mark.parametrize(
    ("span", "kind", "message"),
    [
        (Span(status=failed("declined"), attributes=[text("error.type", "402")]), "402", "declined"),
        (
            Span(
                status=failed(""),
                events=[
                    Span.Event(name="retry"),
                    Span.Event(
                        name="exception",
                        attributes=[text("exception.type", "KeyError"), text("exception.message", "sku")],
                    ),
                ],
            ),
            "KeyError",
            "sku",
        ),
        (Span(status=failed("")), "", ""),
    ],
)
def test_cause(store: Store, span: Span, kind: str, message: str) -> None:
    """Type and message are those of the span or, if it has none, of its exception."""
    span.MergeFrom(Span(trace_id=trace_id(1), span_id=span_id(1), start_time_unix_nano=START_NS))
    ingest_traces(request([span]).SerializeToString(), store)
    assert [(group["type"], group["message"]) for group in _groups(store)] == [(kind, message)]


def test_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces beyond a number of spans are not looked at, but for the newest."""
    monkeypatch.setattr("observability.viewer.failures.MAX_SPANS", 10)
    for number in (1, 2):
        spans = [
            Span(
                trace_id=trace_id(number),
                span_id=span_id(index),
                name=f"trace {number}",
                start_time_unix_nano=START_NS + number * 1000,
                status=failed("") if index == 1 else None,
            )
            for index in range(1, 10)
        ]
        ingest_traces(request(spans).SerializeToString(), store)
    assert [group["operation"] for group in _groups(store)] == ["trace 2"]
