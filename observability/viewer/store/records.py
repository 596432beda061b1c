"""A span or a log record as a query looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from observability.viewer.query import Comparison, Query, Value, as_text
from observability.viewer.store.attributes import decode
from observability.viewer.store.fields import (
    ERROR,
    KINDS,
    MAX_NAME,
    SEVERITIES,
    STATUSES,
    attribute_values,
    plain_value,
    service_name,
)
from observability.viewer.store.wire import WireLog, WireSpan, parse_log, parse_span

_MAX_REMEMBERED = 20_000
_MAX_NS = 2**63 - 1
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8


class Record:
    """What a query is asked of.

    A key means a field of the record, or else an attribute, or else one of its resource. Of an attribute that is there
    twice the last one counts.
    """

    __slots__ = ("_attributes", "_fields", "_resource", "_texts")

    def __init__(
        self,
        fields: Mapping[str, Value | None],
        attributes: Mapping[str, Value],
        resource: Mapping[str, Value],
        texts: Iterable[str],
    ) -> None:
        self._fields = fields
        self._attributes = attributes
        self._resource = resource
        self._texts = texts

    def value(self, key: str) -> Value | None:
        """The value of a field or an attribute; None if it has none."""
        if key in self._fields:
            return self._fields[key]
        if key in self._attributes:
            return self._attributes[key]
        return self._resource.get(key)

    def meets(self, query: Query) -> bool:
        """Whether it meets every condition."""
        for condition in query:
            if isinstance(condition, Comparison):
                if not condition.holds(self.value(condition.key)):
                    return False
            elif not condition.holds(*self._texts, *map(as_text, self._attributes.values())):
                return False
        return True


class Reader:
    """Decodes records; attributes come again and again in the same bytes, so it remembers them. For one search."""

    def __init__(self) -> None:
        self._attributes: dict[bytes, tuple[str, Value]] = {}
        self._resources: dict[bytes, tuple[str, dict[str, Value]]] = {}

    def span(self, encoded: bytes, resource: bytes) -> Record:
        """A span as a query looks at it."""
        span = parse_span(encoded)
        service, of_resource = self._resource(resource)
        start_ns, end_ns = min(span.start_time_unix_nano, _MAX_NS), min(span.end_time_unix_nano, _MAX_NS)
        code = span.status.code
        fields: dict[str, Value | None] = {
            "service": service,
            "operation": span.name[:MAX_NAME],
            "kind": KINDS.get(span.kind),
            "status": STATUSES.get(code, STATUSES[0]),
            "error": code == ERROR,
            "duration": max(0, end_ns - start_ns),
            "trace": span.trace_id.hex(),
            "span": span.span_id.hex(),
        }
        return Record(fields, self._values(span.attributes), of_resource, _SpanTexts(service, span))

    def log(self, encoded: bytes, resource: bytes) -> Record:
        """A log record as a query looks at it."""
        record = parse_log(encoded)
        service, of_resource = self._resource(resource)
        message = as_text(plain_value(record.body))
        severity = severity_of(record)
        fields: dict[str, Value | None] = {
            "service": service,
            "severity": severity,
            "error": severity in ("ERROR", "FATAL"),
            "message": message,
            "trace": record.trace_id.hex() if is_id(record.trace_id, _TRACE_ID_BYTES) else None,
            "span": record.span_id.hex() if is_id(record.span_id, _SPAN_ID_BYTES) else None,
        }
        texts = (service, message, record.event_name)
        return Record(fields, self._values(record.attributes), of_resource, texts)

    def service(self, resource: bytes) -> str:
        """The service of an encoded resource."""
        return self._resource(resource)[0]

    def _values(self, attributes: Iterable[bytes]) -> dict[str, Value]:
        remembered, values = self._attributes, dict[str, Value]()
        for encoded in attributes:
            pair = remembered.get(encoded)
            if pair is None:
                if len(remembered) >= _MAX_REMEMBERED:
                    remembered.clear()
                pair = remembered[encoded] = decode(encoded)
            values[pair[0]] = pair[1]
        return values

    def _resource(self, encoded: bytes) -> tuple[str, dict[str, Value]]:
        known = self._resources.get(encoded)
        if known is None:
            if len(self._resources) >= _MAX_REMEMBERED // 100:
                self._resources.clear()
            resource = Resource.FromString(encoded)
            known = self._resources[encoded] = (service_name(resource), attribute_values(resource.attributes))
        return known


class _SpanTexts:
    """Made only when text is looked for."""

    __slots__ = ("_service", "_span")

    def __init__(self, service: str, span: WireSpan) -> None:
        self._service = service
        self._span = span

    def __iter__(self) -> Iterator[str]:
        span = self._span
        yield self._service
        yield span.name
        yield span.status.message
        for event in span.events:
            yield event.name
            yield from _texts(event.attributes)


def severity_of(record: WireLog) -> str:
    """The name of a record's level by its number or, if that is missing, as it was sent."""
    if 1 <= record.severity_number <= 4 * len(SEVERITIES):
        return SEVERITIES[(record.severity_number - 1) // 4]
    return record.severity_text[:MAX_NAME].upper()


def is_id(value: bytes, length: int) -> bool:
    """Whether it is an id of so many bytes, which are not all 0."""
    return len(value) == length and any(value)


def _texts(attributes: Iterable[KeyValue]) -> Iterator[str]:
    for attribute in attributes:
        yield as_text(plain_value(attribute.value))
