"""Asking for faults over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from observability.faults.endpoint import MAX_BODY_BYTES
from observability.instrument import observe
from observability.testing import Recorder, client_for

pytestmark = pytest.mark.anyio


def _client(recorder: Recorder) -> httpx.AsyncClient:
    app = FastAPI()
    observe(app, recorder.telemetry("payments"), inbound_context="continue", faults=True)
    return client_for(app)


async def test_set_list_end(recorder: Recorder) -> None:
    """A fault is set, listed with the time that it has left, and ended; none of it is a request of the service."""
    async with _client(recorder) as client:
        assert (await client.put("/faults", json={"kind": "error", "share": 0.3})).status_code == 204
        (listed,) = (await client.get("/faults")).json()
        assert (await client.delete("/faults")).status_code == 204
        assert (await client.get("/faults")).json() == []
    assert 29 <= listed.pop("seconds") <= 30
    assert listed == {"kind": "error", "share": 0.3, "route": "/", "status": 503, "delay_s": 0.5}
    assert recorder.spans == []
    assert "http.server.request.duration" not in recorder.metrics("payments")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"kind": "explode"}, "#/body/kind"), ({"kind": "error", "share": 2}, "#/body/share"), ([], "#/body")],
)
async def test_bad_fault(recorder: Recorder, body: Any, pointer: str) -> None:
    """What is no fault is a problem that says where."""
    async with _client(recorder) as client:
        answer = await client.put("/faults", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_large_body(recorder: Recorder) -> None:
    """A body that is too large is refused."""
    async with _client(recorder) as client:
        answer = await client.put("/faults", content=b" " * (MAX_BODY_BYTES + 1))
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


async def test_other_method(recorder: Recorder) -> None:
    """There is nothing else to do with faults."""
    async with _client(recorder) as client:
        assert (await client.post("/faults", json={})).status_code == 405


@pytest.mark.parametrize("kind", ["reset", "truncated"])
async def test_no_connection(recorder: Recorder, kind: str) -> None:
    """A server that is not the kit's cannot cut connections, and that is said when it is asked for."""
    async with _client(recorder) as client:
        assert (await client.put("/faults", json={"kind": kind})).status_code == 409
        assert (await client.get("/faults")).json() == []
