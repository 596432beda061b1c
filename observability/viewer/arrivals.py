"""What has come to the viewer since it began, and what it refused and why: for whoever misses something."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

MAX_REASONS = 50
"""How many reasons are told; of more, those go that were not heard for the longest time."""

_Response: TypeAlias = ExportTraceServiceResponse | ExportLogsServiceResponse | ExportMetricsServiceResponse
_RESPONSES: dict[str, type[_Response]] = {
    "traces": ExportTraceServiceResponse,
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
}
_COUNTED = re.compile(r"([0-9]+) (.+)")


def _now() -> int:
    return time.time_ns() // 1000


@dataclass(slots=True)
class _Signal:
    requests: int = 0
    bytes: int = 0
    refused: int = 0
    """Requests of which nothing was taken."""
    last: int | None = None
    """When one was taken, in microseconds since 1970."""


@dataclass(slots=True)
class _Refusal:
    signal: str
    reason: str
    what: str
    """What is counted: requests, or records of requests that were taken otherwise."""
    count: int = 0
    last: int = 0


@dataclass(slots=True)
class Arrivals:
    """Counts of one process; its methods may be called from any thread.

    A signal is `traces`, `logs` or `metrics`.
    """

    _since: int = field(default_factory=_now)
    _signals: dict[str, _Signal] = field(default_factory=lambda: {signal: _Signal() for signal in _RESPONSES})
    _refusals: dict[tuple[str, str, str], _Refusal] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, signal: str, size: int, response: bytes) -> None:
        """A request of so many bytes was answered with this encoded response."""
        with self._lock:
            counts = self._signals[signal]
            counts.requests += 1
            counts.bytes += size
            counts.last = _now()
            for part in _RESPONSES[signal].FromString(response).partial_success.error_message.split(", "):
                if match := _COUNTED.fullmatch(part):
                    self._refuse(signal, match[2], "records", int(match[1]))

    def refused(self, signal: str, reason: str) -> None:
        """A request was refused as a whole."""
        with self._lock:
            self._signals[signal].refused += 1
            self._refuse(signal, reason, "requests", 1)

    def told(self) -> dict[str, Any]:
        """All counts, for JSON; times are microseconds since 1970."""
        with self._lock:
            return {
                "since": self._since,
                "signals": [{"signal": signal, **asdict(counts)} for signal, counts in self._signals.items()],
                "refusals": [asdict(refusal) for refusal in self._refusals.values()][::-1],
            }

    def _refuse(self, signal: str, reason: str, what: str, count: int) -> None:
        key = (signal, reason, what)
        refusal = self._refusals.pop(key, None) or _Refusal(*key)
        refusal.count += count
        refusal.last = _now()
        self._refusals[key] = refusal  # at the end: the order is that of the last time
        if len(self._refusals) > MAX_REASONS:
            del self._refusals[next(iter(self._refusals))]
