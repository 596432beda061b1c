from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from observability.viewer.performance import MAX_POINTS, performance_json
from observability.viewer.store.statistics import MINUTE_NS, Bucket, Minute, OperationStatistics
from tests.observability.viewer.samples import trace_id

START_NS = 1_000_000 * MINUTE_NS
SERVER, CLIENT, INTERNAL = 2, 3, 1


def _bucket(duration_ms: int, calls: int, trace: int = 1) -> Bucket:
    return Bucket(duration_ms * 10**6, (duration_ms + 1) * 10**6, calls, trace_id(trace))


def _operation(
    service: str, minutes: Sequence[tuple[int, int, int, int]], *, name: str = "GET /", kind: int = SERVER
) -> OperationStatistics:
    """Of minutes as (number, calls, errors, milliseconds)."""
    told = [
        Minute(START_NS + number * MINUTE_NS, calls, errors, [_bucket(duration_ms, calls, number + 1)])
        for number, calls, errors, duration_ms in minutes
    ]
    together: dict[int, Bucket] = {}
    for minute in told:
        for bucket in minute.durations:
            calls = bucket.calls + (together[bucket.from_ns].calls if bucket.from_ns in together else 0)
            together[bucket.from_ns] = Bucket(bucket.from_ns, bucket.to_ns, calls, bucket.example)
    return OperationStatistics(
        service,
        name,
        kind,
        sum(minute.calls for minute in told),
        sum(minute.errors for minute in told),
        [together[bound] for bound in sorted(together)],
        told,
    )


def _told(operations: list[OperationStatistics], minutes: float, *, service: str | None = None) -> Any:
    return performance_json(operations, START_NS, START_NS + int(minutes * MINUTE_NS), service=service)


def test_what_measures_a_service() -> None:
    """A service is measured by what comes to it, not by its calls; one that only starts work by that work."""
    told = _told(
        [
            _operation("orders", [(0, 4, 1, 20)]),
            _operation("orders", [(0, 40, 0, 5)], name="PUT", kind=CLIENT),
            _operation("cron", [(0, 2, 0, 9)], name="tidy", kind=INTERNAL),
            _operation("cron", [(0, 7, 0, 1)], name="GET", kind=CLIENT),
            _operation("script", [(0, 3, 0, 1)], name="GET", kind=CLIENT),
        ],
        1,
    )
    assert [(one["name"], one["calls"], one["errors"]) for one in told["services"]] == [
        ("cron", 2, 0),
        ("orders", 4, 1),
        ("script", 3, 0),
    ]
    assert told["operations"] == []


def test_operations() -> None:
    """The operations of a service, what comes to it first, then the busiest; with a trace for each duration."""
    told = _told(
        [
            _operation("orders", [(0, 1, 0, 2)]),
            _operation("orders", [(0, 3, 0, 4)], name="POST /"),
            _operation("orders", [(0, 9, 0, 4)], name="PUT", kind=CLIENT),
        ],
        1,
        service="orders",
    )
    assert [(one["name"], one["kind"]) for one in told["operations"]] == [
        ("POST /", "server"),
        ("GET /", "server"),
        ("PUT", "client"),
    ]
    assert told["operations"][0]["durations"] == [
        {"from": 4_000_000, "to": 5_000_000, "calls": 3, "traceID": trace_id(1).hex()}
    ]
    assert told["operations"][0]["p50"] == 4_500_000


def test_course() -> None:
    """A course has a step for each minute, also for those in which nothing happened; one that only began has none."""
    told = _told([_operation("orders", [(0, 6, 0, 2), (2, 3, 1, 2)])], 3.1)
    course = told["services"][0]["course"]
    assert [(step["calls"], step["errors"], step["p95"] is None) for step in course] == [
        (6, 0, False),
        (0, 0, True),
        (3, 1, False),
    ]
    assert [step["seconds"] for step in course] == [60, 60, 60]


def test_long_course() -> None:
    """Over a long time the steps are longer, and lose nothing."""
    told = _told([_operation("orders", [(number, 1, 0, 2) for number in range(1440)])], 1440)
    course = told["services"][0]["course"]
    assert (len(course), sum(step["calls"] for step in course)) == (MAX_POINTS, 1440)


def test_rate_counts_from_the_first_call() -> None:
    """Time before anything was known is not time without calls."""
    told = _told([_operation("orders", [(14, 60, 0, 2)])], 15)
    assert told["seconds"] == 60


def test_nothing() -> None:
    """Where nothing happened there is nothing to tell."""
    told = _told([], 15)
    assert (told["services"], told["slower"], told["operations"], told["seconds"]) == ([], [], [], 900)


@pytest.mark.parametrize(
    ("minutes", "slower"),
    [
        ([(0, 50, 0, 10), (14, 5, 0, 40)], True),
        ([(0, 50, 0, 10), (14, 5, 0, 11)], False),  # hardly
        ([(0, 50, 0, 10), (14, 4, 0, 40)], False),  # too few to say
        ([(0, 4, 0, 10), (14, 50, 0, 40)], False),  # too few before
        ([(14, 50, 0, 40)], False),  # new
    ],
)
def test_slower(minutes: list[tuple[int, int, int, int]], slower: bool) -> None:
    """An operation that lately takes much longer than before is told, with a trace that took long."""
    told = _told([_operation("orders", minutes)], 15)["slower"]
    assert [(one["operation"], one["traceID"]) for one in told] == [("GET /", trace_id(15).hex())] * slower
