"""Where telemetry comes from: a resource and an instrumentation scope, encoded ahead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from observability.fastpath.attributes import plain
from observability.fastpath.destination import Signal
from observability.fastpath.wire import field, text, varint

MAX_ORIGINS: Final = 1024
"""Origins that are remembered; beyond them all are forgotten."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Encoded fields of ResourceSpans and ScopeSpans, or of ResourceLogs and ScopeLogs, which are the same.

    Attributes:
        resource: The field `resource`.
        resource_schema: The field `schema_url` beside it.
        scope: The field `scope`.
        scope_schema: The field `schema_url` beside it.
    """

    resource: bytes
    resource_schema: bytes
    scope: bytes
    scope_schema: bytes


class Origins:
    """Finds the origin of a span or a log record. Threads may share it."""

    def __init__(self) -> None:
        # The objects are held too, so that an id stays theirs.
        self._known: dict[tuple[int, int], tuple[Resource, InstrumentationScope | None, Origin]] = {}

    def of(self, resource: Resource, scope: InstrumentationScope | None) -> Origin:
        """The origin, which is encoded when it is met first."""
        key = id(resource), id(scope)
        known = self._known.get(key)
        if known is not None:
            return known[2]
        origin = _encode(resource, scope)
        if len(self._known) >= MAX_ORIGINS:
            self._known.clear()
        self._known[key] = resource, scope, origin
        return origin


def request(items: Iterable[tuple[Origin, bytes]]) -> bytes:
    """An export request of OTLP, for spans or for log records, from those that are encoded."""
    resources: dict[tuple[bytes, bytes], dict[tuple[bytes, bytes], list[bytes]]] = {}
    last = None
    for origin, body in items:
        if origin is not last:  # most come from where the one before came from
            last = origin
            scopes = resources.setdefault((origin.resource, origin.resource_schema), {})
            add = scopes.setdefault((origin.scope, origin.scope_schema), []).append
        add(b"\x12" + varint(len(body)))
        add(body)
    return b"".join(
        field(
            b"\x0a",
            b"".join(
                [
                    resource,
                    *(
                        field(b"\x12", b"".join([scope, *bodies, scope_schema]))
                        for (scope, scope_schema), bodies in scopes.items()
                    ),
                    resource_schema,
                ]
            ),
        )
        for (resource, resource_schema), scopes in resources.items()
    )


def halves(signal: Signal, body: bytes) -> list[tuple[bytes, int]]:
    """Two requests in the place of one of several items, and the number of items in each."""
    kind = ExportTraceServiceRequest if signal is Signal.TRACES else ExportLogsServiceRequest
    first, second = kind.FromString(body), kind.FromString(body)
    first_items, second_items = _items(first), _items(second)
    number = sum(map(len, first_items))
    left = middle = number // 2
    for early, late in zip(first_items, second_items, strict=True):
        kept = min(left, len(early))
        del early[kept:], late[:kept]
        left -= kept
    return [(first.SerializeToString(), middle), (second.SerializeToString(), number - middle)]


def _items(request: ExportTraceServiceRequest | ExportLogsServiceRequest) -> list[Any]:
    """The lists of items, which may be changed."""
    if isinstance(request, ExportTraceServiceRequest):
        return [scope.spans for resource in request.resource_spans for scope in resource.scope_spans]
    return [scope.log_records for resource in request.resource_logs for scope in resource.scope_logs]


def _encode(resource: Resource, scope: InstrumentationScope | None) -> Origin:
    named = b""
    if scope is not None:
        named = field(b"\x0a", text(scope.name)) + field(b"\x12", text(scope.version or ""))
        named += plain(scope.attributes or {}, b"\x1a")
    return Origin(
        resource=field(b"\x0a", plain(resource.attributes, b"\x0a")),
        resource_schema=field(b"\x1a", text(resource.schema_url)),
        scope=field(b"\x0a", named),
        scope_schema=field(b"\x1a", text((scope.schema_url if scope is not None else None) or "")),
    )
