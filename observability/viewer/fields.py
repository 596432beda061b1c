"""What a span or a log record is searched by: its fields, its attributes, and the texts in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.query import Comparison, Query, Value, as_text
from observability.viewer.stored import StoredLog, StoredSpan

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
STATUSES = {0: "unset", 1: "ok", 2: "error"}
SEVERITIES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")

_MAX_DEPTH = 16
_MAX_NAME = 256


class Searched:
    """One span or log record, as a query looks at it.

    A key means a field of its own, or else an attribute, or else one of its resource. Of an attribute that is there
    twice the last one counts.
    """

    def __init__(
        self,
        fields: dict[str, Value | None],
        attributes: Iterable[KeyValue],
        resource: bytes,
        texts: Callable[[], Iterator[str]],
    ) -> None:
        self._fields = fields
        self._attributes = attributes
        self._resource = resource
        self._texts = texts

    def value(self, key: str) -> Value | None:
        """The value of a field or an attribute; None if it has none."""
        if key in self._fields:
            return self._fields[key]
        found = None
        for attribute in self._attributes:
            if attribute.key == key:
                found = attribute
        if found is None:
            for attribute in Resource.FromString(self._resource).attributes:
                if attribute.key == key:
                    found = attribute
        return None if found is None else plain_value(found.value)

    def meets(self, query: Query) -> bool:
        """Whether it meets every condition."""
        return all(
            condition.holds(self.value(condition.key))
            if isinstance(condition, Comparison)
            else condition.holds(*self._texts())
            for condition in query
        )


def searched_span(stored: StoredSpan) -> Searched:
    """A span as a query looks at it."""
    span = Span.FromString(stored.span)

    def texts() -> Iterator[str]:
        yield stored.service
        yield span.name
        yield span.status.message
        yield from _texts(span.attributes)
        for event in span.events:
            yield event.name
            yield from _texts(event.attributes)

    fields: dict[str, Value | None] = {
        "service": stored.service,
        "operation": stored.name,
        "kind": KINDS.get(stored.kind),
        "status": STATUSES.get(span.status.code, "unset"),
        "error": stored.error,
        "duration": max(0, stored.end_ns - stored.start_ns),
        "trace": stored.trace_id.hex(),
        "span": stored.span_id.hex(),
    }
    return Searched(fields, span.attributes, stored.resource, texts)


def searched_log(stored: StoredLog) -> Searched:
    """A log record as a query looks at it."""
    record = LogRecord.FromString(stored.record)
    severity = severity_of(record)
    message = as_text(plain_value(record.body) or "")

    def texts() -> Iterator[str]:
        yield stored.service
        yield message
        yield from _texts(record.attributes)

    fields: dict[str, Value | None] = {
        "service": stored.service,
        "severity": severity,
        "error": severity in ("ERROR", "FATAL"),
        "message": message,
        "trace": stored.trace_id.hex() or None,
        "span": stored.span_id.hex() or None,
    }
    return Searched(fields, record.attributes, stored.resource, texts)


def severity_of(record: LogRecord) -> str:
    """The name of a record's level by its number or, if that is missing, as it was sent; empty if neither is there."""
    if 1 <= record.severity_number <= 4 * len(SEVERITIES):
        return SEVERITIES[(record.severity_number - 1) // 4]
    text: str = record.severity_text[:_MAX_NAME].upper()
    return text


def service_name(resource: Resource) -> str:
    """The name of the service that a resource is of."""
    for attribute in resource.attributes:
        if attribute.key == "service.name" and attribute.value.string_value:
            name: str = attribute.value.string_value
            return name[:_MAX_NAME]
    return "unknown_service"


def attribute_values(attributes: Iterable[KeyValue]) -> dict[str, Value]:
    """Attributes by their keys, as they are compared."""
    return {attribute.key: plain_value(attribute.value) for attribute in attributes}


def plain_value(value: AnyValue) -> Value:
    """A value as it is compared: lists and maps as JSON, bytes in base64, and nothing as empty text."""
    match value.WhichOneof("value"):
        case "bool_value":
            return bool(value.bool_value)
        case "int_value":
            return int(value.int_value)
        case "double_value":
            return float(value.double_value)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "array_value" | "kvlist_value":
            return json.dumps(_nested(value, 0), ensure_ascii=False)
    return str(value.string_value)


def _nested(value: AnyValue, depth: int) -> Any:  # noqa: ANN401 - any JSON
    if depth > _MAX_DEPTH:
        return "…"
    match value.WhichOneof("value"):
        case "array_value":
            return [_nested(item, depth + 1) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: _nested(item.value, depth + 1) for item in value.kvlist_value.values}
        case "double_value":
            number = value.double_value
            return number if number - number == 0 else str(number)  # JSON has no infinity and no NaN
    return plain_value(value)


def _texts(attributes: Iterable[KeyValue]) -> Iterator[str]:
    for attribute in attributes:
        yield as_text(plain_value(attribute.value))
