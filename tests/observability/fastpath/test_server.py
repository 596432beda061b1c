"""What the fast path's layers do besides what the parity of whole requests shows."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import Response
from opentelemetry import context, trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from starlette.types import Message, Receive, Scope, Send

from observability.fastpath import server
from observability.fastpath.server import ServerSpan, covers
from observability.inbound import link_caller
from observability.instrument import _server_span_middleware, observe
from observability.providers import Telemetry
from tests.observability.fastpath import parity
from tests.observability.fastpath.parity import PLAIN

pytestmark = pytest.mark.anyio


def _observed(app: FastAPI, *, fast: bool = True) -> tuple[FastAPI, Any]:
    """An application that has started, and the layer of it that makes server spans."""
    observe(app, Telemetry.build("orders", metric_readers=[InMemoryMetricReader()], fast=fast))
    app.middleware_stack = app.build_middleware_stack()
    layer: Any = app.middleware_stack
    while not isinstance(layer, ServerSpan if fast else OpenTelemetryMiddleware):
        layer = layer.app
    return app, layer


async def test_failure_outside_the_application() -> None:
    """What fails in the kit's own layers is answered and raised as it is around contrib's middleware."""

    async def failing(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError("a bug of ours")

    official, contrib = _observed(FastAPI(), fast=False)
    contrib.app = failing
    quick, layer = _observed(FastAPI())
    layer._inner = failing
    answers = [await PLAIN.to(app) for app in (official, quick)]
    assert answers[0] == answers[1]
    assert "500" in repr(answers[1])
    assert "a bug of ours" in repr(answers[1][-1])


@pytest.mark.parametrize("end", ["returns", "fails", "is cancelled"])
async def test_context_is_restored(end: str) -> None:
    """However a request ends, the context of whoever sent it is what it was."""
    app = FastAPI()

    @app.get("/orders/{order_id}")
    async def order(order_id: str) -> str:
        assert trace.get_current_span().get_span_context().is_valid
        if end == "fails":
            raise ValueError(order_id)
        if end == "is cancelled":
            await asyncio.Event().wait()
        return order_id

    app, _ = _observed(app)
    seen = []

    async def sending() -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/orders/1",
            "headers": [],
            "query_string": b"",
        }
        scope |= {"http_version": "1.1", "scheme": "http", "server": ("o", 80), "client": None, "root_path": ""}

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(_message: Message) -> None:
            seen.append("sent")

        try:
            async with asyncio.timeout(0.02 if end == "is cancelled" else 5):
                await app(scope, receive, send)
        except (ValueError, TimeoutError):
            pass
        finally:
            seen.append(str(dict(context.get_current())))

    await asyncio.get_running_loop().create_task(sending(), context=contextvars.Context())
    assert seen[-1] == "{}"


async def test_cancelled_request(caplog: pytest.LogCaptureFixture) -> None:
    """A request that is given up is active no longer, and nothing complains of its context."""
    app = FastAPI()
    begun = asyncio.Event()

    @app.get("/orders/{order_id}")
    async def order(order_id: str) -> str:
        begun.set()
        await asyncio.Event().wait()
        return order_id

    app, layer = _observed(app)
    with caplog.at_level(logging.ERROR, "opentelemetry"):
        waiting: Any = PLAIN.to(app)
        task = asyncio.create_task(waiting)
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    (active,) = layer._actives.values()
    active.add_up()
    assert [aggregation._value for _, aggregation in active._aggregations] == [0]
    assert [record for record in caplog.records if record.name == "opentelemetry.context"] == []


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many methods, agents, paths and statuses strangers think of, what is remembered of them is bounded."""
    monkeypatch.setattr(server, "MAX_KNOWN", 5)
    app = FastAPI()

    @app.api_route("/{status}", methods=["GET"])
    async def answer(status: int) -> Response:
        return Response(status_code=status)

    app, layer = _observed(app)
    for number in range(40):
        await parity.Request(
            f"/{200 + number}",
            method="GET" if number % 2 else f"M{number}",
            headers=((b"user-agent", f"agent {number}".encode()),),
            scope={"scheme": f"s{number}"},
        ).to(app)
    for remembered in (layer._heads, layer._actives, layer._sizes, layer._user_agents):
        assert len(remembered) == 5
    await parity.Request(headers=((b"user-agent", b"x" * 100_000),)).to(app)
    assert max(map(len, layer._user_agents)) < 100


def test_another_middleware_is_not_covered() -> None:
    """A middleware that lacks a part that is asked for, as another version of contrib may, is used as it is."""
    app = FastAPI()
    Telemetry.build("orders")  # which chooses the conventions
    FastAPIInstrumentor.instrument_app(app, server_request_hook=link_caller, exclude_spans=["receive", "send"])
    contrib: Any = _server_span_middleware(app.build_middleware_stack())
    assert covers(contrib)
    for part in ("duration_histogram_new", "_sem_conv_opt_in_mode", "excluded_urls", "exclude_send_span", "tracer"):
        other = type("Other", (), {**vars(contrib)})
        assert covers(other)
        delattr(other, part)
        assert not covers(other)
    contrib.app = contrib.app.app
    assert not covers(contrib)


def test_off() -> None:
    """Where the fast path is off, none of its layers is in the stack."""
    app = FastAPI()
    observe(app, Telemetry.build("orders", fast=False))
    layer: Any = app.build_middleware_stack()
    while layer is not None:
        assert not type(layer).__module__.startswith("observability.fastpath")
        layer = getattr(layer, "app", None)
