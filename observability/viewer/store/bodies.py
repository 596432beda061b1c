"""The bodies of spans of many traces, for which each block is read once."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from observability.viewer.store.blocks import places, read_block
from observability.viewer.store.shares import Row, unpack
from observability.viewer.store.stored import StoredSpan
from observability.viewer.store.traces import Operations, stored_span

Visit = Callable[[int, bytes, bytes], None]
"""Is given the index of a trace, a span of it, and the span's resource, both encoded."""

MAX_SPANS, MAX_BYTES = 20_000, 16 * 1024 * 1024
"""Of the traces that are visited, as they were sent."""

TIME_LIMIT_S = 0.5

# Of traces that began one after the other most spans are in the same blocks.
_TOGETHER = 64

_Owner = TypeVar("_Owner")


def visit_spans(connection: sqlite3.Connection, trace_ids: Sequence[bytes], visit: Visit) -> int:
    """Visit the spans of traces, each trace whole, until these were many or the time is over.

    Returns:
        How many of the traces were visited, from the first one on.
    """
    deadline = time.monotonic() + TIME_LIMIT_S
    visited = spans = size = 0
    while visited < len(trace_ids):
        wanted: list[tuple[int, int, int]] = []
        some = 0
        for trace_id in trace_ids[visited : visited + _TOGETHER]:
            number, more_spans, more_bytes = _trace(connection, trace_id)
            spans, size = spans + more_spans, size + more_bytes
            if spans > MAX_SPANS or size > MAX_BYTES:
                break
            wanted += [(part, row.position, visited + some) for part, row in _rows(connection, number)]
            some += 1
        try:
            found = list(_read(connection, wanted, deadline))
        except TimeoutError:
            break
        for index, (span, resource, _) in found:
            visit(index, span, resource)
        visited += some
        if some < _TOGETHER:
            break
    return visited


def read_failures(connection: sqlite3.Connection, trace_ids: Iterable[bytes]) -> tuple[list[StoredSpan], bool]:
    """Of traces the spans that failed and below which none did; whether that was all, within the time."""
    deadline = time.monotonic() + TIME_LIMIT_S
    operations = Operations(connection)
    wanted: list[tuple[int, int, tuple[bytes, Row]]] = []
    for trace_id in trace_ids:
        number, _, _ = _trace(connection, trace_id)
        failed = [(part, row) for part, row in _rows(connection, number) if row.error]
        passed_on = {row.parent_id for _, row in failed}
        wanted += [(part, row.position, (trace_id, row)) for part, row in failed if row.span_id not in passed_on]
    found = []
    try:
        for (trace_id, row), encoded in _read(connection, wanted, deadline):
            found.append(stored_span(trace_id, row, operations, encoded))
    except TimeoutError:
        return found, False
    return found, True


def _trace(connection: sqlite3.Connection, trace_id: bytes) -> tuple[int, int, int]:
    """A trace's number, and its spans and bytes; zeros if it has gone."""
    row = connection.execute("SELECT number, spans, bytes FROM traces WHERE trace_id = ?", (trace_id,)).fetchone()
    return row or (0, 0, 0)


def _rows(connection: sqlite3.Connection, number: int) -> Iterator[tuple[int, Row]]:
    """The spans of a trace with their parts."""
    for part, share in connection.execute("SELECT part, spans FROM shares WHERE trace = ?", (number,)):
        for row in unpack(share):
            yield part, row


def _read(
    connection: sqlite3.Connection, wanted: Iterable[tuple[int, int, _Owner]], deadline: float
) -> Iterator[tuple[_Owner, tuple[bytes, bytes, bytes]]]:
    """Spans by part and position there: whose each is, and it with its resource and scope.

    Raises:
        TimeoutError: It takes longer.
    """
    by_part: defaultdict[int, list[tuple[int, _Owner]]] = defaultdict(list)
    for part, position, owner in wanted:
        by_part[part].append((position, owner))
    by_block: defaultdict[int, list[tuple[int, _Owner]]] = defaultdict(list)
    for part, (block, start) in places(connection, "span", by_part).items():
        by_block[block] += [(start + position, owner) for position, owner in by_part[part]]
    for block, held in by_block.items():
        if time.monotonic() > deadline:
            raise TimeoutError
        records = read_block(connection, "span", block)
        for position, owner in held:
            yield owner, records[position]
