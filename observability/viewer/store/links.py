"""Links between spans of different traces, both ways, with what is at their other ends."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from itertools import groupby

from observability.viewer.store.shares import Held
from observability.viewer.store.stored import Link, LinkEnd
from observability.viewer.store.traces import Operations

MAX_LINKS = 1000
"""Of a trace, each way."""

TIME_LIMIT_S = 0.3
"""Of looking for the names; then there are ids only."""


def read_links_from(connection: sqlite3.Connection, trace_id: bytes) -> list[Link]:
    """Spans of other traces that link to one of this trace."""
    rows = connection.execute(
        "SELECT t.trace_id, l.span, l.linked_span FROM links l JOIN traces t ON t.number = l.trace"
        " WHERE l.linked = ? AND t.trace_id != ? ORDER BY t.number, l.span, l.linked_span LIMIT ?",
        (trace_id, trace_id, MAX_LINKS),
    ).fetchall()
    ends = _ends(connection, [(other, span) for other, span, _ in rows])
    return [Link(ends[other, span], linked_span) for other, span, linked_span in rows]


def read_links_to(connection: sqlite3.Connection, trace_id: bytes) -> list[LinkEnd]:
    """Spans of other traces that a span of this trace links to, in whatever trace, and whether that is kept."""
    rows = connection.execute(
        "SELECT DISTINCT linked, linked_span FROM links WHERE trace = (SELECT number FROM traces WHERE trace_id = ?)"
        " AND linked != ? ORDER BY linked, linked_span LIMIT ?",
        (trace_id, trace_id, MAX_LINKS),
    ).fetchall()
    return list(_ends(connection, rows).values())


def _ends(connection: sqlite3.Connection, spans: Iterable[tuple[bytes, bytes]]) -> dict[tuple[bytes, bytes], LinkEnd]:
    """What is known of spans by the ids of their traces and their own; those of one trace stand together."""
    deadline = time.monotonic() + TIME_LIMIT_S
    operations = Operations(connection)
    found = {}
    for trace_id, of_trace in groupby(spans, lambda one: one[0]):
        row = connection.execute("SELECT number FROM traces WHERE trace_id = ? AND spans > 0", (trace_id,)).fetchone()
        held = Held()
        if row and time.monotonic() < deadline:
            for part, share in connection.execute("SELECT part, spans FROM shares WHERE trace = ?", row):
                held.add(part, share)
        for _, span_id in of_trace:
            span = held.get(span_id)
            operation = operations[span.operation] if span else None
            found[trace_id, span_id] = LinkEnd(trace_id, span_id, row is not None, operation)
    return found
