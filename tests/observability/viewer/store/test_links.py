"""Links between spans of different traces."""

from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.store import Store, links
from observability.viewer.store.calls import Operation
from observability.viewer.store.stored import Link, LinkEnd
from tests.observability.viewer.samples import add, add_logs, log, span, span_id, trace_id


def _link(trace: int, span: int) -> Span.Link:
    return Span.Link(trace_id=trace_id(trace), span_id=span_id(span))


def test_both_ways(store: Store) -> None:
    """A trace is told which spans of others link to it and which it links to, once each, with their operations."""
    add(store, span(2, 5, name="send", links=[_link(1, 3)] * 2), service="outbox")
    add(store, span(1, 3, name="take"), span(1, 4, links=[_link(1, 3)]))
    send = LinkEnd(trace_id(2), span_id(5), stored=True, operation=Operation("outbox", "send", 2))
    take = LinkEnd(trace_id(1), span_id(3), stored=True, operation=Operation("orders", "take", 2))
    assert store.links_from(trace_id(1)) == [Link(send, span_id(3))]
    assert store.links_to(trace_id(2)) == [take]
    assert (store.links_from(trace_id(2)), store.links_to(trace_id(1))) == ([], [])


def test_not_kept(store: Store) -> None:
    """That a trace is not kept is told, and is told apart from one of which the span has not come."""
    add(store, span(1, links=[_link(2, 1), _link(3, 9), _link(4, 1)]), span(3))
    add_logs(store, log(4))
    assert [(end.stored, end.operation) for end in store.links_to(trace_id(1))] == [
        (False, None),
        (True, None),
        (False, None),
    ]


def test_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many links are told, and for so long names are looked for."""
    add(store, *(span(1, index, links=[_link(2, index)]) for index in range(1, 6)))
    add(store, *(span(2, index) for index in range(1, 6)))
    monkeypatch.setattr(links, "MAX_LINKS", 3)
    assert len(store.links_to(trace_id(1))) == len(store.links_from(trace_id(2))) == 3
    monkeypatch.setattr(links, "TIME_LIMIT_S", -1.0)
    assert {(end.stored, end.operation) for end in store.links_to(trace_id(1))} == {(True, None)}
