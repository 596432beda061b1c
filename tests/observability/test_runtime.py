"""Metrics of the process, of the event loop, and of the telemetry itself."""

from __future__ import annotations

import asyncio
import time

import pytest
from fastapi import FastAPI

from observability import runtime
from observability.instrument import observe
from observability.testing import Recorder, client_for, running

pytestmark = pytest.mark.anyio


async def test_process(recorder: Recorder) -> None:
    """While a service runs it tells its CPU time, memory, threads, files and garbage collections."""
    app = FastAPI()
    telemetry = recorder.telemetry("s")
    observe(app, telemetry)
    async with running(app):
        metrics = recorder.metrics("s")
        for name in (
            "process.cpu.time",
            "process.memory.usage",
            "process.thread.count",
            "process.open_file_descriptor.count",
            "cpython.gc.collections",
        ):
            assert all(point.value > 0 for point in metrics[name][:1]), name
    assert not [name for name in metrics if name.startswith("system.")]


async def test_event_loop_lag(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that blocks the event loop shows as lag of the length of its blocking."""
    monkeypatch.setattr(runtime, "_LAG_INTERVAL_S", 0.001)
    async with runtime.observe_runtime(recorder.telemetry("s")):
        await asyncio.sleep(0.01)
        time.sleep(0.2)  # noqa: ASYNC251 - the mistake that is measured
        await asyncio.sleep(0.01)
    (point,) = recorder.metrics("s")["clearspan.event_loop.lag"]
    assert point.max >= 0.15
    assert len([task for task in asyncio.all_tasks() if task.get_name() == "event-loop-lag"]) == 0


def _tasks(recorder: Recorder) -> list[int]:
    return [point.value for point in recorder.metrics("s").get("clearspan.event_loop.tasks", ())]


async def test_event_loop_tasks(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that does not end shows in the number of tasks."""
    monkeypatch.setattr(runtime, "_LAG_INTERVAL_S", 0.001)

    async def told(expected: int) -> None:
        async with asyncio.timeout(10):
            while _tasks(recorder) != [expected]:  # noqa: ASYNC110 - a metric has no event
                await asyncio.sleep(0.005)

    async with runtime.observe_runtime(recorder.telemetry("s")):
        before = len(asyncio.all_tasks())
        await told(before)
        endless = asyncio.create_task(asyncio.Event().wait())
        await told(before + 1)
        endless.cancel()


async def test_requests_in_flight(recorder: Recorder) -> None:
    """Requests are counted while they are served, and no longer."""
    app = FastAPI()
    entered, leave = asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> None:
        entered.set()
        await leave.wait()

    def in_flight() -> list[int]:
        return [point.value for point in recorder.metrics("s")["http.server.active_requests"]]

    observe(app, recorder.telemetry("s"))
    async with client_for(app) as client:
        request = asyncio.create_task(client.get("/slow"))
        await entered.wait()
        assert in_flight() == [1]
        leave.set()
        await request
        assert in_flight() == [0]


async def test_strangers_make_no_series(recorder: Recorder) -> None:
    """Unknown paths, methods and hosts do not multiply the series of any metric."""
    app = FastAPI()
    observe(app, recorder.telemetry("s"))
    async with client_for(app) as client:
        for number in range(50):
            await client.request(
                f"METHOD{number}", f"/{number}", headers={"host": f"h{number}", "user-agent": f"{number}"}
            )
    assert {name: len(points) for name, points in recorder.metrics("s").items() if name.startswith("http.")} == {
        "http.server.active_requests": 1,
        "http.server.request.duration": 1,
        "http.server.response.body.size": 1,
    }
