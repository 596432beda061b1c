"""Looking at traces and logs from a terminal: what a running viewer has, as text or as JSON.

Text from telemetry is a stranger's: characters that could forge a line or steer the terminal are written as escapes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx

from observability.jaeger import spans_of
from observability.log_lines import escape
from observability.tree import Log, Span, render

TIMEOUT_S = 10.0
FOLLOW_EVERY_S = 1.0
LATE_US = 30_000_000
"""How late a log record may arrive and still be followed."""

_MAX_LOGS = 1000
_SHOWN_ATTRIBUTES = ("http.response.status_code",)
_UNITS = ((10**9, "s"), (10**6, "ms"), (1000, "µs"), (1, "ns"))


class LookError(Exception):
    """The viewer did not tell what was asked for; the message says why."""


class Viewer:
    """A running viewer.

    Args:
        url: Where its pages are.
        token: What it asks for, if it listens beyond the loopback.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}

    def traces(self, query: str, *, limit: int) -> dict[str, Any]:
        """The newest traces that a query asks for; `complete` says whether all were looked at.

        Raises:
            LookError: The viewer is not there, or the query is malformed.
        """
        return self._ask("/api/find", {"q": query, "limit": str(limit)})

    def trace(self, trace_id: str) -> dict[str, Any]:
        """One trace with its logs.

        Raises:
            LookError: The viewer is not there, or has no such trace.
        """
        return self._ask(f"/api/recent/{trace_id}", {})

    def in_flight(self) -> list[dict[str, Any]]:
        """Requests that have not ended and take longer than usual, the longest first.

        Raises:
            LookError: The viewer is not there.
        """
        requests: list[dict[str, Any]] = self._ask("/api/in-flight", {})["requests"]
        return requests

    def logs(self, query: str, *, limit: int, start_us: int | None = None) -> dict[str, Any]:
        """The newest log records that a query asks for; `complete` says whether all were looked at.

        Raises:
            LookError: The viewer is not there, or the query is malformed.
        """
        with self._client() as client:
            return self._logs(client, query, limit=limit, start_us=start_us)

    def follow(self, query: str, *, limit: int) -> Iterator[dict[str, Any]]:
        """As `logs`, the oldest first, and then new ones for ever, as they arrive. Of a flood only the newest are told.

        Raises:
            LookError: The viewer is not there any more, or the query is malformed.
        """
        with self._client() as client:  # one for all, since making one takes longer than asking
            yield from self._follow(client, query, limit=limit)

    def page(self, trace_id: str) -> str:
        """Where a trace is shown."""
        return f"{self._url}/trace/{trace_id}"

    def _follow(self, client: httpx.Client, query: str, *, limit: int) -> Iterator[dict[str, Any]]:
        told: dict[str, int] = {}
        newest_us: int | None = None
        while True:
            since_us = None if newest_us is None else max(0, newest_us - LATE_US)
            found = self._logs(client, query, limit=limit if since_us is None else _MAX_LOGS, start_us=since_us)
            for log in reversed(found["logs"]):
                at_us = int(log["timeUnixNano"]) // 1000
                newest_us = max(newest_us or 0, at_us)
                key = json.dumps(log, sort_keys=True)
                if key not in told:
                    told[key] = at_us
                    yield log
            told = {key: at_us for key, at_us in told.items() if at_us >= (newest_us or 0) - LATE_US}
            newest_us = newest_us or 0
            time.sleep(FOLLOW_EVERY_S)

    def _client(self) -> httpx.Client:
        return httpx.Client(timeout=TIMEOUT_S, trust_env=False, headers=self._headers)

    def _logs(self, client: httpx.Client, query: str, *, limit: int, start_us: int | None) -> dict[str, Any]:
        asked = {"q": query, "limit": str(limit)} | ({} if start_us is None else {"start": str(start_us)})
        return self._ask_by(client, "/api/logs", asked)

    def _ask(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        with self._client() as client:
            return self._ask_by(client, path, query)

    def _ask_by(self, client: httpx.Client, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            answer = client.get(f"{self._url}{path}", params=query)
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                raise LookError(f"the viewer at {self._url} asks for its token: set CLEARSPAN_VIEWER_TOKEN to it")
            told = answer.json()
        except httpx.TransportError as error:
            raise LookError(
                f"no viewer answers at {self._url}; start one with `clearspan viewer`, or name it with --url"
            ) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise LookError(f"{self._url} is no viewer") from error
        if answer.is_success and isinstance(told, dict):
            return told
        try:
            raise LookError(escape(str(told["errors"][0]["msg"])))
        except (LookupError, TypeError) as error:
            raise LookError(f"{self._url} is no viewer") from error


def trace_line(trace: Mapping[str, Any]) -> str:
    """A trace of `Viewer.traces` in one line."""
    errors = trace["errors"]
    services = ", ".join(f"{escape(one['name'])} {one['spans']}" for one in trace["services"])
    return "  ".join(
        [
            trace["traceID"],
            _clock(trace["startTime"]),
            f"{duration(trace['durationNano']):>8}",
            f"{trace['status'] or '':>3}",
            escape(trace["name"]) or "(no name)",
            f"({services})",
            *([f"ERRORS {errors}"] if errors else []),
        ]
    )


def in_flight_line(request: Mapping[str, Any]) -> str:
    """A request of `Viewer.in_flight` in one line, as that of a trace."""
    inner = request["waitsFor"]
    return "  ".join(
        [
            request["traceID"],
            _clock(request["startTime"]),
            f"{duration(request['elapsedNano']):>8}",
            "   ",
            escape(request["name"]) or "(no name)",
            f"({escape(request['service'])})",
            _state(request),
            *([f"in {escape(inner['service'])} {escape(inner['name'])}"] if inner else []),
            *([f"to {escape(inner['peer'])}"] if inner and inner["peer"] else []),
        ]
    )


def log_line(log: Mapping[str, Any]) -> str:
    """A log record in one line."""
    parts = [_clock(int(log["timeUnixNano"]) // 1000), escape(log["severity"]), escape(log["service"]), _body(log)]
    if log["traceID"]:
        parts.append(f"trace={log['traceID']}")
    return " ".join(parts)


def trace_tree(trace: Mapping[str, Any]) -> str:
    """A trace of `Viewer.trace` as the pytest plugin draws it."""
    states = {int(one["spanID"], 16): _state(one) for one in trace["unfinished"]}
    spans = [_harmless(span, states.get(span.span_id)) for span in spans_of(trace)]
    logs = [
        Log(
            int(log["traceID"], 16),
            int(log["spanID"] or "0", 16),
            int(log["timeUnixNano"]),
            escape(log["severity"]),
            _body(log),
        )
        for log in trace["logs"]
    ]
    return render(spans, logs, attributes=_SHOWN_ATTRIBUTES)


def duration(ns: int) -> str:
    """Three significant digits and a unit, as on the pages."""
    for size, unit in _UNITS:
        # What rounds to 1000 of a unit is 1.00 of the next.
        if ns >= 0.9995 * size and size > 1:
            value = ns / size
            return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:#.3g} {unit}"  # noqa: PLR2004 - three digits
    return f"{ns} ns"


def _state(unfinished: Mapping[str, Any]) -> str:
    if unfinished["silentNano"]:
        return f"NOT ENDED, no word for {duration(unfinished['silentNano'])}"
    return f"RUNNING for {duration(unfinished['elapsedNano'])}"


def _harmless(span: Span, state: str | None) -> Span:
    return replace(
        span,
        service=escape(span.service),
        name=escape(span.name) + (f" {state}" if state else ""),
        kind=escape(span.kind),
        error=None if span.error is None else escape(span.error),
        attributes={name: escape(str(value)) for name, value in span.attributes.items()},
    )


def _body(log: Mapping[str, Any]) -> str:
    body = log["body"]
    return escape(body if isinstance(body, str) else json.dumps(body, ensure_ascii=False))


def _clock(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6).astimezone().strftime("%H:%M:%S.%f")[:-3]
