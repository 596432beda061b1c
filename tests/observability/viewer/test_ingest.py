from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.ingest import ingest_logs, ingest_metrics, ingest_traces
from observability.viewer.recent import summary_json, whole_trace_json
from observability.viewer.store import Store, logs, traces
from tests.observability.viewer.samples import (
    deep,
    log_request,
    nested,
    noise,
    notice,
    record,
    request,
    span_id,
    text,
    trace_id,
)

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
UINT64 = st.integers(0, 2**64 - 1)
VALUES: st.SearchStrategy[AnyValue] = st.recursive(
    st.one_of(
        st.builds(AnyValue),
        st.builds(AnyValue, string_value=st.text()),
        st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
        st.builds(AnyValue, double_value=st.floats()),
        st.builds(AnyValue, bytes_value=st.binary()),
        st.builds(AnyValue, bool_value=st.booleans()),
    ),
    lambda values: st.builds(
        lambda items: AnyValue(array_value=ArrayValue(values=items)), st.lists(values, max_size=3)
    ),
    max_leaves=5,
)
SPANS = st.builds(
    Span,
    trace_id=st.just(trace_id(1)),
    span_id=st.one_of(st.binary(max_size=9), st.integers(1, 3).map(span_id)),
    parent_span_id=st.one_of(st.binary(max_size=9), st.integers(1, 3).map(span_id)),
    name=st.text(),
    kind=st.integers(-(2**31), 2**31 - 1),
    flags=st.integers(0, 2**32 - 1),
    start_time_unix_nano=UINT64,
    end_time_unix_nano=UINT64,
    attributes=st.lists(
        st.builds(KeyValue, key=st.sampled_from(["http.response.status_code", "x"]), value=VALUES), max_size=3
    ),
    events=st.lists(st.builds(Span.Event, time_unix_nano=UINT64, name=st.text()), max_size=2),
    links=st.lists(st.builds(Span.Link, trace_id=st.binary(max_size=17), span_id=st.binary(max_size=9)), max_size=2),
)


def _rejected(encoded: bytes) -> tuple[int, str]:
    partial = ExportTraceServiceResponse.FromString(encoded).partial_success
    return partial.rejected_spans, partial.error_message


@pytest.mark.parametrize("signal", [ingest_traces, ingest_logs, ingest_metrics])
@RELAXED
@given(body=st.binary(max_size=200))
def test_any_bytes(store: Store, signal: Any, body: bytes) -> None:
    """Whatever bytes come, they are kept or said to be no message."""
    with suppress(DecodeError):
        signal(body, store)


@RELAXED
@given(spans=st.lists(SPANS, max_size=4), service=st.text())
def test_any_spans(store: Store, spans: list[Span], service: str) -> None:
    """Whatever spans come, they are kept or counted as refused, and what is kept can be shown."""
    before = store.counts()[1]
    refused, _ = _rejected(ingest_traces(request(spans, service=service).SerializeToString(), store))
    assert refused <= len(spans)
    assert store.counts()[1] - before <= len(spans) - refused
    for summary in store.find((), limit=10).traces:
        json.dumps(summary_json(summary), allow_nan=False)
        json.dumps(whole_trace_json(store.trace(summary.trace_id), []), allow_nan=False)


def test_trace(store: Store) -> None:
    """Every span is stored with what it is searched by."""
    assert _rejected(ingest_traces(nested(1, ["root", "child"]).SerializeToString(), store)) == (0, "")
    root, child = store.trace(trace_id(1))
    assert (root.name, root.service, root.parent_id) == ("root", "orders", b"")
    assert (child.name, child.parent_id) == ("child", root.span_id)


@pytest.mark.parametrize(
    ("trace", "span"), [(bytes(16), span_id(9)), (b"short", span_id(9)), (trace_id(9), bytes(8)), (trace_id(9), b"")]
)
def test_invalid_ids(store: Store, trace: bytes, span: bytes) -> None:
    """Spans with ids of zeros or of another length are refused and counted, the others are kept."""
    good = Span(trace_id=trace_id(1), span_id=span_id(1))
    answer = ingest_traces(request([good, Span(trace_id=trace, span_id=span)]).SerializeToString(), store)
    assert _rejected(answer) == (1, "1 with invalid ids")
    assert store.counts() == (1, 1)


def test_parent_of_zeros(store: Store) -> None:
    """A parent's id of zeros is no parent."""
    span = Span(trace_id=trace_id(1), span_id=span_id(1), parent_span_id=bytes(8))
    ingest_traces(request([span]).SerializeToString(), store)
    assert store.trace(trace_id(1))[0].parent_id == b""


def test_huge_span(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A span that is larger than one may be is refused and counted, the others are kept."""
    monkeypatch.setattr(traces, "MAX_RECORD_BYTES", 1000)
    huge = Span(trace_id=trace_id(1), span_id=span_id(1), attributes=[text("key", "x" * 1000)])
    small = Span(trace_id=trace_id(1), span_id=span_id(2))
    refused, reason = _rejected(ingest_traces(request([huge, small]).SerializeToString(), store))
    assert (refused, reason) == (1, f"1 {traces.TOO_LARGE}")
    assert store.counts() == (1, 1)


def test_multiplied_resource(store: Store, tmp_path: Path) -> None:
    """A large resource of many spans is not stored with each of them."""
    body = request([Span(trace_id=trace_id(index), span_id=span_id(1)) for index in range(1, 10_000)])
    body.resource_spans[0].resource.attributes.append(noise(100_000))
    assert _rejected(ingest_traces(body.SerializeToString(), store)) == (0, "")
    assert store.counts() == (9999, 9999)
    store.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3_000_000


@pytest.mark.parametrize("groups", [1, 5])
def test_too_many(store: Store, monkeypatch: pytest.MonkeyPatch, groups: int) -> None:
    """Of too many records in one request the first ones are kept, the others refused and counted."""
    monkeypatch.setattr(traces, "MAX_RECORDS_PER_REQUEST", 7)
    body = b"".join(
        request(
            [Span(trace_id=trace_id(1), span_id=span_id(10 * group + index)) for index in range(2)]
        ).SerializeToString()
        * (10 // groups // 2)
        for group in range(1, groups + 1)
    )
    assert _rejected(ingest_traces(body, store)) == (3, f"3 {traces.TOO_MANY}")


def test_empty_records(store: Store) -> None:
    """Log records without anything in them are kept too."""
    ingest_logs(log_request(*[LogRecord()] * 5000).SerializeToString(), store)
    assert len(store.find_logs((), limit=10_000).logs) == 5000


def test_long_names(store: Store) -> None:
    """A long name is cut where it is searched by, and kept whole where it is shown."""
    span = Span(trace_id=trace_id(1), span_id=span_id(1), name="n" * 1000)
    ingest_traces(request([span], service="s" * 1000).SerializeToString(), store)
    assert store.operations("s" * 256) == [("n" * 256, 0)]
    shown = whole_trace_json(store.trace(trace_id(1)), [])
    assert shown["spans"][0]["operationName"] == "n" * 1000


def test_logs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs are kept with and without a trace, and a huge one is refused and counted."""
    monkeypatch.setattr(logs, "MAX_RECORD_BYTES", 1000)
    mine = LogRecord(trace_id=trace_id(1), span_id=span_id(1), body=AnyValue(string_value="mine"), time_unix_nano=5)
    nobodys = LogRecord(body=AnyValue(string_value="nobody's"), observed_time_unix_nano=6)
    huge = LogRecord(trace_id=trace_id(1), body=AnyValue(string_value="x" * 1000))
    answer = ingest_logs(log_request(mine, nobodys, huge).SerializeToString(), store)
    assert ExportLogsServiceResponse.FromString(answer).partial_success.rejected_log_records == 1
    assert [log.time_ns for log in store.logs(trace_id(1))] == [5]
    assert [(log.time_ns, log.trace_id) for log in store.find_logs(()).logs] == [(6, b""), (5, trace_id(1))]


def test_notices_of_unfinished_spans(store: Store) -> None:
    """Notices come with the logs and are none; refused ones are counted with them, and each goes with its span."""
    sent = log_request(record("working"), notice(1, 1), notice(1, 2, 1, name="child"), notice(0))
    partial = ExportLogsServiceResponse.FromString(ingest_logs(sent.SerializeToString(), store)).partial_success
    assert (partial.rejected_log_records, partial.error_message) == (1, "1 with invalid ids")
    assert len(store.find_logs(()).logs) == 1
    assert [one.span.name for one in store.unfinished.spans()] == ["POST /orders", "child"]
    ingest_traces(nested(1, ["POST /orders"]).SerializeToString(), store)
    assert [one.span.name for one in store.unfinished.spans()] == ["child"]


@pytest.mark.parametrize("levels", [1, 15, 30, 45, 60, 10_000])
def test_deep_value(store: Store, levels: int) -> None:
    """A deep value is shown, in part if need be, or the request is no message."""
    value = deep(min(levels, 40))
    body = request([Span(trace_id=trace_id(1), span_id=span_id(1), attributes=[KeyValue(key="deep", value=value)])])
    encoded = body.SerializeToString()
    if levels > 40:
        encoded = _deepen(levels)
    try:
        ingest_traces(encoded, store)
    except DecodeError:
        assert levels > 40
    else:
        json.dumps(whole_trace_json(store.trace(trace_id(1)), []))


def _deepen(levels: int) -> bytes:
    """A span with a value so deep that no encoder would make it: each level around the one before, by hand."""

    def field(tag: int, content: bytes) -> bytes:
        length, rest = b"", len(content)
        while rest > 127:
            length += bytes([rest % 128 + 128])
            rest //= 128
        return bytes([tag]) + length + bytes([rest]) + content

    value = field(0x0A, b"bottom")
    for _ in range(levels):
        value = field(0x2A, field(0x0A, value))
    span = field(0x0A, trace_id(1)) + field(0x12, span_id(1)) + field(0x4A, field(0x0A, b"deep") + field(0x12, value))
    return field(0x0A, field(0x12, field(0x12, span)))
