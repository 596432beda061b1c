from __future__ import annotations

import sqlite3

import httpx
import pytest

from observability.viewer.app import create_pages
from observability.viewer.arrivals import Arrivals
from observability.viewer.guard import SECURITY_HEADERS
from observability.viewer.store import Store

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "path", ["/pages/..%2Fapp.py", "/pages/app.py", "/pages/traces.html", "/pages/trace/..%2Ftraces.html", "/nowhere"]
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
    routes = [route.path for route in create_pages(store, Arrivals(), otlp_url="").routes]  # type: ignore[attr-defined]
    for path in [*routes, "/nowhere", "/pages/traces.js", "/api/traces?limit=x"]:
        response = await pages.get(path)
        assert response.status_code < 500
        for name, value in SECURITY_HEADERS:
            assert response.headers[name.decode()] == value.decode()
        refused = await pages.get(path, headers={"host": "evil.example"})
        assert "default-src 'none'" in refused.headers["content-security-policy"]
