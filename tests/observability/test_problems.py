"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response

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


@pytest.mark.parametrize(("status", "title"), [(499, "Client error"), (599, "Server error")])
async def test_unnamed_status(recorder: Recorder, status: int, title: str) -> None:
    """A status that no RFC names is answered as it is."""
    app = FastAPI()

    @app.get("/")
    async def odd() -> None:
        raise HTTPException(status, "odd")

    observe(app, recorder.telemetry("service"))
    async with client_for(app) as client:
        response = await client.get("/")
    assert (response.status_code, response.json()["title"], response.json()["detail"]) == (status, title, "odd")


async def test_own_handler_stays(recorder: Recorder) -> None:
    """A handler that the application has set itself is not replaced."""
    app = FastAPI()

    async def own(_request: Request, _error: Exception) -> Response:
        return PlainTextResponse("own", 404)

    app.add_exception_handler(404, own)
    app.add_exception_handler(RequestValidationError, own)

    @app.get("/number")
    async def number(n: int) -> int:
        return n

    observe(app, recorder.telemetry("service"))
    async with client_for(app) as client:
        assert [(await client.get(path)).text for path in ("/nowhere", "/number?n=x")] == ["own", "own"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/sub/nowhere", 404), ("/sub/crash", 500), ("/sub/number?n=x", 422)],
    ids=["404", "500", "422"],
)
async def test_mounted(recorder: Recorder, path: str, status: int) -> None:
    """A mounted FastAPI application answers with problems too, even if it was mounted afterwards."""
    app, sub = FastAPI(), FastAPI()

    @sub.get("/crash")
    async def crash() -> None:
        raise RuntimeError("boom")

    @sub.get("/number")
    async def number(n: int) -> int:
        return n

    observe(app, recorder.telemetry("service"))
    app.mount("/sub", sub)
    async with client_for(app) as client:
        response = await client.get(path)
    assert (response.status_code, response.json()["status"]) == (status, status)
    (span,) = recorder.spans
    assert span.context is not None
    assert response.json()["trace_id"] == f"{span.context.trace_id:032x}"


@pytest.mark.parametrize(
    ("content", "headers", "told"),
    [
        (b'{"a": 1}', {}, "Send the body as JSON, with the header content-type: application/json."),
        (b'{"a": 1}', {"content-type": "text/plain"}, "Send the body as JSON"),
        (b"[]", {"content-type": "application/json"}, None),
    ],
)
async def test_forgotten_content_type(
    recorder: Recorder, content: bytes, headers: dict[str, str], told: str | None
) -> None:
    """Who forgets to say that the body is JSON is told so, and nobody else is."""
    response = await _problem(recorder, "POST", "/orders", content=content, headers=headers)
    assert response.status_code == 422
    assert ("content-type" in response.json()["detail"]) is (told is not None)
    assert (told or "") in response.json()["detail"]


async def test_place_in_broken_json(recorder: Recorder) -> None:
    """Of broken JSON the place and the reason are told."""
    headers = {"content-type": "application/json"}
    response = await _problem(recorder, "POST", "/orders", content=b'{"a": ', headers=headers)
    assert response.json()["errors"] == [{"detail": "No JSON: Expecting value at character 6", "pointer": "#/body"}]


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
