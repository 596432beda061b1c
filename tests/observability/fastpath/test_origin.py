"""Requests of resources and scopes that were encoded ahead."""

from __future__ import annotations

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from observability.fastpath import origin as origin_module
from observability.fastpath.destination import Signal
from observability.fastpath.origin import Origins, halves, request


def test_encoded_once() -> None:
    """The same resource and scope have the same origin."""
    origins = Origins()
    resource, scope = Resource({"a": 1}), InstrumentationScope("s")
    assert origins.of(resource, scope) is origins.of(resource, scope)


def test_what_is_equal_is_one_group() -> None:
    """Equal resources and scopes are told once in a request, whichever objects they were, and the order stays."""
    origins = Origins()
    items = [
        (origins.of(Resource({"a": number % 2}), InstrumentationScope("s")), b"\x2a\x01" + bytes((97 + number,)))
        for number in range(4)
    ]
    decoded = ExportTraceServiceRequest.FromString(request(items))
    assert [[span.name for span in one.scope_spans[0].spans] for one in decoded.resource_spans] == [
        ["a", "c"],
        ["b", "d"],
    ]


def test_halves() -> None:
    """A request becomes two that have all of its items, in their order, each with its resource."""
    origins = Origins()
    items = [
        (origins.of(Resource({"a": number // 2}), InstrumentationScope("s")), b"\x2a\x01" + bytes((97 + number,)))
        for number in range(5)
    ]
    found = []
    for half, number in halves(Signal.TRACES, request(items)):
        resources = ExportTraceServiceRequest.FromString(half).resource_spans
        named = {
            span.name: one.resource.attributes[0].value.int_value
            for one in resources
            for scope in one.scope_spans
            for span in scope.spans
        }
        found.append((named, number))
    assert found == [({"a": 0, "b": 0}, 2), ({"c": 1, "d": 1, "e": 2}, 3)]


def test_bounded() -> None:
    """Many origins are not all remembered."""
    origins = Origins()
    for number in range(origin_module.MAX_ORIGINS + 5):
        origins.of(Resource({}), InstrumentationScope(str(number)))
    assert len(origins._known) <= origin_module.MAX_ORIGINS
