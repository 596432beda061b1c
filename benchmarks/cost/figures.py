"""The arithmetic of what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def percentile(ordered: Sequence[int], share: float) -> int:
    """The least of the sorted values that so great a share of them does not exceed (nearest rank).

    Raises:
        ValueError: There are no values.
    """
    if not ordered:
        raise ValueError("no values have no percentile")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, and their quartiles: half of them lie between the two."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        digits = 2 if self.median < 10 else 1  # noqa: PLR2004 - three digits tell enough
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def ratios(values: Sequence[float], to: Sequence[float]) -> Spread:
    """How many times the other's: of each round one ratio, of neighbours in time, so that noise hits both alike."""
    return Spread.of([one / other for one, other in zip(values, to, strict=True)])


@dataclass(frozen=True, slots=True)
class Turn:
    """What one variant did in one round."""

    requests: int
    rate: float
    """Requests a second."""

    p50_ms: float
    p99_ms: float
    cpu_us: float
    """The process's time of a processor for each request, that of its exporter threads included, in microseconds."""

    rss_mb: float
    """The process's resident memory at the end, in MB."""

    core: float
    """The share of the time in which the process had a processor: 1 at full load, less if something else took it."""

    load: float
    """The same of the other side; near 1 that one would be what is measured."""

    taken: float
    """The share of the time in which something that is no part of the run had one of the two cores."""


SHOWN = {"rate": "requests a second", "p50_ms": "p50", "p99_ms": "p99", "cpu_us": "CPU a request", "rss_mb": "memory"}
"""What is told as a ratio to the bare variant."""


TAKEN = 0.1
"""Beyond this share of a core a turn was disturbed."""

_FEWEST = 3


def quiet_rounds(turns: Mapping[str, Sequence[Turn]]) -> dict[str, list[Turn]]:
    """The rounds in which no variant's turn was disturbed; all of them if fewer than three were so quiet.

    A round goes whole, so that what is left still compares neighbours.
    """
    rounds = list(zip(*turns.values(), strict=True))
    quiet = [some for some in rounds if max(turn.taken for turn in some) <= TAKEN]
    kept = quiet if len(quiet) >= _FEWEST else rounds
    return {name: [some[index] for some in kept] for index, name in enumerate(turns)}


def compare(turns: Sequence[Turn], bare: Sequence[Turn]) -> dict[str, Spread]:
    """The ratios to the bare variant, by the names of `SHOWN`."""
    return {
        name: ratios([getattr(turn, name) for turn in turns], [getattr(turn, name) for turn in bare]) for name in SHOWN
    }


def medians(turns: Sequence[Turn]) -> dict[str, Any]:
    """The medians of all that was measured."""
    names = ("requests", *SHOWN, "core", "load", "taken")
    return {name: statistics.median(getattr(turn, name) for turn in turns) for name in names}
