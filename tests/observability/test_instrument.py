"""What observe() and its companions make of an application, a client and an engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from observability import instrument
from observability.instrument import instrument_client, instrument_engine, observe
from observability.log_lines import JsonFormatter
from observability.telemetry import EVENT_LOOP_LAG
from observability.testing import Recorder, client_for, running

pytestmark = pytest.mark.anyio


def _server_spans(recorder: Recorder) -> list[ReadableSpan]:
    return [span for span in recorder.spans if span.kind is SpanKind.SERVER]


async def test_server_span(recorder: Recorder) -> None:
    """A request is exactly one span, in the stable conventions, without spans for ASGI's receive and send."""
    app = FastAPI()

    @app.get("/orders/{order_id}")
    async def order(order_id: str) -> str:
        return order_id

    observe(app, recorder.telemetry("orders"))
    async with client_for(app, base_url="http://orders") as client:
        await client.get("/orders/7")
    (span,) = recorder.spans
    attributes = dict(span.attributes or {})
    assert (span.name, span.kind) == ("GET /orders/{order_id}", SpanKind.SERVER)
    assert attributes["http.route"] == "/orders/{order_id}"
    assert attributes["http.response.status_code"] == 200
    assert "http.status_code" not in attributes
    assert span.resource.attributes["service.name"] == "orders"


async def test_native_telemetry_stands_aside(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where FastAPI's own telemetry would be on, a request still has one server span and one duration."""
    telemetry = recorder.telemetry("orders")
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: telemetry.tracer_provider)
    app = FastAPI(
        telemetry={
            "tracer_provider": telemetry.tracer_provider,
            "meter_provider": telemetry.meter_provider,
            "logger_provider": telemetry.logger_provider,
        }
    )
    observe(app, telemetry)
    async with client_for(app) as client:
        await client.get("/nowhere")
    assert len(_server_spans(recorder)) == 1
    (point,) = recorder.metrics("orders")["http.server.request.duration"]
    assert point.count == 1


@pytest.mark.parametrize("fast", [False, True])
async def test_mounted_application_is_not_traced_twice(
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    fast: bool,
) -> None:
    """A request to an application that is mounted has one server span and one duration, too."""
    telemetry = recorder.telemetry("orders")
    telemetry.fast = fast
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: telemetry.tracer_provider)
    app, mounted = FastAPI(), FastAPI(telemetry={"meter_provider": telemetry.meter_provider})

    @mounted.get("/things/{thing}")
    async def thing(thing: str) -> str:
        return thing

    app.mount("/inside", mounted)
    observe(app, telemetry)
    async with client_for(app) as client:
        await client.get("/inside/things/4")
    assert len(_server_spans(recorder)) == len(recorder.spans) == 1
    (point,) = recorder.metrics("orders")["http.server.request.duration"]
    assert point.count == 1


async def test_second_instrumentation_is_refused(recorder: Recorder) -> None:
    """Observing an application twice, or one that contrib instruments already, is a mistake that is told at once."""
    telemetry = recorder.telemetry("orders")
    app = FastAPI()
    observe(app, telemetry)
    with pytest.raises(RuntimeError, match="already"):
        observe(app, telemetry)
    other = FastAPI()
    FastAPIInstrumentor.instrument_app(other, tracer_provider=telemetry.tracer_provider)
    with pytest.raises(RuntimeError, match="already"):
        observe(other, telemetry)


async def test_started_application_is_refused(recorder: Recorder) -> None:
    """An application that has served a request can no longer be observed."""
    app = FastAPI()
    async with client_for(app) as client:
        await client.get("/")
    with pytest.raises(RuntimeError, match="before"):
        observe(app, recorder.telemetry("orders"))


async def test_probes_leave_nothing(recorder: Recorder) -> None:
    """Probes make no spans, no request metrics and no log lines; a path that only begins like one is traced."""
    app = FastAPI()
    observe(app, recorder.telemetry("orders"))
    async with client_for(app) as client:
        for path in ("/livez", "/readyz", "/startupz"):
            await client.get(path)
        assert (recorder.spans, recorder.logs) == ([], [])
        assert "http.server.request.duration" not in recorder.metrics("orders")
        await client.get("/livez-orders")
    assert len(recorder.spans) == 1


async def test_metrics_carry_exemplars(recorder: Recorder) -> None:
    """A request's duration points to its trace."""
    app = FastAPI()
    observe(app, recorder.telemetry("orders"))
    async with client_for(app) as client:
        await client.get("/")
    (span,) = recorder.spans
    assert span.context is not None
    (point,) = recorder.metrics("orders")["http.server.request.duration"]
    assert [exemplar.trace_id for exemplar in point.exemplars] == [span.context.trace_id]


async def test_failing_lifespan(recorder: Recorder) -> None:
    """What the application's lifespan raises is exported before the telemetry is closed."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    app = FastAPI(lifespan=lifespan)
    observe(app, recorder.telemetry("orders"))
    with pytest.raises(ConnectionError):
        async with running(app):
            pass
    (record,) = recorder.logs
    assert (record.log_record.severity_text, record.log_record.body) == ("ERROR", "the application failed to start")


async def test_hanging_lifespan(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that does not end is left behind when its time is over, and the telemetry is closed."""
    monkeypatch.setattr(instrument, "STOP_TIMEOUT_S", 0.05)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    app = FastAPI(lifespan=lifespan)
    telemetry = recorder.telemetry("orders")
    observe(app, telemetry)
    with pytest.raises(TimeoutError):
        async with running(app):
            pass
    (record,) = recorder.logs
    assert record.log_record.body == "the application failed to stop"
    telemetry.tracer_provider.get_tracer("late").start_span("late").end()
    assert recorder.spans == []


async def test_lifespan(recorder: Recorder) -> None:
    """The lifespan starts the probes, measures the event loop, and closes the telemetry at its end."""
    telemetry = recorder.telemetry("orders")
    app = FastAPI()
    observe(app, telemetry)
    async with client_for(app) as client:
        assert (await client.get("/startupz")).status_code == 503
        async with running(app):
            assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
    with telemetry.tracer_provider.get_tracer("late").start_as_current_span("late"):
        pass
    assert [span.name for span in recorder.spans] == []
    assert EVENT_LOOP_LAG.unit == "s"


def _dependency(status: int) -> httpx.AsyncBaseTransport:
    app = FastAPI()

    @app.get("/")
    async def answer(request: Request) -> JSONResponse:
        return JSONResponse({"traceparent": request.headers.get("traceparent")}, status)

    return httpx.ASGITransport(app)


async def test_client(recorder: Recorder) -> None:
    """A call is one client span whose context travels in the headers."""
    async with httpx.AsyncClient(transport=_dependency(200), base_url="http://inventory") as client:
        instrument_client(client, recorder.telemetry("orders"))
        response = await client.get("/")
    (span,) = recorder.spans
    assert span.context is not None
    assert (span.name, span.kind) == ("GET", SpanKind.CLIENT)
    assert response.json()["traceparent"] == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"


@pytest.mark.parametrize("fast", [True, False])
async def test_mounted_transports(recorder: Recorder, caplog: pytest.LogCaptureFixture, *, fast: bool) -> None:
    """Each of a client's transports is observed, and once, however often that is asked for."""
    telemetry = recorder.telemetry("orders")
    telemetry.fast = fast
    mounts = {"http://mounted": _dependency(200), "http://direct": None}
    async with httpx.AsyncClient(transport=_dependency(200), mounts=mounts) as client:
        instrument_client(client, telemetry)
        instrument_client(client, telemetry)
        for url in ("http://mounted/", "http://direct/", "http://inventory/"):
            await client.get(url)
    assert [(span.attributes or {})["server.address"] for span in recorder.spans] == ["mounted", "direct", "inventory"]
    assert "instrumented already" in caplog.text


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, StatusCode.UNSET),
        (402, StatusCode.OK),
        (404, StatusCode.OK),
        (409, StatusCode.OK),
        (400, StatusCode.ERROR),
        (422, StatusCode.ERROR),
        (500, StatusCode.ERROR),
        (503, StatusCode.ERROR),
    ],
)
async def test_business_answers(recorder: Recorder, status: int, code: StatusCode) -> None:
    """What a dependency answers by its contract is no error of the call."""
    async with httpx.AsyncClient(transport=_dependency(status), base_url="http://payments") as client:
        instrument_client(client, recorder.telemetry("orders"), business_answers={402, 404, 409})
        await client.get("/")
    (span,) = recorder.spans
    assert span.status.status_code is code


async def test_no_business_answers(recorder: Recorder) -> None:
    """Without a contract each 4xx is an error of the call, as the conventions have it."""
    async with httpx.AsyncClient(transport=_dependency(404), base_url="http://stranger") as client:
        instrument_client(client, recorder.telemetry("orders"))
        await client.get("/")
    assert recorder.spans[0].status.status_code is StatusCode.ERROR


async def test_engine(recorder: Recorder, tmp_path: Path) -> None:
    """A statement is one client span with its text, and literals in it are not exported."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/test.db")
    instrument_engine(engine, recorder.telemetry("orders"))
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 'canary', :value"), {"value": "canary"})
    await engine.dispose()
    (span,) = recorder.spans
    attributes = dict(span.attributes or {})
    assert span.kind is SpanKind.CLIENT
    assert attributes["db.system.name"] == "sqlite"
    assert attributes["db.query.text"] == "SELECT ?, ?"


async def test_failing_statement(recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the parameters nor the literals of a statement that fails are told by its exception."""
    secret = "can" + "ary"  # the stack shows this file's lines
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/test.db")
    telemetry = recorder.telemetry("orders")
    instrument_engine(engine, telemetry)
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("request"):
        try:
            async with engine.connect() as connection:
                statement = "INSERT INTO nowhere VALUES ('SECRET', :value)".replace("SECRET", secret)
                await connection.execute(text(statement), {"value": secret})
        except DBAPIError as error:
            trace.get_current_span().record_exception(error)
            logging.getLogger("app").exception("failed")
    await engine.dispose()
    told = "".join(span.to_json() for span in recorder.spans) + str(
        [(record.log_record.body, record.log_record.attributes) for record in recorder.logs]
    )
    assert "no such table: nowhere" in told
    assert secret not in told
    assert secret not in JsonFormatter("orders").format(caplog.records[-1])
