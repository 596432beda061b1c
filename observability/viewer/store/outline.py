"""Traces as what they consist of: which spans of which operations, when, and below which; without their bodies.

That is in a trace's shares, so that many traces are read in the time that the bodies of one take.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from observability.viewer.query import Comparison, equals
from observability.viewer.store.calls import Operation
from observability.viewer.store.fields import KINDS
from observability.viewer.store.find import find_numbers
from observability.viewer.store.shares import unpack
from observability.viewer.store.traces import Operations

MAX_ALIKE = 50
MAX_SPANS = 60_000
"""Of all traces that are read together."""

TIME_LIMIT_S = 1.0

# A root's operation may be that of other spans too: so many traces that have one are looked at.
_CANDIDATES = 4 * MAX_ALIKE
_NO_SPAN = bytes(8)


@dataclass(frozen=True, slots=True)
class OutlineSpan:
    """A span without its body; the id of no parent is empty, times are nanoseconds since 1970."""

    span_id: bytes
    parent_id: bytes
    operation: Operation
    error: bool
    start_ns: int
    end_ns: int


Outline = Sequence[OutlineSpan]
"""The spans of one trace by their start, of those that start together the longest first."""


@dataclass(frozen=True, slots=True)
class Alike:
    """A trace, and others whose root is of the same operation."""

    trace: Outline
    others: Sequence[Outline]
    """The latest that began before it, the latest first; if these are few, others that began later."""
    complete: bool
    """Whether all were looked at, for as many as are asked for."""


def read_alike(connection: sqlite3.Connection, trace_id: bytes) -> Alike | None:
    """A trace with up to `MAX_ALIKE` others of the same request; None if it is not known."""
    deadline = time.monotonic() + TIME_LIMIT_S
    row = connection.execute(
        "SELECT number, start_ns FROM traces WHERE trace_id = ? AND spans > 0", (trace_id,)
    ).fetchone()
    if row is None:
        return None
    own, start_ns = row
    operations = Operations(connection)
    trace = _read(connection, own, operations)
    wanted = root_of(trace).operation
    query: list[Comparison] = [equals("service", wanted.service), equals("operation", wanted.name)]
    if wanted.kind in KINDS:
        query.append(equals("kind", KINDS[wanted.kind]))
    others: list[Outline] = []
    complete, room = True, MAX_SPANS - len(trace)
    for from_ns, to_ns in ((None, start_ns), (start_ns, None)):
        if time.monotonic() > deadline:
            return Alike(trace, others, complete=False)
        numbers, all_of_them, _ = find_numbers(connection, tuple(query), from_ns, to_ns, _CANDIDATES)
        complete = complete and all_of_them and len(numbers) < _CANDIDATES
        for number in numbers:
            if len(others) == MAX_ALIKE:
                return Alike(trace, others, complete=True)
            if number == own:
                continue
            ((spans,),) = connection.execute("SELECT spans FROM traces WHERE number = ?", (number,)).fetchall()
            if spans > room or time.monotonic() > deadline:
                return Alike(trace, others, complete=False)
            outline = _read(connection, number, operations)
            if root_of(outline).operation == wanted:
                others.append(outline)
                room -= spans
    return Alike(trace, others, complete)


def root_of(trace: Outline) -> OutlineSpan:
    """The earliest span without a parent or, if all have one, the earliest."""
    return next((span for span in trace if not span.parent_id), trace[0])


def _read(connection: sqlite3.Connection, number: int, operations: Operations) -> Outline:
    spans = [
        OutlineSpan(
            row.span_id,
            b"" if row.parent_id == _NO_SPAN else row.parent_id,
            operations[row.operation],
            row.error,
            row.start_ns,
            row.end_ns,
        )
        for (share,) in connection.execute("SELECT spans FROM shares WHERE trace = ?", (number,))
        for row in unpack(share)
    ]
    return sorted(spans, key=lambda span: (span.start_ns, -span.end_ns))
