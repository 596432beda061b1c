"""What a caller sees of each fault, over a real socket, and what the service's span says of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from observability.instrument import observe
from observability.testing import Recorder, client_for
from tests.serving import serving

pytestmark = pytest.mark.anyio

WHOLE = {"paid": "yes" * 100}


class Payments:
    """A service that takes faults, and how often it did its work."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.served = 0

    async def fault(self, kind: str, **options: Any) -> None:
        """Ask for a fault."""
        (await self.client.put("/faults", json={"kind": kind, **options})).raise_for_status()


@asynccontextmanager
async def _payments(recorder: Recorder) -> AsyncIterator[Payments]:
    app = FastAPI()

    @app.get("/payments/{order_id}")
    async def pay(order_id: str) -> dict[str, str]:
        assert order_id
        payments.served += 1
        return WHOLE

    observe(app, recorder.telemetry("payments"), inbound_context="continue", faults=True)
    async with (
        serving(app) as (port, _),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
    ):
        payments = Payments(client)
        yield payments


def _told(recorder: Recorder) -> list[Any]:
    return [dict(span.attributes or {}).get("clearspan.fault") for span in recorder.spans]


async def test_error(recorder: Recorder) -> None:
    """A request is answered with the status that was asked for, the work is not done, and the span says why."""
    async with _payments(recorder) as payments:
        await payments.fault("error", status=599)
        answer = await payments.client.get("/payments/1")
    assert (answer.status_code, answer.headers["content-type"]) == (599, "application/problem+json")
    assert payments.served == 0
    assert (
        recorder.tree(attributes=["http.response.status_code", "clearspan.fault"], logs=False)
        == """\
trace 1
  payments SERVER GET /payments/{order_id} http.response.status_code=599 clearspan.fault=error ERROR"""
    )


async def test_latency(recorder: Recorder) -> None:
    """A request is served, and later."""
    async with _payments(recorder) as payments:
        await payments.fault("latency", delay_s=0.2)
        began = asyncio.get_running_loop().time()
        answer = await payments.client.get("/payments/1")
        took = asyncio.get_running_loop().time() - began
    assert answer.json() == WHOLE
    assert took >= 0.2
    assert _told(recorder) == ["latency"]


async def test_hang(recorder: Recorder) -> None:
    """A request gets no answer for as long as its caller waits, and nothing is left behind when the caller goes."""
    async with _payments(recorder) as payments:
        await payments.fault("hang")
        with pytest.raises(httpx.ReadTimeout):
            await payments.client.get("/payments/1", timeout=0.2)
    assert payments.served == 0
    (span,) = recorder.spans
    assert (span.attributes or {})["clearspan.fault"] == "hang"
    assert (span.attributes or {})["clearspan.client.disconnected"]


async def test_hang_ends(recorder: Recorder) -> None:
    """A caller that waits until the fault is over is told so."""
    async with _payments(recorder) as payments:
        await payments.fault("hang", seconds=0.2)
        assert (await payments.client.get("/payments/1")).status_code == 503
        assert (await payments.client.get("/payments/1")).status_code == 200


async def test_reset(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """The connection is torn down before there is an answer, and nobody complains on the service's side."""
    async with _payments(recorder) as payments:
        await payments.fault("reset")
        with pytest.raises(httpx.ReadError) as caught:
            await payments.client.get("/payments/1")
        await payments.client.delete("/faults")
        assert (await payments.client.get("/payments/1")).status_code == 200
    assert "ConnectionResetError" in repr(_causes(caught.value))
    assert payments.served == 1
    assert _told(recorder) == ["reset", None]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_truncated(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """The answer ends in the middle of its body, after the work was done; nobody complains on the service's side."""
    async with _payments(recorder) as payments:
        await payments.fault("truncated")
        got = b""
        async with payments.client.stream("GET", "/payments/1") as answer:
            announced = int(answer.headers["content-length"])
            try:
                async for chunk in answer.aiter_raw():
                    got += chunk
            except httpx.RemoteProtocolError as error:
                broken = str(error)
    assert "without sending complete message body" in broken
    assert len(got) == announced // 2
    assert payments.served == 1
    assert _told(recorder) == ["truncated"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_slow_body(recorder: Recorder) -> None:
    """The answer comes whole, a piece at a time."""
    async with _payments(recorder) as payments:
        await payments.fault("slow_body", delay_s=0.2)
        async with payments.client.stream("GET", "/payments/1") as answer:
            pieces = [piece async for piece in answer.aiter_raw()]
    assert b"".join(pieces) == (await _answer()).content
    assert len(pieces) > 1
    assert _told(recorder) == ["slow_body"]


async def test_not_json(recorder: Recorder) -> None:
    """The answer is whole and says that it is JSON, and is not."""
    async with _payments(recorder) as payments:
        await payments.fault("not_json")
        answer = await payments.client.get("/payments/1")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="Expecting value"):
        answer.json()
    assert payments.served == 1
    assert _told(recorder) == ["not_json"]


async def test_other_routes(recorder: Recorder) -> None:
    """Requests that a fault does not concern are served as ever, and probes always."""
    async with _payments(recorder) as payments:
        await payments.fault("error", route="/refunds")
        assert (await payments.client.get("/payments/1")).status_code == 200
        await payments.fault("error")
        assert (await payments.client.get("/livez")).status_code == 200
    assert _told(recorder) == [None]


@pytest.mark.parametrize("inbound_context", ["link", "ignore"])
def test_public_edge(recorder: Recorder, inbound_context: Any) -> None:
    """A service at the public edge takes no faults."""
    with pytest.raises(ValueError, match="behind the public edge"):
        observe(FastAPI(), recorder.telemetry("orders"), inbound_context=inbound_context, faults=True)


async def test_off(recorder: Recorder) -> None:
    """Unless it is asked for, there is no layer and no endpoint."""
    app = FastAPI()
    observe(app, recorder.telemetry("payments"), inbound_context="continue")
    async with client_for(app) as client:
        assert (await client.get("/faults")).status_code == 404


async def _answer() -> httpx.Response:
    app = FastAPI()
    app.get("/")(lambda: WHOLE)
    async with client_for(app) as client:
        return await client.get("/")


def _causes(error: BaseException | None) -> list[BaseException]:
    causes = []
    while error is not None:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes
