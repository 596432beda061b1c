"""How often operations and calls between services happened, and how long they took, by minute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MINUTE_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Bucket:
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


@dataclass(frozen=True, slots=True)
class Calls:
    """How often one service called another, or sent it messages: spans whose parent is of the other service."""

    caller: str
    callee: str
    messaging: bool
    calls: int
    errors: int


def bucket_of(duration_ns: int) -> int:
    """The number of the bucket that a duration falls into; one below zero counts as 0."""
    if duration_ns < 8:  # noqa: PLR2004 - these have a bucket each
        return max(duration_ns, 0)
    bits = duration_ns.bit_length()
    return bits * 4 - 8 + (duration_ns >> (bits - 3) & 3)


def bucket_from(number: int) -> int:
    """The shortest duration in a bucket."""
    if number < 8:  # noqa: PLR2004
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
