"""The search of Jaeger's query API: its parameters, and the traces that they ask for.

https://github.com/jaegertracing/jaeger, internal/storage and cmd/jaeger: the parameters are those of its page. Unlike
Jaeger, a search need not name a service.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import QueryParams

from observability.viewer.jaeger import span_tags
from observability.viewer.query import UNITS_NS, Comparison, Query, equals
from observability.viewer.store import Store
from observability.viewer.store.stored import StoredSpan

DEFAULT_LIMIT, MAX_LIMIT = 100, 1500
MAX_SPANS = 100_000
MAX_BYTES = 16 * 1024 * 1024
"""Of the spans of one answer as they are stored; in memory it takes about twenty times as much."""


class BadParameterError(Exception):
    """A parameter is malformed; the message says which, and what is expected."""


@dataclass(frozen=True, slots=True)
class _Filter:
    """What one span of a trace must meet, all of it, beyond what the store can look up."""

    service: str | None
    operation: str | None
    shortest_ns: int | None
    longest_ns: int | None
    tags: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.tags) or self.shortest_ns is not None or self.longest_ns is not None

    def query(self) -> Query:
        """What the store can look up."""
        conditions: list[Comparison] = []
        if self.service is not None:
            conditions.append(equals("service", self.service))
        if self.operation is not None:
            conditions.append(equals("operation", self.operation))
        if self.shortest_ns is not None:
            conditions.append(Comparison("duration", ">=", (str(self.shortest_ns),), self.shortest_ns))
        if self.longest_ns is not None:
            conditions.append(Comparison("duration", "<=", (str(self.longest_ns),), self.longest_ns))
        return tuple(conditions)

    def matches(self, span: StoredSpan) -> bool:
        duration = span.end_ns - span.start_ns
        return (
            self.service in (None, span.service)
            and self.operation in (None, span.name)
            and (self.shortest_ns is None or duration >= self.shortest_ns)
            and (self.longest_ns is None or duration <= self.longest_ns)
            and (not self.tags or self.tags.items() <= _texts(span).items())
        )


def search(store: Store, query: QueryParams) -> list[list[StoredSpan]]:
    """The spans of the traces that a query asks for, newest trace first, as many as fit into one answer.

    Raises:
        BadParameterError: A parameter is malformed.
    """
    found: list[list[StoredSpan]] = []
    room, room_bytes = MAX_SPANS, MAX_BYTES
    wanted, limit, trace_ids = _candidates(store, query)
    for trace_id in trace_ids:
        spans = store.trace(trace_id)
        if not spans or (wanted and not any(map(wanted.matches, spans))):
            continue
        room -= len(spans)
        room_bytes -= sum(span.size for span in spans)
        if found and (room < 0 or room_bytes < 0):
            break
        found.append(spans)
        if len(found) == limit:
            break
    return found


def parse_trace_id(text: str) -> bytes:
    """A trace's id from up to 32 hexadecimal digits.

    Raises:
        BadParameterError: It is something else.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{1,32}", text):
        raise BadParameterError("a trace id has up to 32 hexadecimal digits")
    return bytes.fromhex(text.zfill(32))


def parse_limit(query: QueryParams) -> int:
    """How many traces are asked for.

    Raises:
        BadParameterError: It is no number, or beyond `MAX_LIMIT`.
    """
    limit = parse_integer(query, "limit")
    if limit is None:
        return DEFAULT_LIMIT
    if not 1 <= limit <= MAX_LIMIT:
        raise BadParameterError(f"limit must be between 1 and {MAX_LIMIT}")
    return limit


def parse_integer(query: QueryParams, name: str) -> int | None:
    """A whole number; None if it is not given.

    Raises:
        BadParameterError: It is something else.
    """
    text = query.get(name)
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadParameterError(f"{name} must be a whole number")
    return int(text)


def parse_time_ns(query: QueryParams, name: str) -> int | None:
    """A time in microseconds since 1970, as nanoseconds; None if it is not given.

    Raises:
        BadParameterError: It is something else.
    """
    time_us = parse_integer(query, name)
    return None if time_us is None else min(time_us, 2**53) * 1000


def _candidates(store: Store, query: QueryParams) -> tuple[_Filter, int, list[bytes]]:
    wanted = _Filter(
        query.get("service") or None,
        query.get("operation") or None,
        _duration(query, "minDuration"),
        _duration(query, "maxDuration"),
        _tags(query),
    )
    limit = parse_limit(query)
    start_ns, end_ns = parse_time_ns(query, "start"), parse_time_ns(query, "end")
    ids = [parse_trace_id(text) for text in query.getlist("traceID")]
    if ids:
        return wanted, limit, ids[:MAX_LIMIT]
    return (
        wanted,
        limit,
        [
            trace.trace_id
            for trace in store.find(
                wanted.query(),
                start_ns=start_ns,
                end_ns=end_ns,
                limit=MAX_LIMIT if wanted.tags else limit,  # the tags are looked for among the newest
            ).traces
        ],
    )


def _texts(span: StoredSpan) -> dict[str, str]:
    """A span's tags as Jaeger compares them: as text."""
    return {
        tag["key"]: str(tag["value"]).lower() if isinstance(tag["value"], bool) else str(tag["value"])
        for tag in span_tags(span)
    }


def _duration(query: QueryParams, name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)", text)
    if match is None:
        raise BadParameterError(f"{name} must be a duration such as 1.2s, 100ms or 500us")
    return round(float(match[1]) * UNITS_NS[match[2]])


def _tags(query: QueryParams) -> dict[str, str]:
    tags: dict[str, str] = {}
    for text in query.getlist("tag"):
        key, colon, value = text.partition(":")
        if not colon:
            raise BadParameterError("tag must look like error:true")
        tags[key] = value
    for text in filter(None, query.getlist("tags")):
        tags |= _object(text)
    return tags


def _object(text: str) -> dict[str, str]:
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise BadParameterError('tags must be a JSON object of strings, such as {"error":"true"}')
    return found
