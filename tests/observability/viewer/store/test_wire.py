from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from observability.viewer.store import wire
from observability.viewer.store.wire import (
    Group,
    join,
    parse_log,
    parse_logs,
    parse_span,
    parse_spans,
    regroup,
    split,
    split_in_parts,
)
from tests.observability.viewer.samples import log, span, text

GROUPS = st.lists(
    st.builds(
        Group, st.sampled_from([b"", b"r1", b"r2"]), st.sampled_from([b"", b"s"]), st.lists(st.binary(), max_size=5)
    ),
    max_size=4,
)


def _flat(groups: list[Group]) -> list[tuple[bytes, bytes, bytes]]:
    return [(group.resource, group.scope, record) for group in groups for record in group.records]


def test_official_message() -> None:
    """Records, resources and scopes are those of the official message, byte by byte."""
    resource, scope = Resource(attributes=[text("key", "value")]), InstrumentationScope(name="scope")
    spans = [span(1, attributes=[text("a", "b")], error=True), span(2)]
    scopes = [ScopeSpans(scope=scope, spans=spans), ScopeSpans(spans=spans[:1])]
    body = ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=resource, scope_spans=scopes)])
    groups = list(split(body.SerializeToString()))
    assert [Span.FromString(record) for record in groups[0].records] == spans
    assert (Resource.FromString(groups[0].resource), InstrumentationScope.FromString(groups[0].scope)) == (
        resource,
        scope,
    )
    assert len(groups[1].records) == 1
    assert ExportTraceServiceRequest.FromString(join(groups)) == body


def test_messages() -> None:
    """Spans and log records have all fields of the official ones, and their attributes as they were sent."""
    encoded = span(1, 2, 3, attributes=[text("a", "b")], error=True).SerializeToString()
    read = parse_span(encoded)
    assert (read.trace_id, read.span_id, read.status.code) == ((1).to_bytes(16), (2).to_bytes(8), 2)
    assert list(read.attributes) == [text("a", "b").SerializeToString()]
    record: LogRecord = log(1, body="text", attributes=[text("a", "b")])
    assert parse_log(record.SerializeToString()).body.string_value == "text"
    assert list(parse_log(record.SerializeToString()).attributes) == [text("a", "b").SerializeToString()]


@given(GROUPS, st.integers(1, 4), st.integers(0, 40))
def test_parts(groups: list[Group], max_records: int, max_bytes: int) -> None:
    """Parts have all records in their order, and none is too large that has more than one."""
    parts = list(split_in_parts(join(groups), max_records, max_bytes))
    assert [one for part in parts for one in _flat(part)] == _flat(groups)
    for part in parts:
        records = [record for _, _, record in _flat(part)]
        assert len(records) <= max_records
        assert len(records) <= 1 or sum(map(len, records)) <= max_bytes


def test_together() -> None:
    """Records that are decoded together are those that are decoded one by one."""
    spans = [span(1, number, attributes=[text("a", "b")]).SerializeToString() for number in range(3)]
    assert list(parse_spans(spans)) == [parse_span(encoded) for encoded in spans]
    logs = [log(number, body="text").SerializeToString() for number in range(3)]
    assert list(parse_logs(logs)) == [parse_log(encoded) for encoded in logs]
    for parse in (parse_spans, parse_logs):
        with pytest.raises(DecodeError):
            parse([spans[0], b"\x0a\x10"])


@given(GROUPS, st.data())
def test_some_of_them(groups: list[Group], data: st.DataObject) -> None:
    """Some records of groups keep their resource and scope."""
    all_of_them = [(number, record) for number, group in enumerate(groups) for record in group.records]
    some = [one for one in all_of_them if data.draw(st.booleans())]
    expected = [(groups[number].resource, groups[number].scope, record) for number, record in some]
    assert _flat(regroup(groups, some)) == expected


@pytest.mark.parametrize("body", [b"\x0a\x02\x12\x00" * 6, b"\x0a\x14" + b"\x12\x00" * 10])
def test_too_many_groups(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """A request of more resources and scopes than anyone sends is no such message."""
    monkeypatch.setattr(wire, "MAX_GROUPS", 10)
    with pytest.raises(DecodeError):
        list(split(body))


@pytest.mark.parametrize("body", [b"\x0a\x00" * 11, b"\x08\x01" * 11, b"\x09" + bytes(8), b"\x0d" + bytes(4)])
def test_too_many_fields(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """Fields are counted whatever they are, before they are decoded."""
    monkeypatch.setattr(wire, "MAX_GROUPS", 10)
    many = body * (11 if len(body) < 20 else 1)
    with pytest.raises(DecodeError, match="more than"):
        list(split(many))


def test_too_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """So are the records of one scope, where they are as many bytes as many take."""
    monkeypatch.setattr(wire, "MAX_RECORDS", 10)
    body = join([Group(b"", b"", [bytes(10)] * 11)])
    assert len(next(iter(split(body))).records) == 11
    monkeypatch.setattr(wire, "_MANY_BYTES", 0)
    with pytest.raises(DecodeError, match="more than"):
        list(split(body))


@given(st.binary(max_size=50))
def test_any_bytes(body: bytes) -> None:
    """Whatever comes is split or refused."""
    with suppress(DecodeError):
        for group in split(body):
            list(group.records)
