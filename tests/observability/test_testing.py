"""The pytest plugin."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from observability.instrument import observe
from observability.testing import Recorder, client_for, running

pytestmark = pytest.mark.anyio


def test_ids_and_clock(recorder: Recorder) -> None:
    """Ids count up from 1 over all services, and each reading of the clock is a millisecond later."""
    first, second = (recorder.telemetry(name).tracer_provider.get_tracer("t") for name in ("first", "second"))
    with first.start_as_current_span("outer"), second.start_as_current_span("inner"):
        pass
    with first.start_as_current_span("next"):
        pass
    ids = [(span.name, span.context.trace_id, span.context.span_id) for span in recorder.spans if span.context]
    assert ids == [("inner", 1, 2), ("outer", 1, 1), ("next", 2, 3)]
    start = 1_700_000_000_000_000_000
    times = [((span.start_time or 0) - start, (span.end_time or 0) - start) for span in recorder.spans]
    assert times == [(1_000_000, 2_000_000), (0, 3_000_000), (4_000_000, 5_000_000)]


def test_second_service_of_a_name(recorder: Recorder) -> None:
    """Two services of one name in a test are a mistake that is told."""
    recorder.telemetry("orders")
    with pytest.raises(ValueError, match="'orders' already"):
        recorder.telemetry("orders")


def test_logs(recorder: Recorder) -> None:
    """A record of the standard logging is drawn under the span that it was written in."""
    with recorder.telemetry("s").tracer_provider.get_tracer("t").start_as_current_span("work"):
        logging.getLogger("app").warning("running low on %s", "mugs")
    logging.getLogger("app").warning("of no span")
    assert recorder.tree() == "trace 1\n  s INTERNAL work\n    · WARN running low on mugs"
    assert recorder.tree(logs=False) == "trace 1\n  s INTERNAL work"
    assert len(recorder.logs) == 2


def test_scrubbed(recorder: Recorder) -> None:
    """What is recorded is what would be exported: without secrets."""
    with recorder.telemetry("s").tracer_provider.get_tracer("t").start_as_current_span("work") as span:
        span.set_attribute("password", "canary")
        logging.getLogger("app").warning("password=canary")
    assert "canary" not in recorder.spans[0].to_json()
    assert "canary" not in str(recorder.logs[0].log_record.body)


def test_metrics_and_clear(recorder: Recorder) -> None:
    """Metrics are each service's own; clearing forgets spans and logs."""
    orders, payments = recorder.telemetry("orders"), recorder.telemetry("payments")
    orders.meter_provider.get_meter("m").create_counter("orders").add(2)
    assert [point.value for point in recorder.metrics("orders")["orders"]] == [2]
    assert "orders" not in recorder.metrics("payments")
    with payments.tracer_provider.get_tracer("t").start_as_current_span("work"):
        logging.getLogger("app").warning("working")
    recorder.clear()
    assert (recorder.spans, recorder.logs, recorder.tree()) == ([], [], "")


async def test_transport_isolates(recorder: Recorder) -> None:
    """A service that is called without a network knows nothing of its caller but what came in the headers."""
    app = FastAPI()

    @app.get("/")
    async def current() -> int:
        return trace.get_current_span().get_span_context().trace_id

    tracer = recorder.telemetry("caller").tracer_provider.get_tracer("t")
    async with client_for(app) as client:
        with tracer.start_as_current_span("call"):
            assert (await client.get("/")).json() == 0


async def test_crash_is_an_answer(recorder: Recorder) -> None:
    """An exception that nobody handled is a 500 for the caller, as over a socket."""
    app = FastAPI()

    @app.get("/")
    async def crash() -> None:
        raise RuntimeError("boom")

    observe(app, recorder.telemetry("s"))
    async with client_for(app) as client:
        assert (await client.get("/")).status_code == 500


async def test_failing_start(recorder: Recorder) -> None:
    """What the application raises at its start is raised in the test."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    app = FastAPI(lifespan=lifespan)
    observe(app, recorder.telemetry("s"))
    with pytest.raises(ConnectionError, match="no database"):
        async with running(app):
            pass


def test_in_another_project(tmp_path: Path) -> None:
    """Installing the kit is enough: the fixture is there, and nothing of a test reaches the next one."""
    (tmp_path / "test_greeter.py").write_text("""
import logging
import pytest
from fastapi import FastAPI
from observability import observe
from observability.testing import client_for

@pytest.mark.anyio
@pytest.mark.parametrize("time", [1, 2])
async def test_greeting(recorder, time):
    app = FastAPI()

    @app.get("/hello")
    async def hello():
        logging.getLogger("greeter").info("greeting")

    observe(app, recorder.telemetry("greeter"))
    async with client_for(app) as client:
        await client.get("/hello")
    assert recorder.tree() == '''\\
trace 1
  greeter SERVER GET /hello http.response.status_code=200
    · INFO greeting'''

def test_nothing_left():
    assert not any("opentelemetry" in type(one).__module__ for one in logging.getLogger().handlers)
""")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "asyncio or nothing"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "3 passed" in result.stdout, result.stdout


def test_unsampled(recorder: Recorder) -> None:
    """A span that is not sampled is not recorded, and its logs are recorded but hang from nothing."""
    telemetry = recorder.telemetry("s")
    telemetry.tracer_provider.sampler = ALWAYS_OFF
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("work"):
        logging.getLogger("app").warning("working")
    assert (recorder.tree(), len(recorder.logs)) == ("", 1)
