"""Jaeger's query API over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from observability.viewer.ingest import ingest_traces
from observability.viewer.store import Store
from tests.observability.viewer.samples import START_NS, add_logs, called, log, nested, trace_id

pytestmark = pytest.mark.anyio

TRACE = trace_id(1).hex()
START_MS = START_NS // 10**6


async def test_search(store: Store, pages: httpx.AsyncClient) -> None:
    """Jaeger's page finds services, operations and traces where it looks for them."""
    ingest_traces(nested(1, ["root", "child"]).SerializeToString(), store)

    async def data(path: str) -> Any:
        answer = (await pages.get(path)).json()
        assert answer["errors"] is None
        return answer["data"]

    assert await data("/api/services") == ["orders"]
    assert await data("/api/services/orders/operations") == ["child", "root"]
    assert await data("/api/operations?service=orders&spanKind=internal") == [
        {"name": "child", "spanKind": "internal"},
        {"name": "root", "spanKind": "internal"},
    ]
    assert await data("/api/operations?service=orders&spanKind=server") == []
    (trace,) = await data("/api/traces?service=orders&limit=20&lookback=1h&maxDuration&minDuration")
    assert await data(f"/api/traces/{TRACE}") == [trace]
    assert await data(f"/api/traces/{TRACE.lstrip('0')}") == [trace]


async def test_logs(store: Store, pages: httpx.AsyncClient) -> None:
    """The logs of a trace stand below it; one that is not known has none."""
    add_logs(store, log(1))
    assert len((await pages.get(f"/api/traces/{TRACE}/logs")).json()["data"]) == 1
    assert (await pages.get("/api/traces/abc/logs")).json()["data"] == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (f"?endTs={START_MS + 60_000}&lookback=60000", [{"parent": "orders", "child": "payments", "callCount": 2}]),
        (f"?endTs={START_MS - 120_000}&lookback=60000", []),
        (f"?endTs={10**17}&lookback={10**17}", [{"parent": "orders", "child": "payments", "callCount": 2}]),
        ("", []),
    ],
)
async def test_dependencies(store: Store, pages: httpx.AsyncClient, query: str, found: list[object]) -> None:
    """Grafana's graph of services: who called whom how often in a time, by default the last day; events count too."""
    ingest_traces(called(1, "orders", "payments").SerializeToString(), store)
    ingest_traces(called(2, "orders", "payments", messaging=True).SerializeToString(), store)
    assert (await pages.get(f"/api/dependencies{query}")).json()["data"] == found


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/traces?limit=0", 400),
        ("/api/traces/xyz", 400),
        ("/api/traces/xyz/logs", 400),
        ("/api/dependencies?endTs=now", 400),
        ("/api/traces/abc", 404),
    ],
)
async def test_bad_question(pages: httpx.AsyncClient, path: str, status: int) -> None:
    """What is malformed or unknown is told so, in Jaeger's shape of an error."""
    response = await pages.get(path)
    assert response.status_code == status
    assert response.json()["errors"][0]["code"] == status
