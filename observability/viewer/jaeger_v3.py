"""Jaeger's query API in its third version, whose traces are OTLP JSON.

https://github.com/jaegertracing/jaeger, cmd/jaeger/internal/extension/jaegerquery/internal/apiv3: names of parameters
are camelCase, or as they were before. Unlike Jaeger, a search need not name a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from observability.viewer.api import Handler, Threaded
from observability.viewer.search import BadParameterError, parse_trace_id, search
from observability.viewer.store import Store
from observability.viewer.store.fields import KINDS
from observability.viewer.store.stored import StoredSpan
from observability.viewer.telemetry_json import telemetry_json

# Their names here and in version 2.
_SAME = {
    "serviceName": "service",
    "operationName": "operation",
    "durationMin": "minDuration",
    "durationMax": "maxDuration",
    "attributes": "tags",
    "searchDepth": "limit",
}
_TIMES = {"startTimeMin": "start", "startTimeMax": "end"}
_BEFORE = {
    "serviceName": ["service_name"],
    "operationName": ["operation_name"],
    "durationMin": ["duration_min"],
    "durationMax": ["duration_max"],
    "searchDepth": ["search_depth", "num_traces"],
    "startTimeMin": ["start_time_min"],
    "startTimeMax": ["start_time_max"],
}


def jaeger_v3_routes(store: Store, *, threaded: Threaded) -> list[Route]:
    """The routes of version 3 of Jaeger's API.

    Args:
        store: Is only read.
        threaded: Makes a handler, which may block, one that does not.
    """

    def services(_request: Request) -> Response:
        return JSONResponse({"services": store.services()})

    def operations(request: Request) -> Response:
        query = request.query_params
        wanted = query.get("spanKind") or query.get("span_kind")
        found = [(name, KINDS.get(kind, "internal")) for name, kind in store.operations(query.get("service", ""))]
        rows = [{"name": name, "spanKind": kind} for name, kind in found if wanted in (None, kind)]
        return JSONResponse({"operations": rows})

    def traces(request: Request) -> Response:
        return _result(search(store, _version_2(request.query_params)))

    def trace(request: Request) -> Response:
        return _result([store.trace(parse_trace_id(request.path_params["trace_id"]))])

    handlers = {"services": services, "operations": operations, "traces": traces, "traces/{trace_id}": trace}
    return [Route(f"/api/v3/{path}", threaded(_told(handler))) for path, handler in handlers.items()]


def _told(handler: Handler) -> Handler:
    """What is malformed is told in this version's shape of an error."""

    def handle(request: Request) -> Response:
        try:
            return handler(request)
        except BadParameterError as error:
            return _failure(400, str(error))

    return handle


def _result(traces: Iterable[Sequence[StoredSpan]]) -> Response:
    spans = [span for trace in traces for span in trace]
    if not spans:
        return _failure(404, "No traces found")
    return JSONResponse({"result": {"resourceSpans": telemetry_json(spans, [])["resourceSpans"]}})


def _failure(status: int, message: str) -> Response:
    return JSONResponse({"error": {"httpCode": status, "message": message}}, status)


def _version_2(query: QueryParams) -> QueryParams:
    """The parameters of a search as they are in version 2."""
    found = {two: value for three, two in _SAME.items() if (value := _value(query, three))}
    for three, two in _TIMES.items():
        if text := _value(query, three):
            found[two] = str(_microseconds(three, text))
    return QueryParams(found)


def _value(query: QueryParams, name: str) -> str:
    names = [name, *_BEFORE.get(name, ())]
    return next((value for one in names if (value := query.get(f"query.{one}"))), "")


def _microseconds(name: str, text: str) -> int:
    try:
        # Grafana sends the plus of a zone as it is, which in a query stands for a space.
        time = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise BadParameterError(f"query.{name} must be a time such as 2026-01-31T12:00:00Z")
    return max(0, round(time.timestamp() * 1_000_000))
