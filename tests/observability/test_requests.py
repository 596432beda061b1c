"""One log line for each request."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI

from observability.instrument import observe
from observability.requests import current_route
from observability.testing import Recorder, client_for

pytestmark = pytest.mark.anyio


def _line(recorder: Recorder) -> tuple[str, dict[str, Any]]:
    (record,) = [one for one in recorder.logs if one.instrumentation_scope.name == "observability.requests"]
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
