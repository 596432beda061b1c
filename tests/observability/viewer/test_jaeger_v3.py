"""Version 3 of Jaeger's query API over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from observability.viewer.ingest import ingest_traces
from observability.viewer.store import Store
from tests.observability.viewer.samples import START_NS, called, trace_id

pytestmark = pytest.mark.anyio

TRACE = trace_id(1).hex()
START = datetime.fromtimestamp(START_NS / 1e9, UTC)
BEFORE, AFTER = ((START + timedelta(minutes=minutes)).isoformat() for minutes in (-1, 1))


@pytest.fixture
def filled(store: Store) -> None:
    """A store with one trace of two services."""
    ingest_traces(called(1, "orders", "payments").SerializeToString(), store)


async def test_services_and_operations(filled: None, pages: httpx.AsyncClient) -> None:  # noqa: ARG001
    """Services, and operations of one of them, by kind if one is named."""
    assert (await pages.get("/api/v3/services")).json() == {"services": ["orders", "payments"]}
    found = {"operations": [{"name": "payments it", "spanKind": "server"}]}
    for query in ("", "&spanKind=server", "&span_kind=server"):
        assert (await pages.get(f"/api/v3/operations?service=payments{query}")).json() == found
    assert (await pages.get("/api/v3/operations?service=payments&spanKind=client")).json() == {"operations": []}


async def test_trace(filled: None, pages: httpx.AsyncClient) -> None:  # noqa: ARG001
    """One trace as OTLP JSON, also with the times that Grafana names."""
    for query in ("", f"?start_time={BEFORE}&end_time={AFTER}"):
        result = (await pages.get(f"/api/v3/traces/{TRACE}{query}")).json()["result"]
        spans = [one["scopeSpans"][0]["spans"] for one in result["resourceSpans"]]
        assert [[span["traceId"] for span in some] for some in spans] == [[TRACE], [TRACE]]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 200),
        (f"query.serviceName=payments&query.startTimeMin={BEFORE}&query.startTimeMax={AFTER}", 200),
        (f"query.service_name=payments&query.start_time_min={BEFORE}&query.start_time_max={AFTER}", 200),
        (f"query.startTimeMax={BEFORE}", 404),
        (f"query.startTimeMin={AFTER}".replace("+00:00", "Z"), 404),
        ("query.operationName=payments it&query.searchDepth=1", 200),
        ("query.durationMin=5ms&query.num_traces=5", 200),
        ("query.durationMin=50ms", 404),
        ('query.attributes={"span.kind":"server"}', 200),
        ('query.attributes={"span.kind":"consumer"}', 404),
        ("query.startTimeMin=yesterday", 400),
        ("query.startTimeMin=2026-01-31T12:00:00", 400),
        ("query.searchDepth=0", 400),
    ],
)
async def test_search(filled: None, pages: httpx.AsyncClient, query: str, status: int) -> None:  # noqa: ARG001
    """A search by what Jaeger's and Grafana's clients name; nothing found is 404, as Jaeger says it."""
    answer = await pages.get(f"/api/v3/traces?{query}")
    assert answer.status_code == status
    told = answer.json()
    assert "result" in told if status == 200 else told["error"]["httpCode"] == status


@pytest.mark.parametrize(("path", "status"), [("xyz", 400), ("abc", 404)])
async def test_no_trace(pages: httpx.AsyncClient, path: str, status: int) -> None:
    """A trace that is malformed or not kept is told so."""
    answer = await pages.get(f"/api/v3/traces/{path}")
    assert (answer.status_code, answer.json()["error"]["httpCode"]) == (status, status)
