"""The time of a request that is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from observability.deadline import TIMEOUT_HEADER, RequestDeadline, current_deadline
from observability.instrument import observe
from observability.testing import Recorder, client_for
from tests.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Timeouts take no time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def _app(recorder: Recorder, **options: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/hang")
    async def hang() -> None:
        await asyncio.Event().wait()

    @app.get("/left")
    async def left() -> float | None:
        remaining = current_deadline() - asyncio.get_running_loop().time()
        return None if remaining == float("inf") else remaining

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(3):
                await asyncio.sleep(60)
                yield b"x"

        return StreamingResponse(body())

    observe(app, recorder.telemetry("service"), **options)
    return app


async def test_hanging_handler(recorder: Recorder) -> None:
    """A request that is not answered in time is, with a 504 problem, and its handler ends."""
    loop, tasks = asyncio.get_running_loop(), asyncio.all_tasks()
    async with client_for(_app(recorder)) as client:
        started = loop.time()
        response = await client.get("/hang")
    assert (response.status_code, response.json()["title"]) == (504, "Gateway Timeout")
    assert loop.time() - started == pytest.approx(30.0)
    assert asyncio.all_tasks() == tasks


async def test_stream(recorder: Recorder) -> None:
    """An answer that has begun may last."""
    async with client_for(_app(recorder)) as client:
        assert (await client.get("/stream")).text == "xxx"


@pytest.mark.parametrize(
    ("inbound_context", "value", "left"),
    [
        ("continue", "2000", 2.0),
        ("continue", "90000", 30.0),
        ("continue", "0", 0.0),
        ("link", "2000", 30.0),
        ("ignore", "2000", 30.0),
        ("continue", "-5", 30.0),
        ("continue", "1e3", 30.0),
        ("continue", "9" * 100, 30.0),
    ],
)
async def test_what_the_caller_waits(recorder: Recorder, inbound_context: str, value: str, left: float) -> None:
    """Among one's own services the caller's time is the request's, if it is shorter; a stranger's is not believed."""
    async with client_for(_app(recorder, inbound_context=inbound_context)) as client:
        response = await client.get("/left", headers={TIMEOUT_HEADER: value})
    if left == 0:
        assert response.status_code == 504
    else:
        assert response.json() == pytest.approx(left)


async def test_other_cancellations(recorder: Recorder) -> None:
    """A handler's own time limit, and a cancellation that it puts up with, have nothing to do with the request's."""
    app = FastAPI()

    @app.get("/")
    async def handler() -> str:
        try:
            async with asyncio.timeout(10):
                await asyncio.Event().wait()
        except TimeoutError:
            return "own limit"
        return ""

    @app.get("/raises")
    async def raises() -> None:
        async with asyncio.timeout(10):
            await asyncio.Event().wait()

    observe(app, recorder.telemetry("service"))
    async with client_for(app) as client:
        assert (await client.get("/")).json() == "own limit"
        assert (await client.get("/raises")).status_code == 500


async def test_late_answer() -> None:
    """A handler that answers when it is cut off has answered, if it ends then; what it raises goes on."""

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await send({"type": "http.response.start", "status": 200})
            if scope["path"] == "/ends":
                return  # noqa: B012 - it swallows the cancellation, as a handler should not

    for path, raised in (("/ends", None), ("/goes-on", TimeoutError)):
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)  # noqa: B023 - used within the loop

        scope = {"type": "http", "path": path, "headers": []}
        with pytest.raises(raised) if raised else nullcontext():
            await RequestDeadline(app)(scope, _receive, send)
        assert [message["status"] for message in sent] == [200]
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


def test_another_loop() -> None:
    """An application that is served by one event loop after another has its deadlines in each."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    async def serve(limited: RequestDeadline) -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await limited({"type": "http", "path": "/", "headers": []}, _receive, send)
        status: int = sent[0]["status"]
        return status

    limited = RequestDeadline(app)
    for _ in range(2):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            assert runner.run(serve(limited)) == 504


async def _receive() -> Message:
    """A receive that is asked for nothing."""
    raise AssertionError


async def test_outside() -> None:
    """Outside of a request there is no deadline."""
    assert current_deadline() == float("inf")


async def test_concurrency(recorder: Recorder) -> None:
    """As many requests as may be are served; one more is answered 503 at once, and probes always are."""
    async with client_for(_app(recorder, max_requests=2)) as client:
        served = [asyncio.create_task(client.get("/hang")) for _ in range(2)]
        await asyncio.sleep(1)
        refused = await client.get("/left")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await client.get("/livez")).status_code == 200
        assert [(await one).status_code for one in served] == [504, 504]
        assert (await client.get("/left")).status_code == 200
