"""The viewer as its senders and readers meet it: OTLP in, Jaeger's JSON out."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from observability.viewer.app import create_pages
from observability.viewer.receiver import create_receiver
from observability.viewer.store import Store

pytestmark = pytest.mark.anyio

PROTOBUF = {"content-type": "application/x-protobuf"}
XSS = "<img src=x onerror=alert(1)>"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store with room for 100 spans."""
    store = Store(tmp_path, max_spans=100)
    yield store
    store.close()


def _client(app: object, host: str = "localhost") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}")  # type: ignore[arg-type]


def _request(names: list[str]) -> ExportTraceServiceRequest:
    """One trace: each name a child of the one before."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "orders"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")

    def nest(rest: list[str]) -> None:
        if rest:
            with tracer.start_as_current_span(rest[0], attributes={"depth": len(rest)}):
                nest(rest[1:])

    nest(names)
    return encode_spans(exporter.get_finished_spans())


async def test_round_trip(store: Store) -> None:
    """A trace that a Python SDK sent is found by its service and shown in Jaeger's shape."""
    request = _request(["root", "child"])
    async with _client(create_receiver(store)) as receiver:
        response = await receiver.post(
            "/v1/traces",
            content=gzip.compress(request.SerializeToString()),
            headers={**PROTOBUF, "content-encoding": "gzip"},
        )
        again = await receiver.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    assert (response.status_code, response.content, again.status_code) == (200, b"", 200)
    async with _client(create_pages(store)) as pages:
        assert (await pages.get("/api/services")).json()["data"] == ["orders"]
        assert (await pages.get("/api/services/orders/operations")).json()["data"] == ["child", "root"]
        (trace,) = (await pages.get("/api/traces?service=orders&limit=5")).json()["data"]
        root, child = trace["spans"]
        assert (await pages.get(f"/api/traces/{trace['traceID']}")).json()["data"] == [trace]
        assert (await pages.get("/api/traces?service=payments")).json()["data"] == []
    assert (root["operationName"], root["references"]) == ("root", [])
    assert child["references"] == [{"refType": "CHILD_OF", "traceID": trace["traceID"], "spanID": root["spanID"]}]
    assert child["tags"][0] == {"key": "depth", "type": "int64", "value": 1}
    assert trace["processes"] == {"p1": {"serviceName": "orders", "tags": []}}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("operation=root", 1),
        ("operation=none", 0),
        ("minDuration=1h", 0),
        ("maxDuration=1h", 1),
        ('tags={"depth":"2"}', 1),
        ('tags={"depth":"3"}', 0),
        ("start=0&end=1", 0),
    ],
)
async def test_search(store: Store, query: str, found: int) -> None:
    """A search finds by operation, duration, tags and time."""
    async with _client(create_receiver(store)) as receiver:
        await receiver.post("/v1/traces", content=_request(["root", "child"]).SerializeToString(), headers=PROTOBUF)
    async with _client(create_pages(store)) as pages:
        assert len((await pages.get(f"/api/traces?service=orders&{query}")).json()["data"]) == found


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/traces?limit=0", 400),
        ("/api/traces?limit=x", 400),
        ("/api/traces?minDuration=soon", 400),
        ("/api/traces?tags=[", 400),
        ("/api/traces/xyz", 400),
        ("/api/traces/abc", 404),
        ("/pages/..%2Fapp.py", 404),
    ],
)
async def test_bad_question(store: Store, path: str, status: int) -> None:
    """What is malformed or unknown is told so, never as a server error."""
    async with _client(create_pages(store)) as pages:
        assert (await pages.get(path)).status_code == status


async def test_invalid_ids(store: Store) -> None:
    """Spans with ids of zeros are refused and counted; the others of the request are kept."""
    request = _request(["root", "child"])
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = bytes(16)
    async with _client(create_receiver(store)) as receiver:
        response = await receiver.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    assert ExportTraceServiceResponse.FromString(response.content).partial_success.rejected_spans == 1
    assert store.spans_and_ids() == (1, 1)


async def test_eviction(store: Store) -> None:
    """Beyond the bound the oldest traces go, whole."""
    async with _client(create_receiver(store)) as receiver:
        for _ in range(60):
            await receiver.post("/v1/traces", content=_request(["root", "child"]).SerializeToString(), headers=PROTOBUF)
    spans, traces = store.spans_and_ids()
    assert spans <= 100
    assert spans == 2 * traces


async def test_survives_restart(tmp_path: Path) -> None:
    """What was answered with 200 is there after a restart."""
    first = Store(tmp_path)
    async with _client(create_receiver(first)) as receiver:
        await receiver.post("/v1/traces", content=_request(["root"]).SerializeToString(), headers=PROTOBUF)
    first.close()
    second = Store(tmp_path)
    assert second.spans_and_ids() == (1, 1)
    second.close()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "text/plain"}, b"", 415),
        ({"content-type": "application/json"}, b"{}", 415),
        ({**PROTOBUF, "content-encoding": "br"}, b"", 415),
        (PROTOBUF, b"\xff\xff\xff", 400),
        ({**PROTOBUF, "content-encoding": "gzip"}, b"no gzip", 400),
        ({**PROTOBUF, "content-encoding": "gzip"}, gzip.compress(b"x" * 1000)[:-20], 400),
        ({**PROTOBUF, "content-encoding": "gzip"}, gzip.compress(bytes(100 * 1024 * 1024)), 413),
        ({**PROTOBUF, "content-encoding": "gzip"}, gzip.compress(bytes(40 * 1024 * 1024)) * 2, 413),
        (PROTOBUF, bytes(17 * 1024 * 1024), 413),
    ],
    ids=["text", "json", "brotli", "garbage", "no gzip", "cut off", "bomb", "bomb of two", "too large"],
)
async def test_broken_body(store: Store, headers: dict[str, str], body: bytes, status: int) -> None:
    """What cannot be read is refused with the status that keeps its sender from repeating it."""
    async with _client(create_receiver(store)) as receiver:
        assert (await receiver.post("/v1/traces", content=body, headers=headers)).status_code == status


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(signal=st.sampled_from(["traces", "logs", "metrics"]), body=st.binary(max_size=200))
async def test_any_body(store: Store, signal: str, body: bytes) -> None:
    """Whatever bytes come, they are accepted or refused, never a server error."""
    async with _client(create_receiver(store)) as receiver:
        assert (await receiver.post(f"/v1/{signal}", content=body, headers=PROTOBUF)).status_code in (200, 400)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:16686", 200),
        ("127.0.0.1:16686", 200),
        ("[::1]:16686", 200),
        ("localhost.", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:16686", 421),
        ("localhost:evil", 421),
        ("", 421),
    ],
)
async def test_host(store: Store, host: str, status: int) -> None:
    """Only a request that names a loopback host is answered, on both ports."""
    for app in (create_pages(store), create_receiver(store)):
        async with _client(app) as client:
            assert (await client.get("/livez", headers={"host": host})).status_code == status


async def test_foreign_origin(store: Store) -> None:
    """A page of another origin can neither write nor read."""
    async with _client(create_receiver(store)) as receiver:
        headers = {**PROTOBUF, "origin": "http://evil.example"}
        assert (await receiver.post("/v1/traces", content=b"", headers=headers)).status_code == 403


async def test_security_headers(store: Store) -> None:
    """Every answer of the page's port forbids foreign content, its errors too."""
    async with _client(create_pages(store)) as pages:
        for path in ("/", "/api/services", "/nowhere", "/pages/list.js"):
            assert "default-src 'none'" in (await pages.get(path)).headers["content-security-policy"]
