"""What the pages ask: JSON of our own under `/api/`. Times are microseconds since 1970, durations nanoseconds."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from observability.viewer.arrivals import Arrivals
from observability.viewer.distinction import Selection, distinction_json
from observability.viewer.failures import failures_json
from observability.viewer.in_flight import Usual, in_flight_json, unfinished_json
from observability.viewer.jaeger import log_json
from observability.viewer.measurements import instrument_json, series_json
from observability.viewer.performance import performance_json
from observability.viewer.query import FIELDS, Query, parse
from observability.viewer.recent import summary_json, whole_trace_json
from observability.viewer.search import BadParameterError, parse_integer, parse_limit, parse_time_ns, parse_trace_id
from observability.viewer.senders import senders_json
from observability.viewer.store import Store
from observability.viewer.store.stored import Found, FoundLogs, StoredSpan
from observability.viewer.store.unfinished import UnfinishedSpan
from observability.viewer.telemetry_json import link_end_json, link_json, telemetry_json
from observability.viewer.usual import usual_json

DEFAULT_SPAN_NS = 15 * 60 * 10**9
"""How far back statistics look if no start is given."""

MAX_SPAN_NS = 31 * 24 * 60 * 60 * 10**9
"""Of statistics, which are kept by the minute."""

_MAX_LOGS = 1000

Handler = Callable[[Request], Response]
Threaded = Callable[[Handler], Callable[[Request], Awaitable[Response]]]


def api_routes(store: Store, arrivals: Arrivals, *, otlp_url: str, threaded: Threaded) -> list[Route]:
    """The routes of the pages' API.

    Args:
        store: Is only read.
        arrivals: What the store's process has received.
        otlp_url: Where telemetry can be sent to; told to the reader while there is none.
        threaded: Makes a handler, which may block, one that does not.
    """
    usual = Usual(store)

    def find(request: Request) -> Response:
        found = store.find(_query(request), **_optional_times(request), limit=parse_limit(request.query_params))
        return JSONResponse({"traces": [summary_json(one) for one in found.traces], **_reach(found), "otlp": otlp_url})

    def logs(request: Request) -> Response:
        limit = min(_MAX_LOGS, parse_limit(request.query_params))
        found = store.find_logs(_query(request), **_optional_times(request), limit=limit)
        return JSONResponse({"logs": [log_json(one) for one in found.logs], **_reach(found), "otlp": otlp_url})

    def completion(request: Request) -> Response:
        key, prefix = (request.query_params.get(name, "") for name in ("key", "prefix"))
        if key:
            return JSONResponse({"completions": [{"text": value} for value in store.values(key, prefix)]})
        return JSONResponse({"completions": [_key_json(known) for known in store.keys(prefix)]})

    def statistics(request: Request) -> Response:
        start_ns, end_ns = _times(request)
        operations = store.operations_between(start_ns, end_ns)
        service = request.query_params.get("service")
        return JSONResponse(performance_json(operations, start_ns, end_ns, service=service))

    def calls(request: Request) -> Response:
        found = [
            {
                "caller": one.caller,
                "callee": one.callee,
                "messaging": one.messaging,
                "calls": one.calls,
                "errors": one.errors,
            }
            for one in store.calls_between(*_times(request))
        ]
        return JSONResponse({"calls": found})

    def errors(request: Request) -> Response:
        return JSONResponse(failures_json(store, *_times(request)))

    def instruments(_request: Request) -> Response:
        return JSONResponse({"instruments": [instrument_json(one) for one in store.instruments()], "otlp": otlp_url})

    def points(request: Request) -> Response:
        service, name = (request.query_params.get(one, "") for one in ("service", "name"))
        return JSONResponse({"series": [series_json(one) for one in store.points(service, name, *_times(request))]})

    def all_of(trace_id: bytes) -> tuple[list[StoredSpan], list[UnfinishedSpan]]:
        unfinished = store.unfinished.spans(trace_id)  # first, so that none is missing that comes meanwhile
        spans = store.trace(trace_id)
        came = {span.span_id for span in spans}
        unfinished = [one for one in unfinished if one.span.span_id not in came]
        return [*spans, *(one.span for one in unfinished)], unfinished

    def whole_trace(request: Request) -> Response:
        trace_id = parse_trace_id(request.path_params["trace_id"])
        spans, unfinished = all_of(trace_id)
        if not spans:
            return failure(404, "trace not found")
        told = {"unfinished": [unfinished_json(one) for one in unfinished]}
        return JSONResponse(whole_trace_json(spans, store.logs(trace_id)) | told)

    def trace_as_otlp(request: Request) -> Response:
        trace_id = parse_trace_id(request.path_params["trace_id"])
        spans, unfinished = all_of(trace_id)
        if not spans:
            return failure(404, "trace not found")
        as_file = {"content-disposition": f'attachment; filename="trace-{trace_id.hex()}.json"'}
        told = {
            "linkedFrom": [link_json(one) for one in store.links_from(trace_id)],
            "linkedTo": [link_end_json(one) for one in store.links_to(trace_id)],
            "unfinished": [unfinished_json(one) for one in unfinished],
        }
        return JSONResponse(telemetry_json(spans, store.logs(trace_id)) | told, headers=as_file)

    def why(request: Request) -> Response:
        return JSONResponse(distinction_json(store, _selection(request)))

    def usual_shape(request: Request) -> Response:
        alike = store.alike(parse_trace_id(request.path_params["trace_id"]))
        return failure(404, "trace not found") if alike is None else JSONResponse(usual_json(alike))

    def in_flight(_request: Request) -> Response:
        return JSONResponse(in_flight_json(store.unfinished.spans(), usual) | {"dropped": store.unfinished.dropped})

    def arrived(_request: Request) -> Response:
        now_ns = time.time_ns()
        told = {"now": now_ns // 1000, "otlp": otlp_url, "senders": senders_json(store, now_ns)}
        return JSONResponse(told | arrivals.told())

    handlers = {
        "find": find,
        "why": why,
        "logs": logs,
        "completion": completion,
        "statistics": statistics,
        "map": calls,
        "errors": errors,
        "in-flight": in_flight,
        "instruments": instruments,
        "points": points,
        "arrivals": arrived,
        "recent/{trace_id}": whole_trace,
        "recent/{trace_id}/otlp": trace_as_otlp,
        "recent/{trace_id}/usual": usual_shape,
    }
    return [Route(f"/api/{path}", threaded(handler)) for path, handler in handlers.items()]


def failure(status: int, message: str) -> Response:
    """An error in the shape of Jaeger's API, which ours has too."""
    body = {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": status, "msg": message}]}
    return JSONResponse(body, status)


def _query(request: Request) -> Query:
    return parse(request.query_params.get("q", ""))


def _optional_times(request: Request) -> dict[str, int | None]:
    return {f"{name}_ns": parse_time_ns(request.query_params, name) for name in ("start", "end")}


def _times(request: Request) -> tuple[int, int]:
    end_ns = parse_time_ns(request.query_params, "end")
    end_ns = time.time_ns() if end_ns is None else end_ns
    start_ns = parse_time_ns(request.query_params, "start")
    start_ns = end_ns - DEFAULT_SPAN_NS if start_ns is None else start_ns
    if not 0 <= end_ns - start_ns <= MAX_SPAN_NS:
        raise BadParameterError("start must be before end, and at most 31 days")
    return start_ns, end_ns


def _reach(found: Found | FoundLogs) -> dict[str, Any]:
    """How far a search came."""
    return {"complete": found.complete, "searchedTo": None if found.complete else found.searched_to_ns // 1000}


def _selection(request: Request) -> Selection:
    parameters, query = request.query_params, _query(request)
    start_ns, end_ns = (parse_time_ns(parameters, name) for name in ("start", "end"))
    match parameters.get("select"):
        case "errors":
            return Selection("errors", query, start_ns, end_ns)
        case "query":
            return Selection("query", query, start_ns, end_ns)
        case "box":
            from_ns, to_ns = (parse_time_ns(parameters, name) or 0 for name in ("from", "to"))
            shortest, longest = (parse_integer(parameters, name) for name in ("shortest", "longest"))
            return Selection("box", query, start_ns, end_ns, from_ns, to_ns, shortest or 0, longest)
    raise BadParameterError("select must be errors, query or box")


def _key_json(key: str) -> dict[str, Any]:
    return {"text": key, "hint": FIELDS.get(key, "")}
