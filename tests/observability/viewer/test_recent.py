from __future__ import annotations

import pytest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.ingest import ingest_traces
from observability.viewer.recent import summary_json, whole_trace_json
from observability.viewer.store import Store
from tests.observability.viewer.samples import (
    START_NS,
    add_logs,
    failed,
    log,
    number,
    request,
    span_id,
    text,
    trace_id,
)


def _trace(store: Store, *attributes: KeyValue) -> None:
    root = Span(
        trace_id=trace_id(1),
        span_id=span_id(1),
        name="POST /orders",
        start_time_unix_nano=START_NS,
        end_time_unix_nano=START_NS + 1_000_400,
        attributes=attributes,
        status=failed(""),
    )
    call = Span(
        trace_id=trace_id(1),
        span_id=span_id(2),
        parent_span_id=span_id(1),
        start_time_unix_nano=START_NS + 300,
        end_time_unix_nano=START_NS + 701,
    )
    ingest_traces(request([root]).SerializeToString(), store)
    ingest_traces(request([call], service="payments").SerializeToString(), store)


def test_summary(store: Store) -> None:
    """A row of the list says what its trace is, how long it took, and where."""
    _trace(store, number("http.response.status_code", 503))
    assert summary_json(store.find((), limit=1).traces[0]) == {
        "traceID": trace_id(1).hex(),
        "name": "POST /orders",
        "service": "orders",
        "status": 503,
        "startTime": START_NS // 1000,
        "durationNano": 1_000_400,
        "spans": 2,
        "errors": 1,
        "services": [{"name": "orders", "spans": 1, "errors": 1}, {"name": "payments", "spans": 1, "errors": 0}],
    }


@pytest.mark.parametrize("attributes", [[], [text("http.response.status_code", "OK")]])
def test_no_status(store: Store, attributes: list[KeyValue]) -> None:
    """A root without an HTTP status, or with one that is no number, has none."""
    _trace(store, *attributes)
    assert summary_json(store.find((), limit=1).traces[0])["status"] is None


def test_exact_times(store: Store) -> None:
    """A trace for the page has its times to the nanosecond, and its logs."""
    _trace(store)
    add_logs(store, log(1))
    shown = whole_trace_json(store.trace(trace_id(1)), store.logs(trace_id(1)))
    assert [(span["offsetNano"], span["durationNano"]) for span in shown["spans"]] == [(0, 1_000_400), (300, 401)]
    assert [log["timeUnixNano"] for log in shown["logs"]] == [str(START_NS)]
