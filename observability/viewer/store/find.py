"""Searches: the newest traces of which one span meets a query, and the newest log records that meet one.

The indexes of blocks say where to look, and everything that they name is looked at before it is told.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from observability.viewer.query import Comparison, Query
from observability.viewer.store.arriving import in_batches
from observability.viewer.store.attributes import field_token, key_token, pair_token
from observability.viewer.store.blocks import Signal, read_block
from observability.viewer.store.fields import KINDS, STATUSES
from observability.viewer.store.index import Index, positions_of
from observability.viewer.store.logs import read_logs, stored_log
from observability.viewer.store.records import Reader
from observability.viewer.store.stored import Found, FoundLogs, StoredLog
from observability.viewer.store.traces import read_summaries, read_trace
from observability.viewer.store.vocabulary import MAX_VALUES_PER_KEY, known_values

TIME_LIMIT_S = 1.0

_FIELDS: dict[Signal, frozenset[str]] = {
    "span": frozenset({"service", "operation", "kind", "status", "error"}),
    "log": frozenset({"service", "severity", "error"}),
}
_LOOKED_AT: dict[Signal, frozenset[str]] = {
    "span": frozenset({"trace", "span"}),
    "log": frozenset({"trace", "span", "message"}),
}
_MAX_NS = 2**63 - 1
_BLOCK = "number, count, to_ns, earliest_ns, longest_ns, many, ones"


@dataclass(frozen=True, slots=True)
class _Tokens:
    """By which tokens an index tells who may meet a condition."""

    yes: Sequence[int]
    """Who has one of these may."""
    no: Sequence[int]
    """Who has one of these does not."""
    key: int | None
    """Who has this and none of the above may; None if there is nobody."""
    absent: bool
    """Whether those may who have not even that."""

    def may(self, index: Index) -> bool:
        """Whether a block has anybody, as far as can be told at once."""
        return self.absent or any(map(index.has, self.yes)) or (self.key is not None and index.has(self.key))

    def among(self, index: Index) -> int:
        """The positions of who may."""
        found = _any(index, self.yes)
        if self.key is None and not self.absent:
            return found
        denied = _any(index, self.no) & ~found
        if self.absent and self.key is None:
            return index.all & ~denied | index.ambiguous
        present = index.positions(self.key or 0)
        found |= present & ~denied
        if self.absent:
            found |= index.all & ~present
        return found | index.ambiguous


@dataclass(frozen=True, slots=True)
class _Durations:
    """A condition on the duration, which each block has beside its index, in seconds and rounded."""

    condition: Comparison

    def among(self, longest_ns: int, durations: bytes) -> int:
        """The positions of who may."""
        number = (self.condition.number or 0.0) / 1e9
        slack = abs(number) * 1e-6 + 1e-12
        match self.condition.operator:
            case ">" | ">=":
                if longest_ns / 1e9 < number - slack:
                    return 0
                return _bits(d >= number - slack for d in memoryview(durations).cast("f"))
            case _:
                return _bits(d <= number + slack for d in memoryview(durations).cast("f"))


class _Plan:
    """What of a query the indexes can answer."""

    def __init__(self, connection: sqlite3.Connection, signal: Signal, query: Query) -> None:
        self.query = query
        self.tokens: list[_Tokens] = []
        self.durations: list[_Durations] = []
        self._connection, self._signal = connection, signal
        for condition in query:
            if not isinstance(condition, Comparison) or condition.key in _LOOKED_AT[signal]:
                continue
            if condition.key == "duration" and signal == "span":
                if condition.operator not in ("=", "!=") and not condition.negated and condition.number is not None:
                    self.durations.append(_Durations(condition))
                continue
            tokens = _tokens(connection, signal, condition)
            if tokens is not None:
                self.tokens.append(tokens)

    def blocks(self, start_ns: int) -> Iterator[tuple[int, int, int, Callable[[], int]]]:
        """Blocks that may have something, the latest first.

        Each with the latest time and the earliest start in it, and a function that gives the positions to look at.
        """
        durations = ", durations" if self.durations else ""
        for number, count, to_ns, earliest_ns, longest_ns, many, ones, *held in self._connection.execute(
            f"SELECT {_BLOCK}{durations} FROM {self._signal}_blocks WHERE to_ns >= ? ORDER BY to_ns DESC, number DESC",
            (start_ns,),
        ):
            index = None if many is None else Index(count, many, ones)

            def positions(
                number: int = number,
                count: int = count,
                longest_ns: int = longest_ns,
                index: Index | None = index,
                held: list[bytes] = held,
            ) -> int:
                if index and not all(tokens.may(index) for tokens in self.tokens):
                    return 0
                found = (1 << count) - 1
                for duration in self.durations:
                    found &= duration.among(longest_ns, held[0])
                if found and index and self.tokens:
                    ((postings,),) = self._connection.execute(
                        f"SELECT postings FROM {self._signal}_blocks WHERE number = ?",
                        (number,),
                    ).fetchall()
                    index.open(postings)
                    for tokens in self.tokens:
                        found &= tokens.among(index)
                return found

            yield number, to_ns, earliest_ns, positions


def find_traces(
    connection: sqlite3.Connection, query: Query, start_ns: int | None, end_ns: int | None, limit: int
) -> Found:
    """The newest traces that began within the time, and of which one span meets the whole query."""
    numbers, complete, searched_to_ns = find_numbers(connection, query, start_ns, end_ns, limit)
    return Found(read_summaries(connection, numbers), complete, searched_to_ns)


def find_numbers(
    connection: sqlite3.Connection, query: Query, start_ns: int | None, end_ns: int | None, limit: int
) -> tuple[list[int], bool, int]:
    """The numbers of these traces, and how far the search came, as `Found` tells it."""
    deadline = time.monotonic() + TIME_LIMIT_S
    earliest, latest = start_ns or 0, _MAX_NS if end_ns is None else end_ns
    trace_id = _only_trace(query)
    if trace_id is not None:
        return _find_in_trace(connection, query, trace_id, earliest, latest), True, 0
    oldest = oldest_trace(connection)
    reader = Reader()
    starts: dict[int, int] = {}  # of the traces found, by number
    complete, searched_to_ns = True, 0
    for block, to_ns, earliest_ns, positions in _Plan(connection, "span", query).blocks(earliest):
        least = min((start, number) for number, start in starts.items()) if len(starts) >= limit else (-1, 0)
        if least[0] > to_ns:
            break
        if time.monotonic() > deadline:
            complete, searched_to_ns = False, to_ns
            break
        bits = positions() if earliest_ns <= latest else 0
        if not bits:
            continue
        by_trace = _by_trace(connection, "span", block, bits, oldest)
        begin = _starts(connection, [number for number in by_trace if number not in starts])
        wanted = {
            number: start for number, start in begin.items() if (start, number) > least and earliest <= start <= latest
        }
        if wanted and query:
            records = read_block(connection, "span", block)
            wanted = {
                number: start
                for number, start in wanted.items()
                if any(reader.span(*records[position][:2]).meets(query) for position in by_trace[number])
            }
        starts |= wanted
        if len(starts) > limit:
            starts = dict(sorted(starts.items(), key=_newest_first)[:limit])
    return [number for number, _ in sorted(starts.items(), key=_newest_first)], complete, searched_to_ns


def find_logs(
    connection: sqlite3.Connection, query: Query, start_ns: int | None, end_ns: int | None, limit: int
) -> FoundLogs:
    """The newest log records within the time that meet the whole query."""
    deadline = time.monotonic() + TIME_LIMIT_S
    earliest, latest = start_ns or 0, _MAX_NS if end_ns is None else end_ns
    reader = Reader()
    trace_id = _only_trace(query)
    if trace_id is not None:
        logs = read_logs(connection, trace_id)
        logs = [
            log
            for log in logs
            if earliest <= log.time_ns <= latest and reader.log(log.record, log.resource).meets(query)
        ]
        return FoundLogs(logs[::-1][:limit], complete=True, searched_to_ns=0)
    oldest = oldest_trace(connection)
    found: list[StoredLog] = []
    for block, to_ns, from_ns, positions in _Plan(connection, "log", query).blocks(earliest):
        if len(found) >= limit and found[limit - 1].time_ns >= to_ns:
            break
        if time.monotonic() > deadline:
            return FoundLogs(found, complete=False, searched_to_ns=to_ns)
        bits = positions() if from_ns <= latest else 0
        by_trace = _by_trace(connection, "log", block, bits, oldest) if bits else {}
        if not by_trace:
            continue
        records = read_block(connection, "log", block)
        least = found[limit - 1].time_ns if len(found) >= limit else -1
        for position in sorted(position for held in by_trace.values() for position in held):
            record = reader.log(*records[position][:2])
            log = stored_log(*records[position], reader)
            if log.time_ns > least and earliest <= log.time_ns <= latest and record.meets(query):
                found.append(log)
        found.sort(key=lambda log: -log.time_ns)
        del found[limit:]
    return FoundLogs(found, complete=True, searched_to_ns=0)


def oldest_trace(connection: sqlite3.Connection) -> int:
    """The number of the trace that will go first: what is older is not there any more."""
    return int(connection.execute("SELECT coalesce(min(number), 0) FROM traces").fetchone()[0])


def _only_trace(query: Query) -> bytes | None:
    """The trace that a query names, if it does."""
    for condition in query:
        if isinstance(condition, Comparison) and condition.key == "trace" and condition.exact is not None:
            try:
                return bytes.fromhex(condition.exact)
            except ValueError:
                return b""
    return None


def _find_in_trace(
    connection: sqlite3.Connection, query: Query, trace_id: bytes, earliest: int, latest: int
) -> list[int]:
    reader = Reader()
    spans = read_trace(connection, trace_id)
    if (
        spans
        and earliest <= spans[0].start_ns <= latest
        and any(reader.span(span.span, span.resource).meets(query) for span in spans)
    ):
        return list(connection.execute("SELECT number FROM traces WHERE trace_id = ?", (trace_id,)).fetchone())
    return []


def _by_trace(
    connection: sqlite3.Connection, signal: Signal, block: int, bits: int, oldest: int
) -> dict[int, list[int]]:
    """Positions in a block by the numbers of their traces, without those that have gone."""
    ((numbers,),) = connection.execute(f"SELECT traces FROM {signal}_blocks WHERE number = ?", (block,)).fetchall()
    traces = memoryview(numbers).cast("Q")
    found: dict[int, list[int]] = {}
    for position in positions_of(bits):
        number = traces[position]
        if number >= oldest:
            found.setdefault(number, []).append(position)
    return found


def _starts(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for some in in_batches(numbers):
        marks = ", ".join("?" * len(some))
        found |= connection.execute(
            f"SELECT number, start_ns FROM traces WHERE number IN ({marks})",
            some,
        ).fetchall()
    return found


def _newest_first(trace: tuple[int, int]) -> tuple[int, int]:
    number, start_ns = trace
    return -start_ns, -number


def _tokens(connection: sqlite3.Connection, signal: Signal, condition: Comparison) -> _Tokens | None:
    """By which tokens a condition can be told; None if it cannot."""
    field = condition.key in _FIELDS[signal]
    if condition.operator in ("=", "!=") and len(condition.pattern) == 1:
        (text,) = condition.pattern
        token = field_token(condition.key, text) if field else pair_token(condition.key, text)
        if (condition.operator == "=") is not condition.negated:
            return _Tokens([token], [], None, absent=False)
        return _Tokens([], [token], None, absent=True)
    key = None
    if field:
        texts = _all_values(connection, signal, condition.key)
        if texts is None:
            return None
        known = [(field_token(condition.key, text), text) for text in texts]
    else:
        key = key_token(condition.key)
        known = known_values(connection, key, "", MAX_VALUES_PER_KEY)
    return _Tokens(
        [token for token, text in known if condition.holds(text)],
        [token for token, text in known if not condition.holds(text)],
        key,
        absent=condition.holds(None),
    )


def _all_values(connection: sqlite3.Connection, signal: Signal, field: str) -> list[str] | None:
    """All values that a field has anywhere; None if they are not known, or too many."""
    match signal, field:
        case _, "error":
            return ["true", "false"]
        case "span", "kind":
            return list(KINDS.values())
        case "span", "status":
            return list(STATUSES.values())
        case "span", ("service" | "operation"):
            column = "service" if field == "service" else "name"
            rows = connection.execute(
                f"SELECT DISTINCT {column} FROM operations LIMIT ?",
                (MAX_VALUES_PER_KEY + 1,),
            ).fetchall()
            return [row[0] for row in rows] if len(rows) <= MAX_VALUES_PER_KEY else None
    return None


def _any(index: Index, tokens: Sequence[int]) -> int:
    found = 0
    for token in tokens:
        found |= index.positions(token)
    return found


def _bits(flags: Iterable[bool]) -> int:
    found = 0
    for position, flag in enumerate(flags):
        if flag:
            found |= 1 << position
    return found
