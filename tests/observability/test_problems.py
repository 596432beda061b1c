"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI, HTTPException

from observability.instrument import observe
from observability.testing import Recorder, client_for

pytestmark = pytest.mark.anyio


async def _problem(recorder: Recorder, method: str, path: str, **options: object) -> httpx.Response:
    app = FastAPI()

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "Short and stout", headers={"x-handle": "here"})

    @app.get("/crash")
    async def crash() -> None:
        raise RuntimeError("password=canary")

    @app.post("/orders")
    async def orders(body: dict[str, int]) -> int:
        return len(body)

    observe(app, recorder.telemetry("service"))
    async with client_for(app) as client:
        response = await client.request(method, path, **options)  # type: ignore[arg-type]
    assert response.headers["content-type"] == "application/problem+json"
    (span,) = recorder.spans
    assert span.context is not None
    assert response.json()["trace_id"] == f"{span.context.trace_id:032x}"
    return response


async def test_http_error(recorder: Recorder) -> None:
    """An HTTPException keeps its status, detail and headers."""
    response = await _problem(recorder, "GET", "/teapot")
    members = response.json()
    assert (response.status_code, members["title"], members["detail"]) == (418, "I'm a Teapot", "Short and stout")
    assert response.headers["x-handle"] == "here"


async def test_unknown_path(recorder: Recorder) -> None:
    """An unknown path is a problem like any other."""
    assert (await _problem(recorder, "GET", "/nowhere")).json()["title"] == "Not Found"


async def test_wrong_method(recorder: Recorder) -> None:
    """A wrong method says which ones are allowed."""
    response = await _problem(recorder, "DELETE", "/orders")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_invalid_request(recorder: Recorder) -> None:
    """An invalid body is told by pointer, without its values."""
    response = await _problem(recorder, "POST", "/orders", json={"a/b": "canary"})
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == ["#/body/a~1b"]
    assert "canary" not in response.text


async def test_broken_json(recorder: Recorder) -> None:
    """Broken JSON is an invalid request, no server error."""
    response = await _problem(
        recorder, "POST", "/orders", content=b'{"a": ', headers={"content-type": "application/json"}
    )
    assert response.status_code == 422


async def test_unhandled(recorder: Recorder) -> None:
    """An exception that nobody handled tells the caller nothing but the trace."""
    response = await _problem(recorder, "GET", "/crash")
    assert response.status_code == 500
    assert "canary" not in response.text
