from __future__ import annotations

import asyncio
import gzip
import logging
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from observability.viewer import body as body_module
from observability.viewer.arrivals import Arrivals
from observability.viewer.body import MAX_BODY_BYTES, Bodies
from observability.viewer.intake import Intake
from observability.viewer.receiver import create_receiver
from observability.viewer.store import Store
from observability.viewer.token import Token
from tests.observability.viewer.samples import JSON, PROTOBUF, as_json, log_request, nested, notice, trace_id

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.anyio

TRACE = nested(1, ["root", "child"]).SerializeToString()
TRACE_JSON = as_json(nested(1, ["root", "child"]))
GZIP = {**PROTOBUF, "content-encoding": "gzip"}
ZSTD = {**PROTOBUF, "content-encoding": "zstd"}


class _Slow:
    """A body that has begun and whose rest waits until it is let go."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = content
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content
        self.begun.set()
        await self.go.wait()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (PROTOBUF, TRACE),
        (GZIP, gzip.compress(TRACE)),
        (ZSTD, zstd.compress(TRACE)),
        ({"content-type": "Application/X-Protobuf; charset=utf-8", "content-encoding": "GZIP"}, gzip.compress(TRACE)),
    ],
    ids=["plain", "gzip", "zstd", "loosely written"],
)
async def test_stored(store: Store, receiver: httpx.AsyncClient, headers: dict[str, str], body: bytes) -> None:
    """What was answered with 200 is stored, however often it comes."""
    for _ in range(2):
        response = await receiver.post("/v1/traces", content=body, headers=headers)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"] == "application/x-protobuf"
    assert store.counts() == (1, 2)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, TRACE_JSON),
        ({"content-type": "application/json; charset=utf-8", "content-encoding": "gzip"}, gzip.compress(TRACE_JSON)),
    ],
    ids=["plain", "gzip"],
)
async def test_json(store: Store, receiver: httpx.AsyncClient, headers: dict[str, str], body: bytes) -> None:
    """The same trace in JSON is stored as the same spans, and the answer is JSON too."""
    await receiver.post("/v1/traces", content=TRACE, headers=PROTOBUF)
    stored = store.trace(trace_id(1))
    response = await receiver.post("/v1/traces", content=body, headers=headers)
    assert (response.status_code, response.json(), response.headers["content-type"]) == (200, {}, "application/json")
    assert store.trace(trace_id(1)) == stored


async def test_notices_in_json(store: Store, receiver: httpx.AsyncClient) -> None:
    """A span that runs may be told of in JSON too."""
    await receiver.post("/v1/logs", content=as_json(log_request(notice(1))), headers=JSON)
    assert [one.span.name for one in store.unfinished.spans()] == ["POST /orders"]


async def test_json_partly_stored(receiver: httpx.AsyncClient) -> None:
    """What of a request in JSON is refused is counted as JSON has 64-bit numbers, in text."""
    spans = [{"traceId": "00", "spanId": "eee19b7ec3c1b174", "name": "root"}]
    body = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    response = await receiver.post("/v1/traces", json=body)
    assert response.status_code == 200
    assert response.json() == {"partialSuccess": {"rejectedSpans": "1", "errorMessage": "1 with invalid ids"}}


async def test_partly_stored(receiver: httpx.AsyncClient) -> None:
    """What of a request is refused is counted in an answer of 200, which nobody repeats."""
    request = nested(1, ["root", "child"])
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = bytes(16)
    response = await receiver.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    assert response.status_code == 200
    assert ExportTraceServiceResponse.FromString(response.content).partial_success.rejected_spans == 1


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, b"", 415),
        ({"content-type": "text/plain"}, b"", 415),
        ({"content-type": "application/json-seq"}, b"{}", 415),
        ({**PROTOBUF, "content-encoding": "br"}, b"", 415),
        ({**PROTOBUF, "content-encoding": "gzip, gzip"}, b"", 415),
        ({**JSON, "content-encoding": "br"}, b"{}", 415),
        (PROTOBUF, b"\xff\xff\xff", 400),
        (JSON, b"[]", 400),
        (JSON, TRACE, 400),
        (GZIP, b"no gzip", 400),
        (GZIP, gzip.compress(b"x" * 1000)[:-20], 400),
        (GZIP, gzip.compress(bytes(MAX_BODY_BYTES + 1)), 413),
        (ZSTD, zstd.compress(bytes(MAX_BODY_BYTES + 1)), 413),
        (PROTOBUF, bytes(MAX_BODY_BYTES + 1), 413),
    ],
    ids=[
        *("none", "text", "other json", "brotli", "twice", "brotli json", "garbage", "no object", "no json", "no gzip"),
        *("cut off", "bomb", "zstd bomb", "too large"),
    ],
)
async def test_unreadable(receiver: httpx.AsyncClient, headers: dict[str, str], body: bytes, status: int) -> None:
    """What cannot be read is refused with the status that keeps its sender from repeating it."""
    for signal in ("traces", "logs", "metrics"):
        response = await receiver.post(f"/v1/{signal}", content=body, headers=headers)
        assert response.status_code == status
        if headers.items() >= JSON.items():
            assert (response.headers["content-type"], "message" in response.json()) == ("application/json", True)
        elif headers.items() >= PROTOBUF.items():
            assert response.headers["content-type"] == "application/x-protobuf"
            assert Status.FromString(response.content).message


async def test_too_many_requests(receiver: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """While as many requests are held as may be, the next is told to come again soon; then there is room again."""
    monkeypatch.setattr(body_module, "MAX_REQUESTS", 3)
    await _fill(receiver, [_Slow() for _ in range(3)])


async def test_too_many_bytes(receiver: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """While as many bytes are held as may be, the next request is told to come again soon; then there is room again."""
    monkeypatch.setattr(body_module, "MAX_HELD_BYTES", 2 * len(TRACE))
    await _fill(receiver, [_Slow(TRACE), _Slow(TRACE)])


async def _fill(receiver: httpx.AsyncClient, bodies: list[_Slow]) -> None:
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(receiver.post("/v1/traces", content=body, headers=PROTOBUF)) for body in bodies]
        for body in bodies:
            await body.begun.wait()
        refused = await receiver.post("/v1/traces", content=TRACE, headers=PROTOBUF)
        assert refused.status_code == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 5
        for body in bodies:
            body.go.set()
    assert [task.result().status_code for task in held] == [200] * len(bodies)
    assert (await receiver.post("/v1/traces", content=TRACE, headers=PROTOBUF)).status_code == 200


async def test_slow_body(receiver: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not arrive in time is cut off, and its room is free again."""
    monkeypatch.setattr(body_module, "BODY_TIMEOUT_S", 0.01)
    monkeypatch.setattr(body_module, "MAX_REQUESTS", 1)
    for _ in range(2):
        response = await receiver.post("/v1/traces", content=_Slow(b"\x0a"), headers=PROTOBUF)
        assert (response.status_code, response.headers["connection"]) == (408, "close")


async def test_full_disk(store: Store, receiver: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """While the disk is full senders are told to come again, one line says so, and then everything goes on."""
    store._database._writer.execute("PRAGMA max_page_count = 1")
    big = nested(1, ["x" * 10_000] * 100).SerializeToString()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            response = await receiver.post("/v1/traces", content=big, headers=PROTOBUF)
            assert response.status_code == 503
            assert 1 <= int(response.headers["retry-after"]) <= 5
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "telemetry cannot be stored, its senders are told to come again: database or disk is full (if that stays, "
    )
    store._database._writer.execute("PRAGMA max_page_count = 100000")
    assert (await receiver.post("/v1/traces", content=big, headers=PROTOBUF)).status_code == 200


async def test_locked_file(store: Store, receiver: httpx.AsyncClient, tmp_path: Path) -> None:
    """While another process holds the file senders are told to come again."""
    store._database._writer.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(tmp_path / "viewer.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert (await receiver.post("/v1/traces", content=TRACE, headers=PROTOBUF)).status_code == 503
    assert (await receiver.post("/v1/traces", content=TRACE, headers=PROTOBUF)).status_code == 200


PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}


async def test_listed_origin(store: Store) -> None:
    """A page of a listed origin may send and read the answer, a refusal too."""
    listed = {"origin": "https://shop.example", "sec-fetch-site": "cross-site"}
    async with _receiver(store, origins=["https://shop.example"]) as client:
        preflight = await client.options("/v1/traces", headers=listed | PREFLIGHT)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-methods"] == "POST"
        for body, status in ((TRACE_JSON, 200), (b"no json", 400)):
            answer = await client.post("/v1/traces", content=body, headers=listed | JSON)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert store.counts() == (1, 2)


@pytest.mark.parametrize(
    "origin", ["http://shop.example", "https://shop.example:8443", "https://shop.example.evil.example", "null"]
)
async def test_other_origin(store: Store, origin: str) -> None:
    """No other origin may, however near."""
    async with _receiver(store, origins=["https://shop.example"]) as client:
        for answer in (
            await client.options("/v1/traces", headers={"origin": origin} | PREFLIGHT),
            await client.post("/v1/traces", content=TRACE_JSON, headers={"origin": origin} | JSON),
        ):
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
    assert store.counts() == (0, 0)


async def test_no_origin(receiver: httpx.AsyncClient) -> None:
    """Where none is listed, nothing is said of origins."""
    answer = await receiver.post("/v1/traces", content=TRACE, headers={"origin": "http://localhost"} | PROTOBUF)
    assert answer.status_code == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


async def test_token(store: Store) -> None:
    """Where a token is asked for, it comes before everything else, but for a browser's question whether it may send."""
    listed = {"origin": "https://shop.example"}
    token = {"authorization": "Bearer a secret of the test"}
    async with _receiver(store, token=Token("a secret of the test"), origins=["https://shop.example"]) as client:
        assert (await client.options("/v1/traces", headers=listed | PREFLIGHT)).status_code == 200
        for headers in (PROTOBUF, PROTOBUF | listed, {"content-type": "text/plain"}):
            answer = await client.post("/v1/traces", content=TRACE, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        answer = await client.post("/v1/traces", content=TRACE, headers=PROTOBUF | token | {"host": "viewer.example"})
        assert answer.status_code == 200
    assert store.counts() == (1, 2)


def _receiver(store: Store, *, token: Token | None = None, origins: Sequence[str] = ()) -> httpx.AsyncClient:
    app = create_receiver(Intake(store, Bodies(), Arrivals()), token=token, origins=origins)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
