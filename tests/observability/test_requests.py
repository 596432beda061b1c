"""One log line for each request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from opentelemetry.trace import StatusCode
from starlette.types import Receive, Scope, Send

from observability.instrument import observe
from observability.requests import current_route
from observability.telemetry import CLIENT_DISCONNECTED
from observability.testing import Recorder, client_for
from tests.serving import serving

pytestmark = pytest.mark.anyio


def _line(recorder: Recorder) -> tuple[str, dict[str, Any]]:
    (record,) = [
        one
        for one in recorder.logs
        if one.instrumentation_scope and one.instrumentation_scope.name == "observability.requests"
    ]
    return str(record.log_record.severity_text), dict(record.log_record.attributes or {})


async def test_success(recorder: Recorder) -> None:
    """A request is one INFO line, within its span, with method, path, status and duration."""
    app = FastAPI()

    @app.get("/orders/{order_id}")
    async def order(order_id: str) -> str:
        return order_id

    observe(app, recorder.telemetry("orders"))
    async with client_for(app) as client:
        await client.get("/orders/7?token=canary")
    severity, attributes = _line(recorder)
    assert severity == "INFO"
    assert attributes.pop("http.server.request.duration") >= 0
    attributes.pop("http.route", None)
    assert attributes == {
        "http.request.method": "GET",
        "url.path": "/orders/7",
        "http.response.status_code": 200,
    }
    (span,) = recorder.spans
    assert span.context is not None
    assert recorder.logs[0].log_record.span_id == span.context.span_id


async def test_unhandled_exception(recorder: Recorder) -> None:
    """An exception that nobody handled is one ERROR line with its stack and the status that the client got."""
    app = FastAPI()

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("boom")

    observe(app, recorder.telemetry("orders"))
    async with client_for(app) as client:
        await client.get("/crash")
    severity, attributes = _line(recorder)
    assert (severity, attributes["http.response.status_code"]) == ("ERROR", 500)
    assert attributes["exception.type"] == "RuntimeError"
    assert "boom" in attributes["exception.stacktrace"]


async def test_current_route(recorder: Recorder) -> None:
    """While a request is served its route template is known, in included routers too, and never outside."""
    app, router, seen = FastAPI(), APIRouter(prefix="/orders"), []

    @router.get("/{order_id}/items")
    async def items(order_id: str) -> None:  # noqa: ARG001 - the route's parameter
        logging.getLogger("app").info("listing")
        seen.append(current_route())

    app.include_router(router)
    observe(app, recorder.telemetry("orders"))
    async with client_for(app) as client:
        await client.get("/orders/7/items")
    assert (seen, current_route()) == (["/orders/{order_id}/items"], None)


async def test_refused_by_limits(recorder: Recorder) -> None:
    """What the limits refuse is logged like every other answer."""
    app = FastAPI()
    observe(app, recorder.telemetry("orders"))
    async with client_for(app) as client:
        await client.post("/", content=b"x" * 2_000_000)
    severity, attributes = _line(recorder)
    assert (severity, attributes["http.response.status_code"]) == ("INFO", 413)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /slow HTTP/1.1\r\nhost: service\r\n\r\n",
        b"POST /slow HTTP/1.1\r\nhost: service\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}",
        b"POST /slow HTTP/1.1\r\nhost: service\r\ncontent-length: 20\r\ncontent-type: application/json\r\n\r\n{}",
        b"GET /stream HTTP/1.1\r\nhost: service\r\n\r\n",
    ],
    ids=["before the answer", "before the answer to a body", "within its own body", "within a stream"],
)
async def test_client_hangs_up(recorder: Recorder, request_bytes: bytes) -> None:
    """A client that hangs up ends its span, which says so and is no error, and so does the request's line."""
    app, gone, ended = FastAPI(), asyncio.Event(), asyncio.Event()

    @app.api_route("/slow", methods=["GET", "POST"])
    async def slow(request: Request) -> str:
        await request.body()
        await gone.wait()
        return "done"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.005)

        return StreamingResponse(body())

    observe(app, recorder.telemetry("service"))

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        finally:
            ended.set()

    async with serving(watched) as (port, connections):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_bytes)
        if b"/stream" in request_bytes:
            await reader.readuntil(b"x")
        else:
            await writer.drain()
        writer.close()
        async with asyncio.timeout(10):
            while connections:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.005)
        gone.set()
        await asyncio.wait_for(ended.wait(), 10)
    (span,) = recorder.spans
    assert (span.attributes or {})[CLIENT_DISCONNECTED] is True
    assert span.status.status_code is not StatusCode.ERROR
    severity, attributes = _line(recorder)
    assert (severity, attributes[CLIENT_DISCONNECTED]) == ("INFO", True)


async def test_client_that_stays(recorder: Recorder) -> None:
    """A client that waits for its answer is not taken for one that hung up."""
    app = FastAPI()
    observe(app, recorder.telemetry("service"))
    async with serving(app) as (port, _), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await client.get("/openapi.json")
        await client.post("/openapi.json", json={})
    assert [CLIENT_DISCONNECTED in (span.attributes or {}) for span in recorder.spans] == [False, False]
