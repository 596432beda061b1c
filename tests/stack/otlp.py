"""Telemetry by hand, as a program without the kit might send it: OTLP/JSON over HTTP."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

_ERROR = 2


@dataclass
class Spans:
    """A trace of one service: a root and its children, all of one length.

    Attributes:
        service: `service.name`.
        count: How many spans it has, the root among them.
        seconds: How long each takes.
        attributes: Of the root.
        error: Whether the root is one.
        event: An event of the root, by name.
    """

    service: str
    count: int = 10
    seconds: float = 0.01
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    error: bool = False
    event: str | None = None
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))

    def resource_spans(self) -> dict[str, Any]:
        """As OTLP has it."""
        end = time.time_ns()
        start = end - int(self.seconds * 1e9)
        root = secrets.token_hex(8)
        common = {"traceId": self.trace_id, "startTimeUnixNano": str(start), "endTimeUnixNano": str(end)}
        spans: list[dict[str, Any]] = [
            {**common, "spanId": secrets.token_hex(8), "parentSpanId": root, "name": "step", "kind": 1}
            for _ in range(self.count - 1)
        ]
        first: dict[str, Any] = {**common, "spanId": root, "name": "GET /", "kind": 2}
        first["attributes"] = attributes(self.attributes)
        if self.error:
            first["status"] = {"code": _ERROR}
        if self.event is not None:
            first["events"] = [{"timeUnixNano": str(end), "name": self.event}]
        return {"resource": _resource(self.service), "scopeSpans": [{"scope": {}, "spans": [first, *spans]}]}


def attributes(values: Mapping[str, str | int]) -> list[dict[str, Any]]:
    """As OTLP has them."""
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in values.items()
    ]


def send_spans(url: str, traces: Sequence[Spans]) -> None:
    """Send whole traces to `url`, a hundred at a time."""
    with httpx.Client(trust_env=False, timeout=10) as client:
        for first in range(0, len(traces), 100):
            body = {"resourceSpans": [one.resource_spans() for one in traces[first : first + 100]]}
            _accepted(client.post(f"{url}/v1/traces", json=body))


def send_log(url: str, service: str, body: str, trace_id: str = "", **values: str) -> None:
    """Send one log record to `url`."""
    record = {
        "timeUnixNano": str(time.time_ns()),
        "traceId": trace_id,
        "body": {"stringValue": body},
        "attributes": attributes(values),
    }
    logs = {"resource": _resource(service), "scopeLogs": [{"scope": {}, "logRecords": [record]}]}
    _accepted(httpx.post(f"{url}/v1/logs", json={"resourceLogs": [logs]}, trust_env=False, timeout=10))


def _resource(service: str) -> dict[str, Any]:
    return {"attributes": attributes({"service.name": service})}


def _accepted(answer: httpx.Response) -> None:
    assert answer.status_code == 200, answer.text
    assert not answer.json().get("partialSuccess"), answer.text
