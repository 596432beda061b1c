"""Jaeger's query API, for its own page, for Grafana's data source and for whatever else reads Jaeger.

https://github.com/jaegertracing/jaeger, cmd/jaeger/internal/extension/jaegerquery: the routes are those of its page.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from observability.viewer.api import Threaded, failure
from observability.viewer.jaeger import log_json, trace_json
from observability.viewer.search import parse_integer, parse_trace_id, search
from observability.viewer.store import Store
from observability.viewer.store.fields import KINDS

_DAY_MS = 24 * 60 * 60 * 1000


def jaeger_routes(store: Store, *, threaded: Threaded) -> list[Route]:
    """The routes of Jaeger's API.

    Args:
        store: Is only read.
        threaded: Makes a handler, which may block, one that does not.
    """

    def services(_request: Request) -> Response:
        return _data(store.services())

    def operations_of_service(request: Request) -> Response:
        found = store.operations(request.path_params["service"])
        return _data(sorted({name for name, _ in found}))

    def operations(request: Request) -> Response:
        wanted = request.query_params.get("spanKind")
        found = store.operations(request.query_params.get("service", ""))
        rows = [{"name": name, "spanKind": KINDS.get(kind, "")} for name, kind in found]
        return _data([row for row in rows if wanted in (None, "", row["spanKind"])])

    def traces(request: Request) -> Response:
        return _data([trace_json(spans) for spans in search(store, request.query_params)])

    def trace(request: Request) -> Response:
        spans = store.trace(parse_trace_id(request.path_params["trace_id"]))
        return _data([trace_json(spans)]) if spans else failure(404, "trace not found")

    def logs(request: Request) -> Response:
        return _data([log_json(log) for log in store.logs(parse_trace_id(request.path_params["trace_id"]))])

    def dependencies(request: Request) -> Response:
        """Who called whom: `lookback` milliseconds before `endTs`, by default the day before now."""
        end_ms = parse_integer(request.query_params, "endTs") or int(time.time() * 1000)
        lookback_ms = parse_integer(request.query_params, "lookback") or _DAY_MS
        counts: dict[tuple[str, str], int] = {}
        for one in store.calls_between(max(0, end_ms - lookback_ms) * 10**6, min(end_ms, 2**43) * 10**6):
            counts[one.caller, one.callee] = counts.get((one.caller, one.callee), 0) + one.calls
        return _data(
            [{"parent": caller, "child": callee, "callCount": calls} for (caller, callee), calls in counts.items()]
        )

    handlers = {
        "services": services,
        "services/{service:path}/operations": operations_of_service,
        "operations": operations,
        "dependencies": dependencies,
        "traces": traces,
        "traces/{trace_id}": trace,
        "traces/{trace_id}/logs": logs,
    }
    return [Route(f"/api/{path}", threaded(handler)) for path, handler in handlers.items()]


def _data(data: list[Any]) -> Response:
    return JSONResponse({"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None})
