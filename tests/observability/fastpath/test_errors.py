"""What becomes of an exception that nobody handled; that of whole requests is compared in `test_server_parity.py`."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from observability.instrument import observe
from observability.providers import Telemetry
from tests.observability.fastpath.parity import PLAIN

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("fast", [False, True])
async def test_failure_behind_an_answer(fast: bool) -> None:
    """What handles failures is asked also when the answer has begun, and what it answers is left where it is."""
    done = []
    app = FastAPI()

    @app.exception_handler(Exception)
    async def handle(_request: Request, error: Exception) -> Response:
        done.append(f"handled {error}")
        return PlainTextResponse("sorry", 500, background=BackgroundTask(done.append, "answered"))

    @app.get("/orders/{order_id}")
    async def stream(order_id: str) -> Response:
        async def chunks() -> Any:
            yield order_id
            raise ValueError("too late")

        return StreamingResponse(chunks())

    observe(app, Telemetry.build("orders", fast=fast))
    answer = await PLAIN.to(app)
    assert done == ["handled too late"]
    assert "sorry" not in repr(answer)
