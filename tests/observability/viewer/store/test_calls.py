from __future__ import annotations

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.store import Store
from observability.viewer.store.calls import Calls
from observability.viewer.store.statistics import MINUTE_NS
from tests.observability.viewer.samples import START_NS, add, span, span_id, trace_id

FOREVER = 2**63 - 1


@pytest.mark.parametrize("parent_first", [True, False])
def test_parent(store: Store, parent_first: bool) -> None:
    """A call is counted once, when the later of its spans comes, and not again when one is repeated."""
    parent, child = span(1, 1, kind=Span.SPAN_KIND_CLIENT), span(1, 2, 1, error=True)
    first, then = ((parent, "orders"), (child, "payments"))[:: 1 if parent_first else -1]
    add(store, first[0], service=first[1])
    assert store.calls_between(0, FOREVER) == []
    for _ in range(2):
        add(store, then[0], service=then[1])
        add(store, first[0], service=first[1])
    assert store.calls_between(0, FOREVER) == [Calls("orders", "payments", messaging=False, calls=1, errors=1)]


@pytest.mark.parametrize("consumer_first", [True, False])
def test_link(store: Store, consumer_first: bool) -> None:
    """A span without a parent that links to another service's is a message from there, whichever came first."""
    producer = span(1, 1, kind=Span.SPAN_KIND_PRODUCER)
    link = Span.Link(trace_id=trace_id(1), span_id=span_id(1))
    consumer = span(2, 1, kind=Span.SPAN_KIND_CONSUMER, links=[link])
    requests = [(producer, "orders"), (consumer, "shipping")][:: -1 if consumer_first else 1]
    for one, service in requests * 2:
        add(store, one, service=service)
    assert store.calls_between(0, FOREVER) == [Calls("orders", "shipping", messaging=True, calls=1, errors=0)]


def test_parent_and_link(store: Store) -> None:
    """Where there is a parent too, the link is no second call."""
    link = Span.Link(trace_id=trace_id(1), span_id=span_id(1))
    add(store, span(1, 1, kind=Span.SPAN_KIND_PRODUCER))
    add(store, span(1, 2, 1, kind=Span.SPAN_KIND_CONSUMER, links=[link]), service="shipping")
    assert store.calls_between(0, FOREVER) == [Calls("orders", "shipping", messaging=True, calls=1, errors=0)]


def test_own_calls(store: Store) -> None:
    """A span whose parent is of the same service is no call between services."""
    add(store, span(1, 1), span(1, 2, 1), span(1, 3, 3))
    assert store.calls_between(0, FOREVER) == []


def test_minutes(store: Store) -> None:
    """Calls are those of the minutes that are asked for."""
    add(store, span(1, 1))
    add(store, span(1, 2, 1, start_ns=MINUTE_NS), service="payments")
    assert store.calls_between(START_NS, START_NS) == []
    assert store.calls_between(START_NS + MINUTE_NS, START_NS + MINUTE_NS)[0].calls == 1
