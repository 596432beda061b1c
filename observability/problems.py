"""Errors as RFC 9457 problem details: `application/problem+json` that carries the trace's id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from opentelemetry import trace
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from observability.answer import Answer

MEDIA_TYPE = "application/problem+json"
TOO_LARGE = "The body is larger than what is accepted here."


class Problem(BaseModel):
    """The schema of a problem, for `responses=` in a route's OpenAPI."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    trace_id: str | None = Field(default=None, description="Id of the trace that shows what happened.")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that may answer with problems of these statuses."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def problem(
    status: int,
    title: str,
    detail: str | None = None,
    *,
    type: str = "about:blank",  # noqa: A002 - the member's name in RFC 9457
    headers: Mapping[str, str] | None = None,
    **extensions: object,
) -> Response:
    """Answer with a problem.

    Args:
        status: HTTP status.
        title: The kind of problem, the same each time it occurs.
        detail: What happened this time and what to do next; never text of an exception that is not ours.
        type: URI of the kind of problem; `about:blank` when the status says it all.
        headers: Further response headers.
        extensions: Further members; JSON values.
    """
    members: dict[str, object] = {"type": type, "title": title, "status": status}
    if detail is not None:
        members["detail"] = detail
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        members["trace_id"] = trace.format_trace_id(context.trace_id)
    members.update(extensions)
    return JSONResponse(members, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install_problem_handlers(app: FastAPI) -> None:
    """Render HTTP errors, invalid requests and unhandled exceptions of an application as problems.

    So do the FastAPI applications that are mounted in it. Handlers that the application has set itself stay.
    """
    for kind, handler in _HANDLERS.items():
        if app.exception_handlers.get(kind) in (None, *_FASTAPI_HANDLERS):
            app.add_exception_handler(kind, handler)
    for route in app.routes:
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):
            install_problem_handlers(route.app)


class CancelledRequests:
    """ASGI middleware that answers 503 for a request that the server cancels, which it does when it stops."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        return self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(send)
        try:
            await self.app(scope, receive, answer.send)
        except asyncio.CancelledError:
            if not answer.begun:
                detail = "The server stops before the request was done; ask again."
                headers = {"connection": "close", "retry-after": "1"}
                await problem(503, "Service Unavailable", detail, headers=headers)(scope, receive, send)
            raise


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - add_exception_handler promises it, its type does not
    phrase = _phrase(error.status_code)
    if error.status_code in (204, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    detail = error.detail if isinstance(error.detail, str) and error.detail != phrase else None
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and detail in (None, "Content Too Large"):
        detail = TOO_LARGE
    return problem(error.status_code, phrase, detail, headers=error.headers)


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - add_exception_handler promises it, its type does not
    # RFC 9457's own example names the members `errors`, `detail` and `pointer`. The rejected input is not echoed.
    errors = [_invalid_member(item) for item in error.errors()]
    detail = "The request does not have the form that is asked for."
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if any(item["loc"] == ("body",) for item in error.errors()) and not media_type.endswith("json"):
        detail += " Send the body as JSON, with the header content-type: application/json."
    return problem(422, "Invalid request", detail, errors=errors)


def _invalid_member(item: dict[str, Any]) -> dict[str, str]:
    if item["type"] == "json_invalid":  # its location is a number of characters, not a member
        return {"detail": f"No JSON: {item['ctx']['error']} at character {item['loc'][-1]}", "pointer": "#/body"}
    return {"detail": str(item["msg"]), "pointer": _pointer(item["loc"])}


async def _hung_up(_request: Request, _error: Exception) -> Response:
    # Nobody reads it, but the span and the request's line shall not tell of a fault of ours.
    return problem(400, "Bad Request", "The request's body did not arrive whole.")


async def _websocket_closed(_websocket: WebSocket, _error: Exception) -> None:
    """A handler that does not catch the end of its WebSocket has ended too, and that is no fault."""


async def _unhandled(_request: Request, _error: Exception) -> Response:
    return problem(500, "Internal Server Error", "An unexpected error occurred; the trace shows it.")


_HANDLERS: dict[type[Exception], Any] = {  # Starlette's own type is a union that no dict of both kinds fits
    HTTPException: _http_error,
    RequestValidationError: _invalid_request,
    ClientDisconnect: _hung_up,
    WebSocketDisconnect: _websocket_closed,
    Exception: _unhandled,
}
_FASTAPI_HANDLERS = (http_exception_handler, request_validation_exception_handler)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # a status that no RFC names, such as nginx's 499
        return "Client error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "Server error"


def _pointer(location: tuple[Any, ...]) -> str:
    """A JSON pointer (RFC 6901) whose first step says where: `#/body/quantity`, `#/query/limit`."""
    return "#/" + "/".join(str(step).replace("~", "~0").replace("/", "~1") for step in location)
