"""The pages, and the APIs below them: our own for the pages, and Jaeger's query API for everything else."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from observability.viewer.api import Handler, api_routes, failure
from observability.viewer.arrivals import Arrivals
from observability.viewer.guard import SECURITY_HEADERS, Guard
from observability.viewer.jaeger_api import jaeger_routes
from observability.viewer.jaeger_v3 import jaeger_v3_routes
from observability.viewer.query import QueryError
from observability.viewer.search import BadParameterError
from observability.viewer.store import Store
from observability.viewer.token import Token, TokenGuard

_FOLDER = Path(__file__).with_name("pages")
_PAGES = {
    "/": "traces.html",
    "/traces": "traces.html",
    "/services": "services.html",
    "/logs": "logs.html",
    "/metrics": "metrics.html",
    "/doctor": "doctor.html",
    "/trace/{trace_id}": "trace.html",
    "/open": "trace.html",
    "/compare": "compare.html",
}
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}


class _SecurityHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *SECURITY_HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def create_pages(store: Store, arrivals: Arrivals, *, otlp_url: str, token: Token | None = None) -> Starlette:
    """Make the application that shows what a store holds.

    Args:
        store: Is only read.
        arrivals: What the receivers of the store have received.
        otlp_url: Where telemetry can be sent to; told to the reader while there is none.
        token: What readers have to know, if they have to know anything.
    """
    # Handlers that read the store run in threads, so that the event loop stays free for senders, and two at a time,
    # since an answer may take much memory.
    two_at_a_time = CapacityLimiter(2)
    # What is asked for is looked up in what is there, and is never a path.
    assets = {file.relative_to(_FOLDER).as_posix(): file for file in _FOLDER.rglob("*") if file.suffix in _MEDIA_TYPES}

    def threaded(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            return await to_thread.run_sync(handler, request, limiter=two_at_a_time)

        return handle

    async def asset(request: Request) -> Response:
        file = assets.get(request.path_params["name"])
        if file is None:
            return PlainTextResponse("not found\n", 404)
        return FileResponse(file, media_type=_MEDIA_TYPES[file.suffix])

    async def search_page(_request: Request) -> Response:
        return RedirectResponse("/")

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[
            *(Route(path, _page(name)) for path, name in _PAGES.items()),
            Route("/search", search_page),
            Route("/pages/{name:path}", asset),
            Route("/livez", live),
            *api_routes(store, arrivals, otlp_url=otlp_url, threaded=threaded),
            *jaeger_routes(store, threaded=threaded),
            *jaeger_v3_routes(store, threaded=threaded),
        ],
        middleware=[
            Middleware(_SecurityHeaders),
            Middleware(Guard, any_host=token is not None),
            *([] if token is None else [Middleware(TokenGuard, token, pages=True)]),
        ],
        exception_handlers={
            BadParameterError: _failed_with(400),
            QueryError: _failed_with(400),
            sqlite3.Error: _failed_with(503),
        },
    )


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def page(_request: Request) -> Response:
        return FileResponse(_FOLDER / name)

    return page


def _failed_with(status: int) -> Callable[[Request, Exception], Response]:
    return lambda _request, error: failure(status, str(error))
