"""Which services have sent something lately, and which kinds of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from observability.viewer.store import Store
from observability.viewer.store.statistics import MINUTE_NS

_SPANS_NS = 60 * MINUTE_NS
_LOGS = 1000


def senders_json(store: Store, now_ns: int) -> list[dict[str, Any]]:
    """Each service with its spans of the last hour, its share of the newest log records, and its instruments.

    When its last span began is told to the minute, in microseconds since 1970.
    """
    spans: Counter[str] = Counter()
    last_ns: dict[str, int] = {}
    for one in store.operations_between(now_ns - _SPANS_NS, now_ns):
        spans[one.service] += one.calls
        last_ns[one.service] = max(last_ns.get(one.service, 0), *(minute.start_ns for minute in one.minutes))
    logs = Counter(log.service for log in store.find_logs((), limit=_LOGS).logs)
    instruments = Counter(one.service for one in store.instruments())
    return [
        {
            "name": name,
            "spans": spans[name],
            "lastSpan": last_ns[name] // 1000 if name in last_ns else None,
            "logs": logs[name],
            "instruments": instruments[name],
        }
        for name in sorted({*store.services(), *spans, *logs, *instruments})
    ]
