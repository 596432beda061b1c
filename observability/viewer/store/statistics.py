"""How often operations happened and how long they took, by minute."""

from __future__ import annotations

import sqlite3
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MINUTE_NS = 60 * 10**9


class Bucket(NamedTuple):
    """Spans whose duration is at least `from_ns` and less than `to_ns`, and the trace of one of them.

    The bounds are the same everywhere: four buckets to each power of two of a nanosecond, and one for 0.
    """

    from_ns: int
    to_ns: int
    calls: int
    example: bytes


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of an operation, from `start_ns` on, by the start of the spans."""

    start_ns: int
    calls: int
    errors: int
    durations: list[Bucket]


@dataclass(frozen=True, slots=True)
class OperationStatistics:
    """The spans of one operation; `minutes` are those in which there were any, in order."""

    service: str
    operation: str
    kind: int
    calls: int
    errors: int
    durations: list[Bucket]
    minutes: list[Minute]


def bucket_of(duration_ns: int) -> int:
    """The number of the bucket that a duration falls into; one below zero counts as 0."""
    if duration_ns < 8:
        return max(duration_ns, 0)
    bits = duration_ns.bit_length()
    return bits * 4 - 8 + (duration_ns >> (bits - 3) & 3)


def bucket_from(number: int) -> int:
    """The shortest duration in a bucket."""
    if number < 8:
        return number
    bits, quarter = divmod(number + 8, 4)
    return (4 + quarter) << (bits - 3)


def quantile_ns(durations: Sequence[Bucket], share: float) -> float:
    """The duration that this share of calls is shorter than, within an eighth; 0 if there were none."""
    left = share * sum(bucket.calls for bucket in durations)
    for bucket in durations:
        if left <= bucket.calls:
            return bucket.from_ns + (bucket.to_ns - bucket.from_ns) * left / bucket.calls
        left -= bucket.calls
    return float(durations[-1].to_ns) if durations else 0.0


SCHEMA = """
CREATE TABLE IF NOT EXISTS statistics (
    minute INTEGER NOT NULL, operation INTEGER NOT NULL, calls INTEGER NOT NULL, errors INTEGER NOT NULL,
    durations BLOB NOT NULL, last_trace INTEGER NOT NULL, PRIMARY KEY (minute, operation)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS statistics_by_last_trace ON statistics (last_trace);
"""

# A bucket's number, its calls, and the id of a trace.
_BUCKET = struct.Struct("<BI16s")
_MAX_CALLS = 2**32 - 1


class Tally:
    """Counts spans by operation and minute, and adds the counts to those in the file."""

    def __init__(self) -> None:
        # By minute, operation and bucket.
        self._calls: defaultdict[tuple[int, int, int], int] = defaultdict(int)
        self._examples: dict[tuple[int, int, int], bytes] = {}
        self._errors: Counter[tuple[int, int]] = Counter()

    def add(self, spans: Iterable[tuple[int, int, int, bytes]]) -> None:
        """Count spans, each by its operation, start, duration and trace."""
        all_calls, examples = self._calls, self._examples
        for operation, start_ns, duration_ns, trace_id in spans:
            key = start_ns // MINUTE_NS, operation, bucket_of(duration_ns)
            all_calls[key] += 1
            examples[key] = trace_id

    def add_errors(self, spans: Iterable[tuple[int, int]]) -> None:
        """Count spans, which are counted as such too, as failed, each by its operation and start."""
        self._errors.update((start_ns // MINUTE_NS, operation) for operation, start_ns in spans)

    def write(self, connection: sqlite3.Connection, last_trace: int) -> None:
        """Add what was counted, in the caller's transaction."""
        counts: defaultdict[tuple[int, int], dict[int, tuple[int, bytes]]] = defaultdict(dict)
        for key, calls in self._calls.items():
            minute, operation, bucket = key
            counts[minute, operation][bucket] = (calls, self._examples[key])
        rows = []
        for (minute, operation), durations in counts.items():
            calls = sum([calls for calls, _ in durations.values()])
            for (held,) in connection.execute(
                "SELECT durations FROM statistics WHERE minute = ? AND operation = ?", (minute, operation)
            ):
                for bucket, before, example in _BUCKET.iter_unpack(held):
                    here = durations.get(bucket)
                    durations[bucket] = (min(here[0] + before, _MAX_CALLS), here[1]) if here else (before, example)
            rows.append((minute, operation, calls, self._errors[minute, operation], _pack(durations), last_trace))
        connection.executemany(
            "INSERT INTO statistics VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " calls = calls + excluded.calls, errors = errors + excluded.errors, durations = excluded.durations,"
            " last_trace = max(last_trace, excluded.last_trace)",
            rows,
        )


def read_statistics(connection: sqlite3.Connection, start_ns: int, end_ns: int) -> list[OperationStatistics]:
    """Statistics of every operation in the minutes from the one of `start_ns` to that of `end_ns`."""
    operations: dict[tuple[str, str, int], list[tuple[int, int, int, bytes]]] = {}
    for service, name, kind, *row in connection.execute(
        "SELECT service, name, kind, minute, calls, errors, durations FROM statistics"
        " JOIN operations ON number = operation WHERE minute BETWEEN ? AND ? ORDER BY minute",
        (start_ns // MINUTE_NS, end_ns // MINUTE_NS),
    ):
        operations.setdefault((service, name, kind), []).append((row[0], row[1], row[2], row[3]))
    return [
        OperationStatistics(
            *operation,
            sum(calls for _, calls, _, _ in rows),
            sum(errors for _, _, errors, _ in rows),
            _merged(durations for _, _, _, durations in rows),
            [
                Minute(minute * MINUTE_NS, calls, errors, _merged([durations]))
                for minute, calls, errors, durations in rows
            ],
        )
        for operation, rows in sorted(operations.items())
    ]


def _pack(durations: dict[int, tuple[int, bytes]]) -> bytes:
    pack = _BUCKET.pack
    return b"".join([pack(bucket, calls, example) for bucket, (calls, example) in sorted(durations.items())])


def _merged(packed: Iterable[bytes]) -> list[Bucket]:
    merged: dict[int, tuple[int, bytes]] = {}
    for durations in packed:
        for bucket, calls, example in _BUCKET.iter_unpack(durations):
            held = merged.get(bucket)
            merged[bucket] = (held[0] + calls if held else calls, example)
    return [
        Bucket(bucket_from(bucket), bucket_from(bucket + 1), calls, example)
        for bucket, (calls, example) in sorted(merged.items())
    ]
