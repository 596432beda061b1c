from __future__ import annotations

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.query import parse
from observability.viewer.store import Store, find
from tests.observability.viewer.samples import START_NS, add, add_logs, log, number, span, text, trace_id

FILLING = 300  # as many spans as make a block with an index


def _found(store: Store, query: str, **bounds: int) -> list[int]:
    found = store.find(parse(query), **bounds)
    assert found.complete
    return sorted(int.from_bytes(one.trace_id) for one in found.traces)


@pytest.fixture(params=["indexed", "open"])
def shop(store: Store, request: pytest.FixtureRequest) -> Store:
    """Three traces of their own kind, in a block with an index, or in one without."""
    filling = [span(100, index) for index in range(1, FILLING)] if request.param == "indexed" else []
    add(
        store,
        span(
            1, name="GET /orders", attributes=[text("http.route", "/orders"), number("status", 200)], end_ns=5_000_000
        ),
        span(2, name="POST /orders", error=True, attributes=[number("status", 503), text("note", "Out of STOCK")]),
        span(3, kind=Span.SPAN_KIND_CLIENT, attributes=[text("status", "404")]),
        *filling,
    )
    return store


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("http.route=/orders", [1]),
        ("operation=*orders", [1, 2]),
        ("error", [2]),
        ("status=error", [2]),
        ("http.route=*", [1]),
        ("http.route!=* kind=client", [3]),
        ('"out of stock"', [2]),
        ("note=out*", []),
        ("duration>4ms", [1]),
        ("duration>4ms error", []),
        ("duration>=1us duration<=1us error", [2]),
        ("kind=server NOT error operation!=GET*orders trace!=64", []),
        ("service.name=orders kind=client", [3]),
        (f"trace={trace_id(2).hex()}", [2]),
        (f"trace={trace_id(2).hex()} NOT error", []),
        ("trace=nonsense", []),
        ("nowhere=5", []),
        ("nowhere>5", []),
    ],
)
def test_query(shop: Store, query: str, found: list[int]) -> None:
    """Traces are found by one span that meets the whole query."""
    assert [one for one in _found(shop, query) if one < 100] == found


def test_own_fields_first(shop: Store) -> None:
    """A key that is the name of a field means the field, whatever attributes there are."""
    assert _found(shop, "status=200") == []


@pytest.mark.parametrize(
    "value", [AnyValue(double_value=1e30), AnyValue(int_value=2**62), AnyValue(double_value=1e999)]
)
def test_number_as_no_query_writes_it(store: Store, value: AnyValue) -> None:
    """A number is one even where its text is none of a query's."""
    attribute = KeyValue(key="size", value=value)
    add(store, *(span(1, index, attributes=[attribute]) for index in range(1, FILLING)))
    assert _found(store, "size>5") == [1]
    assert _found(store, "NOT size>5") == []


def test_value_of_its_own_first(store: Store) -> None:
    """An attribute counts before one of the resource, and the last of two of a span: also when they are denied."""
    twice = [text("key", "first"), text("key", "last")]
    add(store, *(span(1, index, attributes=twice) for index in range(1, FILLING)))
    add(store, *(span(2, index, attributes=[text("service.name", "own")]) for index in range(1, FILLING)))
    assert _found(store, "key=last") == [1]
    assert _found(store, "key=first") == []
    assert _found(store, "NOT key=first") == [1, 2]
    assert _found(store, "NOT service.name=orders") == [2]
    assert _found(store, "key>=0") == []


def test_time(store: Store) -> None:
    """The time of a search is that of a trace's start, whenever the span was that meets it."""
    add(store, *(span(1, index, 1, start_ns=100, attributes=[text("key", "value")]) for index in range(2, FILLING)))
    add(store, span(2, start_ns=50, attributes=[text("key", "value")]))
    assert _found(store, "key=value", end_ns=START_NS + 60) == [2]
    add(store, span(1, 1, start_ns=10))
    assert _found(store, "key=value", end_ns=START_NS + 60) == [1, 2]
    assert _found(store, "key=value", start_ns=START_NS + 20) == [2]
    assert _found(store, "key=value", start_ns=START_NS + 51) == []


def test_newest_first(store: Store) -> None:
    """The newest traces are found, in whatever order they came."""
    for trace in (5, 1, 4, 2, 3):
        add(store, *(span(trace, index, start_ns=trace * 1000) for index in range(1, FILLING)))
    assert [int.from_bytes(one.trace_id) for one in store.find((), limit=3).traces] == [5, 4, 3]


def test_time_limit(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that takes too long ends, and says how far it came."""
    for trace in range(1, 4):
        add(store, *(span(trace, index, start_ns=trace * 1000) for index in range(1, FILLING)))
    monkeypatch.setattr(find, "TIME_LIMIT_S", -1.0)
    found = store.find(())
    assert (found.traces, found.complete, found.searched_to_ns) == ([], False, START_NS + 3000)
    assert store.find((), start_ns=START_NS + 3001).complete


@pytest.mark.parametrize("filling", [0, FILLING])
def test_logs(store: Store, filling: int) -> None:
    """Log records are found by the same language, with and without a trace, the newest first."""
    warning = LogRecord(
        time_unix_nano=START_NS + 5,
        severity_number=SeverityNumber.SEVERITY_NUMBER_WARN,
        body=AnyValue(string_value="card declined"),
        attributes=[text("sku", "mug")],
    )
    add_logs(store, warning, log(1, body="placed", time_ns=7, attributes=[text("sku", "mug")]))
    add_logs(store, *(log(None, body="idle", time_ns=-index) for index in range(filling)))

    def found(query: str) -> list[int]:
        return [one.time_ns - START_NS for one in store.find_logs(parse(query)).logs if one.time_ns > START_NS]

    assert found("sku=mug") == [7, 5]
    assert found("severity=WARN") == [5]
    assert found("severity!=WARN") == [7]
    assert found("service=orders declined") == [5]
    assert found("message=place*") == [7]
    assert found(f"trace={trace_id(1).hex()}") == [7]
    assert found("trace!=*") == [5]
    assert len(store.find_logs((), limit=1).logs) == 1
    assert store.find_logs((), start_ns=START_NS + 6, end_ns=START_NS + 6).logs == []


def test_time_limit_of_logs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for log records that takes too long ends, and says how far it came."""
    for time_ns in range(1, 4):
        add_logs(store, *(log(None, time_ns=time_ns) for _ in range(FILLING)))
    monkeypatch.setattr(find, "TIME_LIMIT_S", -1.0)
    found = store.find_logs(())
    assert (found.logs, found.complete, found.searched_to_ns) == ([], False, START_NS + 3)
    assert store.find_logs((), start_ns=START_NS + 4).complete
