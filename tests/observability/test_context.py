"""The trace follows wherever the work of a request goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from observability.instrument import observe
from observability.testing import Recorder, client_for

pytestmark = pytest.mark.anyio


async def test_tasks_and_threads(recorder: Recorder) -> None:
    """Spans of a task, of a thread and of a background task belong to the request."""
    telemetry = recorder.telemetry("s")
    tracer = telemetry.tracer_provider.get_tracer("test")
    app = FastAPI()

    def work(name: str) -> None:
        with tracer.start_as_current_span(name):
            pass

    async def work_async() -> None:
        work("task")

    @app.get("/work")
    async def handler(tasks: BackgroundTasks) -> None:
        await asyncio.create_task(work_async())
        await run_in_threadpool(work, "thread")
        await asyncio.to_thread(work, "to_thread")
        await asyncio.get_running_loop().run_in_executor(None, work, "run_in_executor")
        thread = threading.Thread(target=work, args=("Thread",))
        thread.start()
        thread.join()
        tasks.add_task(work, "background")

    observe(app, telemetry)
    async with client_for(app) as client:
        await client.get("/work")
    assert (
        recorder.tree(attributes=())
        == """\
trace 1
  s SERVER GET /work
    s INTERNAL task
    s INTERNAL thread
    s INTERNAL to_thread
    s INTERNAL run_in_executor
    s INTERNAL Thread
    s INTERNAL BackgroundTask work
      s INTERNAL background"""
    )


async def test_streaming(recorder: Recorder) -> None:
    """Spans made while a response streams belong to the request, whose span lasts until the last byte."""
    telemetry = recorder.telemetry("s")
    tracer = telemetry.tracer_provider.get_tracer("test")
    app = FastAPI()

    async def body() -> AsyncIterator[bytes]:
        for number in range(3):
            with tracer.start_as_current_span(f"chunk {number}"):
                pass
            yield b"x"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(body())

    observe(app, telemetry)
    async with client_for(app) as client:
        assert (await client.get("/stream")).text == "xxx"
    assert [span.name for span in recorder.spans] == ["chunk 0", "chunk 1", "chunk 2", "GET /stream"]
    assert len({span.context.trace_id for span in recorder.spans if span.context}) == 1


async def test_no_leak_between_requests(recorder: Recorder) -> None:
    """Requests that run at the same time keep to their own traces."""
    telemetry = recorder.telemetry("s")
    tracer = telemetry.tracer_provider.get_tracer("test")
    app = FastAPI()
    both = asyncio.Barrier(2)

    @app.get("/{name}")
    async def handler(name: str) -> None:
        await both.wait()
        with ThreadPoolExecutor(1), tracer.start_as_current_span(name):
            await both.wait()

    observe(app, telemetry)
    async with client_for(app) as client:
        await asyncio.gather(client.get("/a"), client.get("/b"))
    traces: dict[int, set[str]] = {}
    for span in recorder.spans:
        assert span.context is not None
        traces.setdefault(span.context.trace_id, set()).add(span.name)
    assert sorted(map(sorted, traces.values())) == [["GET /{name}", "a"], ["GET /{name}", "b"]]
