"""The pages, and the APIs below them: our own for the pages, and Jaeger's query API for everything else."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.viewer.fields import KINDS
from observability.viewer.guard import SECURITY_HEADERS, LoopbackGuard
from observability.viewer.jaeger import log_json, trace_json
from observability.viewer.recent import summary_json, whole_trace_json
from observability.viewer.search import BadParameterError, parse_limit, parse_trace_id, search
from observability.viewer.store import Store

_PAGES = Path(__file__).with_name("pages")
_ASSETS = {"viewer.css": "text/css", "list.js": "text/javascript", "trace.js": "text/javascript"} | {
    "common.js": "text/javascript"
}


class _SecurityHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *SECURITY_HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def create_pages(store: Store, *, otlp_url: str) -> Starlette:
    """Make the application that shows what a store holds.

    Args:
        store: Is only read.
        otlp_url: Where telemetry can be sent to; told to the reader while there is none.
    """
    # Handlers that read the store run in threads, so that the event loop stays free for senders, and two at a time,
    # since an answer may take much memory.
    two_at_a_time = CapacityLimiter(2)

    def in_thread(handler: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return await to_thread.run_sync(handler, request, limiter=two_at_a_time)

        return handle

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
        return _data([trace_json(spans)]) if spans else _failure(404, "trace not found")

    def logs(request: Request) -> Response:
        return _data([log_json(log) for log in store.logs(parse_trace_id(request.path_params["trace_id"]))])

    def recent(request: Request) -> Response:
        query = request.query_params
        found = store.recent(service=query.get("service") or None, limit=parse_limit(query))
        return JSONResponse(
            {"traces": [summary_json(one) for one in found], "services": store.services(), "otlp": otlp_url}
        )

    def whole_trace(request: Request) -> Response:
        trace_id = parse_trace_id(request.path_params["trace_id"])
        spans = store.trace(trace_id)
        if not spans:
            return _failure(404, "trace not found")
        return JSONResponse(whole_trace_json(spans, store.logs(trace_id)))

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            return PlainTextResponse("not found\n", 404)
        return FileResponse(_PAGES / name, media_type=_ASSETS[name])

    async def list_page(_request: Request) -> Response:
        return FileResponse(_PAGES / "list.html")

    async def trace_page(_request: Request) -> Response:
        return FileResponse(_PAGES / "trace.html")

    async def search_page(_request: Request) -> Response:
        return RedirectResponse("/")

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[
            Route("/", list_page),
            Route("/search", search_page),
            Route("/trace/{trace_id}", trace_page),
            Route("/pages/{name}", asset),
            Route("/livez", live),
            Route("/api/recent", in_thread(recent)),
            Route("/api/recent/{trace_id}", in_thread(whole_trace)),
            Route("/api/services", in_thread(services)),
            Route("/api/services/{service:path}/operations", in_thread(operations_of_service)),
            Route("/api/operations", in_thread(operations)),
            Route("/api/traces", in_thread(traces)),
            Route("/api/traces/{trace_id}", in_thread(trace)),
            Route("/api/traces/{trace_id}/logs", in_thread(logs)),
        ],
        middleware=[Middleware(_SecurityHeaders), Middleware(LoopbackGuard)],
        exception_handlers={BadParameterError: _failed_with(400), sqlite3.Error: _failed_with(503)},
    )


def _data(data: list[Any]) -> Response:
    return JSONResponse({"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None})


def _failure(status: int, message: str) -> Response:
    body = {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": status, "msg": message}]}
    return JSONResponse(body, status)


def _failed_with(status: int) -> Callable[[Request, Exception], Response]:
    return lambda _request, error: _failure(status, str(error))
