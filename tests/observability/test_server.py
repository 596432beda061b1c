"""Serving one application and stopping it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from observability.server import ServerError, serve
from tests.forked import Forked

APP = """
import asyncio, gc, sys
from contextlib import asynccontextmanager
from fastapi import FastAPI
from observability import Telemetry, observe, serve

@asynccontextmanager
async def lifespan(app):
    yield
    print("lifespan ended", flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/slow")
async def slow():
    print("in flight", flush=True)
    await asyncio.sleep(0.4)
    return "done"

@app.get("/set-up")
async def set_up():
    return [type(asyncio.get_running_loop()).__module__, gc.get_freeze_count() > 0]

@app.get("/never")
async def never():
    print("in flight", flush=True)
    await asyncio.sleep(60)

observe(app, Telemetry.from_environment("service"))
serve(app, host="127.0.0.1", port=int(sys.argv[1]), drain_delay_s=float(sys.argv[2]), shutdown_timeout_s=1.0)
"""


@contextlib.contextmanager
def _serving(drain_delay_s: float = 0.0, **environment: str) -> Iterator[tuple[Forked, httpx.Client]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    silent = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    told = os.environ | silent | environment
    with (
        contextlib.closing(Forked(APP, [str(port), str(drain_delay_s)], told)) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
    ):
        _wait_until_ready(client, process)
        yield process, client


def _wait_until_ready(client: httpx.Client, process: Forked) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.returncode is None:
        with contextlib.suppress(httpx.TransportError):
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(0.02)
    raise AssertionError("the service did not become ready")


def _read_until(process: Forked, text: str) -> None:
    assert any(text in line for line in iter(process.readline, ""))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_in_flight_request_ends(number: signal.Signals) -> None:
    """A request in flight at the signal is answered, the lifespan ends, and the exit code is 0."""
    with _serving() as (process, client), ThreadPoolExecutor() as customers:
        slow = customers.submit(client.get, "/slow")
        _read_until(process, "in flight")
        process.send_signal(number)
        out, _ = process.communicate(timeout=10)
        assert slow.result(timeout=10).json() == "done"
        assert "lifespan ended" in out
        assert process.returncode == 0


def test_set_up() -> None:
    """The event loop is uvloop's, and the garbage collector is set up for serving."""
    with _serving() as (_, client):
        assert client.get("/set-up").json() == ["uvloop", True]


def test_drain_delay() -> None:
    """During the pause after the signal readiness fails; requests are still served, and connections end with them."""
    with _serving(drain_delay_s=0.5) as (process, client):
        process.terminate()
        deadline = time.monotonic() + 5
        while client.get("/readyz").status_code == 200 and time.monotonic() < deadline:
            pass
        assert client.get("/readyz").json()["failed"] == {"drain": "stopping"}
        assert client.get("/livez").status_code == 200
        slow = client.get("/slow")
        assert (slow.status_code, slow.headers["connection"]) == (200, "close")
        process.communicate(timeout=10)
        assert process.returncode == 0


def test_answers_in_flight_are_the_last() -> None:
    """A client that waits for its answer when the signal comes is told by it to leave, also while others are served."""
    with _serving(drain_delay_s=2.0) as (process, client), ThreadPoolExecutor() as customers:
        slow = customers.submit(client.get, "/slow")
        _read_until(process, "in flight")
        process.terminate()
        assert slow.result(timeout=10).headers["connection"] == "close"
        assert client.get("/livez").status_code == 200
        process.communicate(timeout=10)
        assert process.returncode == 0


def test_busy_connections_are_left() -> None:
    """Clients that ask without a pause on connections that they keep are all told to leave, and lose no answer."""

    def ask(port: int) -> str:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            while True:
                connection.request("GET", "/livez")  # of which no line is logged, that somebody would have to read
                answer = connection.getresponse()
                answer.read()
                if answer.will_close:
                    return "told to leave"
        except (OSError, HTTPException) as error:
            return f"lost: {error!r}"
        finally:
            connection.close()

    with _serving(drain_delay_s=1.0) as (process, client), ThreadPoolExecutor(8) as threads:
        clients = [threads.submit(ask, client.base_url.port or 0) for _ in range(8)]
        client.get("/slow")  # they are all at it meanwhile
        process.terminate()
        assert [one.result() for one in clients] == ["told to leave"] * 8
        process.communicate(timeout=10)
        assert process.returncode == 0


def test_stuck_request_is_cancelled() -> None:
    """A request that never ends holds the process no longer than the bound, and the lifespan still ends."""
    with _serving() as (process, client), ThreadPoolExecutor() as customers:
        stuck = customers.submit(client.get, "/never")
        _read_until(process, "in flight")
        process.terminate()
        out, _ = process.communicate(timeout=10)
        stuck.exception(timeout=10)  # an answer or none: it has ended
        assert "lifespan ended" in out
        assert process.returncode == 0


def test_taken_port() -> None:
    """A port that is taken is told in one line that names it and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError) as refused:
            serve(FastAPI(), host="127.0.0.1", port=port)
    told = f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another with --port"
    assert str(refused.value) == told


def test_failing_start() -> None:
    """An application whose lifespan fails is told once with its stack, and then in the error."""
    code = """
from contextlib import asynccontextmanager
from fastapi import FastAPI
from observability import Telemetry, observe
from observability.server import ServerError, serve

@asynccontextmanager
async def lifespan(app):
    raise ConnectionError("no database")
    yield

app = FastAPI(lifespan=lifespan)
observe(app, Telemetry.from_environment("service"))
try:
    serve(app, host="127.0.0.1", port=0)
except ServerError as error:
    print(error)
"""
    silent = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    with contextlib.closing(Forked(code, [], os.environ | silent)) as process:
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
    assert out.endswith("the application failed to start; the log above says why\n")
    assert out.count("ConnectionError: no database") == 1


@pytest.mark.parametrize("drain_delay_s", [-1.0, float("nan"), float("inf")])
def test_bad_drain_delay(drain_delay_s: float) -> None:
    """A pause that is no number of seconds is refused: with it no signal would ever stop the server."""
    with pytest.raises(ServerError, match="no number of seconds"):
        serve(FastAPI(), host="127.0.0.1", port=0, drain_delay_s=drain_delay_s)


def test_unknown_address() -> None:
    """An address that is not this machine's is told, without the advice to take another port."""
    with pytest.raises(ServerError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address$"):
        serve(FastAPI(), host="192.0.2.1", port=0)


def test_hanging_collector() -> None:
    """A collector that takes connections and never answers delays the end by the bound only, and the loss is told."""
    with socket.create_server(("127.0.0.1", 0)) as collector:
        endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}"
        told: dict[str, Any] = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "CLEARSPAN_CLOSE_TIMEOUT": "0.3",
        }
        with _serving(**told) as (process, client):
            client.get("/nowhere")
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=10)
    assert "not all telemetry could be sent in time" in output
    assert process.returncode == 0
