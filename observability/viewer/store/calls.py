"""Calls between services, by minute.

A call is counted when the later of its two spans comes, once.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from observability.viewer.store.statistics import MINUTE_NS

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    minute INTEGER NOT NULL, caller TEXT NOT NULL, callee TEXT NOT NULL, messaging INTEGER NOT NULL,
    calls INTEGER NOT NULL, errors INTEGER NOT NULL, last_trace INTEGER NOT NULL,
    PRIMARY KEY (minute, caller, callee, messaging)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_by_last_trace ON calls (last_trace);
"""

_PRODUCER, _CONSUMER = 4, 5


class Operation(NamedTuple):
    """What spans are counted by."""

    service: str
    name: str
    kind: int


@dataclass(frozen=True, slots=True)
class Calls:
    """How often one service called another, or sent it messages: spans whose parent is of the other service."""

    caller: str
    callee: str
    messaging: bool
    calls: int
    errors: int


class Edges:
    """Counts calls, and adds the counts to those in the file."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str, str, bool], list[int]] = {}

    def add(self, caller: Operation, callee: Operation, start_ns: int, *, error: bool, messaging: bool = False) -> None:
        """Count a span of the callee with its parent, if that is of another service."""
        if caller.service == callee.service:
            return
        messaging = messaging or caller.kind == _PRODUCER or callee.kind == _CONSUMER
        count = self._counts.setdefault((start_ns // MINUTE_NS, caller.service, callee.service, messaging), [0, 0])
        count[0] += 1
        count[1] += error

    def write(self, connection: sqlite3.Connection, last_trace: int) -> None:
        """Add what was counted, in the caller's transaction."""
        connection.executemany(
            "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " calls = calls + excluded.calls, errors = errors + excluded.errors,"
            " last_trace = max(last_trace, excluded.last_trace)",
            [(*edge, *count, last_trace) for edge, count in self._counts.items()],
        )


def read_calls(connection: sqlite3.Connection, start_ns: int, end_ns: int) -> list[Calls]:
    """Calls between services in the minutes from the one of `start_ns` to that of `end_ns`."""
    return [
        Calls(caller, callee, bool(messaging), calls, errors)
        for caller, callee, messaging, calls, errors in connection.execute(
            "SELECT caller, callee, messaging, sum(calls), sum(errors) FROM calls WHERE minute BETWEEN ? AND ?"
            " GROUP BY caller, callee, messaging ORDER BY caller, callee, messaging",
            (start_ns // MINUTE_NS, end_ns // MINUTE_NS),
        )
    ]
