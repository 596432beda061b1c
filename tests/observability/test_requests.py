"""One log line for each request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from opentelemetry.trace import StatusCode
from starlette.types import Message, Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from observability.instrument import observe
from observability.requests import RequestLog, current_route, was_logged
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


async def test_background_task(recorder: Recorder) -> None:
    """The line is there when the response is complete; a task that fails afterwards has an ERROR line of its own."""
    app = FastAPI()
    seen: list[object] = []

    def task() -> None:
        seen.extend(record.log_record.body for record in recorder.logs)
        raise RuntimeError("boom")

    @app.get("/")
    async def handler(tasks: BackgroundTasks) -> None:
        tasks.add_task(task)

    observe(app, recorder.telemetry("service"))
    async with client_for(app) as client:
        await client.get("/")
    assert [str(body).rpartition(" 200 ")[0] for body in seen] == ["GET /"]
    told = [(one.log_record.severity_text, one.log_record.body) for one in recorder.logs]
    assert told[1:] == [("ERROR", "GET / failed after its response")]


@pytest.mark.parametrize("error", [SystemExit(3), BaseExceptionGroup("two", [GeneratorExit()])], ids=["exit", "group"])
async def test_no_exception_goes_untold(recorder: Recorder, error: BaseException) -> None:
    """What is raised past all handlers is an ERROR line with its stack, and an error of the span."""
    telemetry = recorder.telemetry("service")

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    with (
        telemetry.tracer_provider.get_tracer("t").start_as_current_span("server", record_exception=False) as span,
        pytest.raises(type(error)),
    ):
        await RequestLog(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, _never, _never)
    assert span.is_recording() is False
    assert recorder.spans[0].status.status_code is StatusCode.ERROR
    severity, attributes = _line(recorder)
    assert (severity, attributes["exception.type"]) == ("ERROR", type(error).__name__)
    assert was_logged(error)
    assert not was_logged(RuntimeError())


async def test_cancelled_by_the_server(recorder: Recorder) -> None:
    """A request that the server cancels is answered 503 and logged as a WARNING; its client did not hang up."""
    app, entered = FastAPI(), asyncio.Event()

    @app.get("/")
    async def handler() -> None:
        entered.set()
        await asyncio.Event().wait()

    observe(app, recorder.telemetry("service"))
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "http_version": "1.1"}
    request = asyncio.create_task(app(scope, _endless, send))
    await entered.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert sent[0]["status"] == 503
    assert (b"content-type", b"application/problem+json") in sent[0]["headers"]
    (span,) = recorder.spans
    assert span.status.status_code is StatusCode.ERROR
    assert CLIENT_DISCONNECTED not in (span.attributes or {})
    assert _line(recorder)[0] == "WARN"


async def test_span_inside(recorder: Recorder) -> None:
    """That the client hung up is told by the server's span, whatever span is current then."""
    telemetry = recorder.telemetry("service")
    tracer = telemetry.tracer_provider.get_tracer("t")

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        with tracer.start_as_current_span("inner"):
            await receive()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with tracer.start_as_current_span("server"):
        await RequestLog(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, _never)
    told = {span.name: (span.attributes or {}).get(CLIENT_DISCONNECTED) for span in recorder.spans}
    assert told == {"inner": None, "server": True}


async def test_server_that_repeats_itself(recorder: Recorder) -> None:
    """A server that answers each question with another empty body cannot hold the request."""
    app = FastAPI()
    observe(app, recorder.telemetry("service"))

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Message) -> None:
        pass

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "http_version": "1.1"}
    await app(scope, receive, send)
    assert _line(recorder)[0] == "INFO"


def _websocket_app() -> FastAPI:
    app = FastAPI()

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            text = await websocket.receive_text()
            if text == "crash":
                raise RuntimeError("boom")
            await websocket.send_text(text)

    return app


async def test_websocket(recorder: Recorder) -> None:
    """A WebSocket is one span and one line, and that its client closes it is no error, caught or not."""
    app = _websocket_app()
    observe(app, recorder.telemetry("service"))
    async with serving(app) as (port, _), connect(f"ws://127.0.0.1:{port}/echo") as websocket:
        for text in ("a", "b", "c"):
            await websocket.send(text)
            assert await websocket.recv() == text
    (span,) = recorder.spans
    assert (span.name, span.status.status_code, span.events) == ("HTTP /echo", StatusCode.UNSET, ())
    severity, _ = _line(recorder)
    assert severity == "INFO"
    (line,) = [str(one.log_record.body) for one in recorder.logs if "WEBSOCKET" in str(one.log_record.body)]
    assert line.startswith("WEBSOCKET /echo closed 1000 ")


async def test_websocket_that_fails(recorder: Recorder) -> None:
    """What a WebSocket's handler raises is an ERROR line with its stack, and an error of its span."""
    app = _websocket_app()
    observe(app, recorder.telemetry("service"))
    async with serving(app) as (port, _), connect(f"ws://127.0.0.1:{port}/echo") as websocket:
        await websocket.send("crash")
        with pytest.raises(ConnectionClosed):
            await websocket.recv()
    (span,) = recorder.spans
    assert span.status.status_code is StatusCode.ERROR
    severity, attributes = _line(recorder)
    assert (severity, attributes["exception.type"]) == ("ERROR", "RuntimeError")


async def _endless() -> Message:
    """A receive that waits for good."""
    await asyncio.Event().wait()
    raise AssertionError


async def _never(*_arguments: object) -> Any:
    """A receive or send that is asked for nothing."""
    raise AssertionError


async def test_client_that_stays(recorder: Recorder) -> None:
    """A client that waits for its answer is not taken for one that hung up."""
    app = FastAPI()
    observe(app, recorder.telemetry("service"))
    async with serving(app) as (port, _), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        await client.get("/openapi.json")
        await client.post("/openapi.json", json={})
    assert [CLIENT_DISCONNECTED in (span.attributes or {}) for span in recorder.spans] == [False, False]
