"""The pages, and the API below them: Jaeger's query API, and the logs of a trace."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.viewer.guard import SECURITY_HEADERS, LoopbackGuard
from observability.viewer.jaeger import KINDS, log_json, trace_json
from observability.viewer.store import Store, StoredSpan

MAX_LIMIT = 1500
_PAGES = Path(__file__).with_name("pages")
_ASSETS = {"viewer.css": "text/css", "list.js": "text/javascript", "trace.js": "text/javascript"} | {
    "common.js": "text/javascript"
}
_UNITS_NS = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


class _BadParameterError(Exception):
    pass


class _SecurityHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *SECURITY_HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def create_pages(store: Store) -> Starlette:
    """Make the application that shows what a store holds."""

    async def services(_request: Request) -> Response:
        return _data(await run_in_threadpool(store.services))

    async def operations_of_service(request: Request) -> Response:
        found = await run_in_threadpool(store.operations, request.path_params["service"])
        return _data(sorted({name for name, _ in found}))

    async def operations(request: Request) -> Response:
        wanted = request.query_params.get("spanKind")
        found = await run_in_threadpool(store.operations, request.query_params.get("service", ""))
        rows = [{"name": name, "spanKind": KINDS.get(kind, "")} for name, kind in found]
        return _data([row for row in rows if wanted in (None, "", row["spanKind"])])

    async def traces(request: Request) -> Response:
        try:
            found = await run_in_threadpool(_search, store, request.query_params)
        except _BadParameterError as error:
            return _failure(400, str(error))
        return _data([trace_json(spans) for spans in found])

    async def trace(request: Request) -> Response:
        trace_id = _trace_id(request.path_params["trace_id"])
        if trace_id is None:
            return _failure(400, "a trace id has up to 32 hexadecimal digits")
        spans = await run_in_threadpool(store.trace, trace_id)
        return _data([trace_json(spans)]) if spans else _failure(404, "trace not found")

    async def logs(request: Request) -> Response:
        trace_id = _trace_id(request.path_params["trace_id"])
        if trace_id is None:
            return _failure(400, "a trace id has up to 32 hexadecimal digits")
        return _data([log_json(log) for log in await run_in_threadpool(store.logs, trace_id)])

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
            Route("/api/services", services),
            Route("/api/services/{service}/operations", operations_of_service),
            Route("/api/operations", operations),
            Route("/api/traces", traces),
            Route("/api/traces/{trace_id}", trace),
            Route("/api/traces/{trace_id}/logs", logs),
        ],
        middleware=[Middleware(_SecurityHeaders), Middleware(LoopbackGuard)],
    )


def _search(store: Store, query: Mapping[str, str]) -> list[list[StoredSpan]]:
    limit = _integer(query, "limit", 20)
    if not 1 <= limit <= MAX_LIMIT:
        raise _BadParameterError(f"limit must be between 1 and {MAX_LIMIT}")
    start, end = _integer(query, "start", None), _integer(query, "end", None)
    shortest, longest = _duration(query, "minDuration"), _duration(query, "maxDuration")
    tags = _tags(query)
    filtered = bool(tags) or shortest is not None or longest is not None
    found: list[list[StoredSpan]] = []
    # What the store cannot look up is looked at, trace by trace, and only among the newest.
    for trace_id in store.search(
        service=query.get("service") or None,
        operation=query.get("operation") or None,
        start_ns=None if start is None else min(start, 2**53) * 1000,
        end_ns=None if end is None else min(end, 2**53) * 1000,
        limit=MAX_LIMIT if filtered else limit,
    ):
        spans = store.trace(trace_id)
        if spans and (not filtered or any(_matches(span, shortest, longest, tags) for span in spans)):
            found.append(spans)
        if len(found) == limit:
            break
    return found


def _matches(span: StoredSpan, shortest: int | None, longest: int | None, tags: Mapping[str, str]) -> bool:
    duration = span.end_ns - span.start_ns
    if (shortest is not None and duration < shortest) or (longest is not None and duration > longest):
        return False
    if not tags:
        return True
    found: dict[str, str] = {}
    for tag in trace_json([span])["spans"][0]["tags"]:
        value = tag["value"]
        found[tag["key"]] = str(value).lower() if isinstance(value, bool) else str(value)
    return all(found.get(key) == value for key, value in tags.items())


def _integer(query: Mapping[str, str], name: str, default: Any) -> Any:  # noqa: ANN401 - int, or the default's type
    text = query.get(name)
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise _BadParameterError(f"{name} must be a whole number")
    return int(text)


def _duration(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)", text)
    if match is None:
        raise _BadParameterError(f"{name} must be a duration such as 1.2s, 100ms or 500us")
    return int(float(match[1]) * _UNITS_NS[match[2]])


def _tags(query: Mapping[str, str]) -> dict[str, str]:
    text = query.get("tags")
    if not text:
        return {}
    try:
        tags = json.loads(text)
    except (ValueError, RecursionError):
        tags = None
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise _BadParameterError('tags must be a JSON object of strings, such as {"error":"true"}')
    return tags


def _trace_id(text: str) -> bytes | None:
    return bytes.fromhex(text.zfill(32)) if re.fullmatch(r"[0-9a-fA-F]{1,32}", text) else None


def _data(data: list[Any]) -> Response:
    return JSONResponse({"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None})


def _failure(status: int, message: str) -> Response:
    body = {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": status, "msg": message}]}
    return JSONResponse(body, status)
