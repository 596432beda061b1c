"""Requests that have not ended, as the pages show them."""

from __future__ import annotations

import time

from observability.viewer.in_flight import MAX_REQUESTS, SILENT_NS, Usual, in_flight_json
from observability.viewer.ingest import ingest_logs
from observability.viewer.store import Store
from observability.viewer.store.stored import StoredSpan
from observability.viewer.store.unfinished import UnfinishedSpan
from tests.observability.viewer.samples import START_NS, add, log_request, notice, span, span_id, text, trace_id

S = 10**9


def _unfinished(
    trace: int, index: int = 1, parent: int | None = None, *, name: str = "GET /", ran_s: float = 2, silent_s: float = 0
) -> UnfinishedSpan:
    parent_id = b"" if parent is None else span_id(parent)
    end_ns = START_NS + round(ran_s * S)
    stored = StoredSpan(
        trace_id(trace), span_id(index), parent_id, "orders", name, 2, False, START_NS, end_ns, b"", b"", b""
    )
    return UnfinishedSpan(stored, round(silent_s * S))


def test_what_a_request_waits_for(store: Store) -> None:
    """Of the spans of one request the outermost is told, and what began last within it."""
    found = [
        _unfinished(1, 1, name="POST /orders", ran_s=3),
        _unfinished(1, 2, 1, name="PUT reserve", ran_s=2.5),
        _unfinished(1, 3, 1, name="PUT charge", ran_s=2),
        _unfinished(1, 4, 3, name="POST /charges", ran_s=1.5),
        _unfinished(2, 1, 9, name="of a parent that came", ran_s=2),
    ]
    told = in_flight_json(found, Usual(store))
    assert (told["inFlight"], told["unusual"]) == (2, 2)
    first, second = told["requests"]
    assert first == {
        "traceID": trace_id(1).hex(),
        "spanID": span_id(1).hex(),
        "service": "orders",
        "name": "POST /orders",
        "kind": "server",
        "startTime": START_NS // 1000,
        "elapsedNano": 3 * S,
        "silentNano": 0,
        "usualNano": None,
        "waitsFor": {"service": "orders", "name": "POST /charges", "peer": ""},
    }
    assert (second["name"], second["waitsFor"]) == ("of a parent that came", None)


def test_what_is_unusual(store: Store) -> None:
    """What takes no longer than it usually does is counted, and so is what has only begun."""
    now_ns = time.time_ns() - START_NS
    for index in range(1, 6):
        add(store, span(100 + index, name="slow", start_ns=now_ns - 20 * S, end_ns=now_ns - 10 * S))
        add(store, span(200 + index, name="quick", start_ns=now_ns - S, end_ns=now_ns - S + 1000))
    add(store, span(301, name="rare", start_ns=now_ns - 20 * S, end_ns=now_ns - 10 * S))
    found = [
        _unfinished(1, name="slow", ran_s=5),
        _unfinished(2, name="slow", ran_s=15),
        _unfinished(3, name="quick", ran_s=0.9),
        _unfinished(4, name="quick", ran_s=1.1),
        _unfinished(5, name="rare", ran_s=1.1),
    ]
    told = in_flight_json(found, Usual(store))
    assert (told["inFlight"], told["unusual"]) == (5, 3)
    usual = {one["traceID"]: one["usualNano"] for one in told["requests"]}
    assert set(usual) == {trace_id(index).hex() for index in (2, 4, 5)}
    assert 8 * S < usual[trace_id(2).hex()] < 12 * S
    assert usual[trace_id(5).hex()] is None


def test_elapsed_time_does_not_depend_on_clocks(store: Store) -> None:
    """From its last notice on a span grows older by the viewer's clock, until nothing was heard for too long."""
    running, silent = _unfinished(1, ran_s=5, silent_s=9), _unfinished(2, ran_s=5, silent_s=180)
    first, second = in_flight_json([running, silent], Usual(store))["requests"]
    assert (first["elapsedNano"], first["silentNano"]) == (14 * S, 0)
    assert (second["elapsedNano"], second["silentNano"]) == (5 * S, 180 * S)
    short = _unfinished(1, ran_s=0.1, silent_s=SILENT_NS / S)
    assert in_flight_json([short], Usual(store))["unusual"] == 1


def test_at_most_so_many(store: Store) -> None:
    """The longest are told one by one, and all are counted."""
    found = [_unfinished(index, ran_s=index + 1) for index in range(1, MAX_REQUESTS + 2)]
    told = in_flight_json(found, Usual(store))
    assert (told["unusual"], len(told["requests"])) == (MAX_REQUESTS + 1, MAX_REQUESTS)
    assert told["requests"][0]["elapsedNano"] == (MAX_REQUESTS + 2) * S


def test_what_is_usual_is_remembered(store: Store) -> None:
    """Statistics are not counted again for each answer."""
    now = [0.0]
    usual = Usual(store, now=lambda: now[0])
    assert usual.durations_ns() == {}
    begun_ns = time.time_ns() - START_NS
    for index in range(1, 6):
        add(store, span(index, start_ns=begun_ns, end_ns=begun_ns + S))
    assert usual.durations_ns() == {}
    now[0] += 60
    assert list(usual.durations_ns()) == [("orders", "GET /", 2)]


def test_circles(store: Store) -> None:
    """Spans that are each other's parents are no request."""
    told = in_flight_json([_unfinished(1, 1, 2), _unfinished(1, 2, 1), _unfinished(2, 3, 3)], Usual(store))
    assert told == {"inFlight": 0, "unusual": 0, "requests": []}


def test_from_notice_to_answer(store: Store) -> None:
    """A request is in flight from its notice to its span."""
    usual = Usual(store)
    peers = [text("server.address", "10.0.0.7"), text("clearspan.peer", "payments")]
    sent = [notice(1, ran_ns=2 * S), notice(1, 2, 1, name="PUT", kind="client", attributes=peers)]
    ingest_logs(log_request(*sent).SerializeToString(), store)
    (one,) = in_flight_json(store.unfinished.spans(), usual)["requests"]
    assert (one["name"], one["kind"]) == ("POST /orders", "server")
    assert one["waitsFor"] == {"service": "orders", "name": "PUT", "peer": "payments"}
    assert one["elapsedNano"] >= 2 * S
    add(store, span(1, name="POST /orders"), span(1, 2, 1))
    assert in_flight_json(store.unfinished.spans(), usual)["requests"] == []
