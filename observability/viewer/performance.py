"""Rate, errors and durations of services and operations, as the pages show them.

Durations are nanoseconds, times microseconds since 1970. A service is measured by the requests and events that come to
it, or, if none do, by its own work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from observability.viewer.store.fields import KINDS
from observability.viewer.store.statistics import MINUTE_NS, Bucket, Minute, OperationStatistics, quantile_ns

MAX_POINTS = 60
"""Of one course over time; a longer time has longer steps."""

_INCOMING = frozenset({2, 5})  # server and consumer
_OUTGOING = frozenset({3, 4})  # client and producer
_RECENT_NS = 5 * MINUTE_NS
_SLOWER, _SLOWER_NS, _FEWEST_CALLS = 2, 5_000_000, 5
_LEAST_S = 10  # a minute that has only begun says nothing


def performance_json(
    operations: Sequence[OperationStatistics], start_ns: int, end_ns: int, *, service: str | None
) -> dict[str, Any]:
    """All services within a time and, if one is named, its operations.

    Args:
        operations: All that were within the time.
        start_ns: Where the time begins.
        end_ns: Where it ends.
        service: Whose operations are told one by one.
    """
    first_ns = min((one.minutes[0].start_ns for one in operations if one.minutes), default=start_ns)
    start_ns = max(start_ns - start_ns % MINUTE_NS, first_ns)
    by_service: dict[str, list[OperationStatistics]] = {}
    for one in operations:
        by_service.setdefault(one.service, []).append(one)
    measured = {name: _measured(found) for name, found in by_service.items()}
    return {
        "start": start_ns // 1000,
        "end": end_ns // 1000,
        "seconds": max(1.0, (end_ns - start_ns) / 1e9),
        "services": [{"name": name, **_figures(found, start_ns, end_ns)} for name, found in sorted(measured.items())],
        "slower": _slower([one for found in measured.values() for one in found], end_ns),
        "operations": [
            {
                "name": one.operation,
                "kind": KINDS.get(one.kind, ""),
                **_figures([one], start_ns, end_ns),
                "durations": [_bucket_json(bucket) for bucket in one.durations],
            }
            for one in sorted(by_service.get(service or "", ()), key=_incoming_first)
        ],
    }


def _measured(operations: list[OperationStatistics]) -> list[OperationStatistics]:
    return (
        [one for one in operations if one.kind in _INCOMING]
        or [one for one in operations if one.kind not in _OUTGOING]
        or operations
    )


def _incoming_first(operation: OperationStatistics) -> tuple[bool, int, str]:
    return operation.kind not in _INCOMING, -operation.calls, operation.operation


def _figures(operations: Sequence[OperationStatistics], start_ns: int, end_ns: int) -> dict[str, Any]:
    return {
        "calls": sum(one.calls for one in operations),
        "errors": sum(one.errors for one in operations),
        **_quantiles(_together(one.durations for one in operations)),
        "course": _course([minute for one in operations for minute in one.minutes], start_ns, end_ns),
    }


def _course(minutes: Sequence[Minute], start_ns: int, end_ns: int) -> list[dict[str, Any]]:
    """Equal steps from start to end; where nothing happened, there are no durations."""
    whole = -(-(end_ns - start_ns) // MINUTE_NS)
    step_ns = MINUTE_NS * max(1, -(-whole // MAX_POINTS))
    steps: list[list[Minute]] = [[] for _ in range(0, max(end_ns - start_ns, 1), step_ns)]
    for minute in minutes:
        number = (minute.start_ns - start_ns) // step_ns
        if 0 <= number < len(steps):
            steps[number].append(minute)
    course = []
    for number, found in enumerate(steps):
        begin_ns = start_ns + number * step_ns
        seconds = (min(begin_ns + step_ns, end_ns) - begin_ns) / 1e9
        if number and seconds < _LEAST_S:
            continue
        p95 = quantile_ns(_together(minute.durations for minute in found), 0.95) if found else None
        course.append(
            {
                "start": begin_ns // 1000,
                "seconds": max(1.0, seconds),
                "calls": sum(minute.calls for minute in found),
                "errors": sum(minute.errors for minute in found),
                "p95": p95,
            }
        )
    return course


def _slower(operations: Iterable[OperationStatistics], end_ns: int) -> list[dict[str, Any]]:
    """Operations that lately took much longer than before, the worst first."""
    found = []
    for one in operations:
        lately = [minute for minute in one.minutes if minute.start_ns > end_ns - _RECENT_NS]
        earlier = one.minutes[: len(one.minutes) - len(lately)]
        if min(sum(minute.calls for minute in part) for part in (lately, earlier)) < _FEWEST_CALLS:
            continue
        durations = _together(minute.durations for minute in lately)
        after = quantile_ns(durations, 0.95)
        before = quantile_ns(_together(minute.durations for minute in earlier), 0.95)
        if after >= _SLOWER * before and after - before >= _SLOWER_NS:
            found.append(
                {
                    "service": one.service,
                    "operation": one.operation,
                    "before": before,
                    "now": after,
                    "traceID": durations[-1].example.hex(),
                }
            )
    return sorted(found, key=lambda one: one["before"] / one["now"])


def _quantiles(durations: Sequence[Bucket]) -> dict[str, float | None]:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: quantile_ns(durations, share) if durations else None for name, share in shares.items()}


def _together(many: Iterable[Sequence[Bucket]]) -> list[Bucket]:
    """The buckets of several histograms as one, by their bounds."""
    found: dict[int, Bucket] = {}
    for durations in many:
        for bucket in durations:
            known = found.get(bucket.from_ns)
            calls = bucket.calls + (known.calls if known else 0)
            found[bucket.from_ns] = Bucket(bucket.from_ns, bucket.to_ns, calls, bucket.example)
    return [found[bound] for bound in sorted(found)]


def _bucket_json(bucket: Bucket) -> dict[str, Any]:
    return {"from": bucket.from_ns, "to": bucket.to_ns, "calls": bucket.calls, "traceID": bucket.example.hex()}
