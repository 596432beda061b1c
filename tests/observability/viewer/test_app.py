from __future__ import annotations

import sqlite3
from typing import Any

import httpx
import pytest

from observability.viewer.app import create_pages
from observability.viewer.guard import SECURITY_HEADERS
from observability.viewer.ingest import ingest_traces
from observability.viewer.store import Store
from tests.observability.viewer.samples import add_logs, log, nested, trace_id

pytestmark = pytest.mark.anyio

TRACE = trace_id(1).hex()


async def test_jaeger(store: Store, pages: httpx.AsyncClient) -> None:
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


async def test_recent(store: Store, pages: httpx.AsyncClient) -> None:
    """The pages' own questions: the newest traces with what the list needs, and one trace."""
    ingest_traces(nested(1, ["root", "child"]).SerializeToString(), store)
    answer = (await pages.get("/api/recent?limit=5")).json()
    assert (answer["services"], answer["otlp"]) == (["orders"], "http://127.0.0.1:4318")
    assert [trace["name"] for trace in answer["traces"]] == ["root"]
    assert (await pages.get("/api/recent?service=payments")).json()["traces"] == []
    assert len((await pages.get(f"/api/recent/{TRACE}")).json()["spans"]) == 2
    as_otlp = await pages.get(f"/api/recent/{TRACE}/otlp")
    assert len(as_otlp.json()["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 2
    assert as_otlp.headers["content-disposition"] == f'attachment; filename="trace-{TRACE}.json"'


async def test_logs(store: Store, pages: httpx.AsyncClient) -> None:
    """The logs of a trace stand below it; one that is not known has none."""
    add_logs(store, log(1))
    assert len((await pages.get(f"/api/traces/{TRACE}/logs")).json()["data"]) == 1
    assert (await pages.get("/api/traces/abc/logs")).json()["data"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/traces?limit=0", 400),
        ("/api/recent?limit=0", 400),
        ("/api/traces/xyz", 400),
        ("/api/recent/xyz", 400),
        ("/api/traces/xyz/logs", 400),
        ("/api/traces/abc", 404),
        ("/api/recent/abc", 404),
        ("/api/recent/abc/otlp", 404),
    ],
)
async def test_bad_question(pages: httpx.AsyncClient, path: str, status: int) -> None:
    """What is malformed or unknown is told so, in Jaeger's shape of an error."""
    response = await pages.get(path)
    assert response.status_code == status
    assert response.json()["errors"][0]["code"] == status


@pytest.mark.parametrize(
    "path", ["/pages/..%2Fapp.py", "/pages/app.py", "/pages/list.html", "/pages/trace/..%2Flist.html", "/nowhere"]
)
async def test_unknown_path(pages: httpx.AsyncClient, path: str) -> None:
    """Only what is named is served, never a file by its path."""
    assert (await pages.get(path)).status_code == 404


async def test_broken_file(store: Store, pages: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file fails, the answer is 503 with the reason."""

    def broken() -> list[str]:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(store, "services", broken)
    response = await pages.get("/api/services")
    assert response.status_code == 503
    assert response.json()["errors"][0]["msg"] == "database disk image is malformed"


async def test_security_headers(store: Store, pages: httpx.AsyncClient) -> None:
    """Every answer forbids foreign content, whatever is asked and however it fails."""
    routes = [route.path for route in create_pages(store, otlp_url="").routes]  # type: ignore[attr-defined]
    for path in [*routes, "/nowhere", "/pages/list.js", "/api/traces?limit=x"]:
        response = await pages.get(path)
        assert response.status_code < 500
        for name, value in SECURITY_HEADERS:
            assert response.headers[name.decode()] == value.decode()
        refused = await pages.get(path, headers={"host": "evil.example"})
        assert "default-src 'none'" in refused.headers["content-security-policy"]
