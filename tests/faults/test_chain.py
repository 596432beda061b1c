"""The chain against each fault, over real connections."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from observability.instrument import observe
from observability.resilience.attempt import AttemptOptions
from observability.resilience.call import was_sent
from observability.resilience.client import Dependency, create_client
from observability.resilience.errors import AttemptTimedOut
from observability.resilience.retry import RetryOptions
from observability.testing import Recorder
from tests.serving import serving

pytestmark = pytest.mark.anyio


def _payments(recorder: Recorder) -> FastAPI:
    app = FastAPI()
    app.get("/payments/{order_id}")(lambda order_id: {"order_id": order_id})
    observe(app, recorder.telemetry("payments"), inbound_context="continue", faults=True)
    return app


def _dependency(port: int, max_attempts: int, timeout_s: float = 5.0) -> Dependency:
    return Dependency.model_validate(
        {
            "name": "payments",
            "base_url": f"http://127.0.0.1:{port}",
            "attempt": AttemptOptions(timeout_s=timeout_s),
            "retry": RetryOptions(max_attempts=max_attempts),
        }
    )


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "hang"}, AttemptTimedOut),
        ({"kind": "latency", "delay_s": 5}, AttemptTimedOut),
        ({"kind": "slow_body", "delay_s": 5}, AttemptTimedOut),
        ({"kind": "reset"}, httpx.ReadError),
        ({"kind": "truncated"}, httpx.RemoteProtocolError),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
async def test_no_whole_answer(recorder: Recorder, fault: dict[str, Any], error: type[Exception]) -> None:
    """What is not a whole answer in time is an error that knows that the request was sent; the next call is well."""
    async with (
        serving(_payments(recorder)) as (port, _),
        create_client(_dependency(port, 1, timeout_s=1.0), recorder.telemetry("orders"), None) as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as operator,  # has more time
    ):
        (await operator.put("/faults", json=fault)).raise_for_status()
        with pytest.raises(error) as caught:
            await client.get("/payments/1")
        await operator.delete("/faults")
        assert (await client.get("/payments/1")).json() == {"order_id": "1"}
    assert isinstance(caught.value, httpx.RequestError)
    assert was_sent(caught.value)


@pytest.mark.parametrize(
    ("fault", "status"),
    [({"kind": "error", "status": 500}, 500), ({"kind": "not_json"}, 200)],
    ids=["error", "not_json"],
)
async def test_wrong_answer(recorder: Recorder, fault: dict[str, Any], status: int) -> None:
    """A whole answer is the caller's to judge."""
    async with (
        serving(_payments(recorder)) as (port, _),
        create_client(_dependency(port, 1), recorder.telemetry("orders"), None) as client,
    ):
        (await client.put("/faults", json=fault)).raise_for_status()
        assert (await client.get("/payments/1")).status_code == status


async def test_passing_fault(recorder: Recorder) -> None:
    """A call outlives a fault that passes between two attempts, and the trace shows both."""
    async with (
        serving(_payments(recorder)) as (port, _),
        create_client(_dependency(port, 2), recorder.telemetry("orders"), None) as client,
    ):
        (await client.put("/faults", json={"kind": "hang", "seconds": 1, "route": "/payments"})).raise_for_status()
        recorder.clear()
        assert (await client.get("/payments/1")).status_code == 200
    shown = ("http.response.status_code", "http.request.resend_count", "clearspan.fault")
    assert (
        recorder.tree(attributes=shown, logs=False)
        == """\
trace 1
  orders CLIENT GET http.response.status_code=503 ERROR
    payments SERVER GET /payments/{order_id} http.response.status_code=503 clearspan.fault=hang ERROR

trace 2
  orders CLIENT GET http.response.status_code=200 http.request.resend_count=1
    payments SERVER GET /payments/{order_id} http.response.status_code=200"""
    )
