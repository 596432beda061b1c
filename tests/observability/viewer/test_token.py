from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.routing import Route

from observability.viewer.app import create_pages
from observability.viewer.arrivals import Arrivals
from observability.viewer.store import Store
from observability.viewer.token import Token

pytestmark = pytest.mark.anyio

SECRET = "a secret of the test"
BEARER = {"authorization": f"Bearer {SECRET}"}


@pytest.fixture
async def pages(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    """A reader, who does not know the token yet, of pages on a machine of a name."""
    transport = httpx.ASGITransport(create_pages(store, Arrivals(), otlp_url="", token=Token(SECRET)))
    async with httpx.AsyncClient(transport=transport, base_url="http://viewer.example:16686") as client:
        yield client


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([b"Bearer a secret of the test"], True),
        ([b"bearer a secret of the test"], True),
        ([], False),
        ([b""], False),
        ([b"Bearer"], False),
        ([b"Bearer "], False),
        ([b"Bearer wrong"], False),
        ([b"Bearer a secret of the tes"], False),
        ([b"Bearer a secret of the test2"], False),
        ([b"Bearer \xff"], False),
        ([b"a secret of the test"], False),
        ([b"Basic a secret of the test"], False),
        ([b"Bearer a secret of the test"] * 2, False),
    ],
)
def test_told(values: list[bytes], told: bool) -> None:
    """The token is told by exactly one header of the scheme Bearer."""
    assert Token(SECRET).is_told_by(values) == told


def test_representation() -> None:
    """A token does not show itself."""
    assert SECRET not in repr(Token(SECRET)) + str(Token(SECRET))


async def test_every_route(store: Store, pages: httpx.AsyncClient) -> None:
    """No route, known or not, answers who does not know the token, but what the way in needs."""
    app = create_pages(store, Arrivals(), otlp_url="")
    paths = {route.path for route in app.routes if isinstance(route, Route)} | {
        "/nowhere",
        "/login",
        "/pages/common.js",
    }
    for path in paths:
        for method in ("GET", "HEAD", "POST", "OPTIONS"):
            answer = await pages.request(method, path)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), (method, path)
    for path in ("/pages/login.js", "/pages/viewer.css"):
        assert (await pages.get(path)).status_code == 200


async def test_bearer(pages: httpx.AsyncClient) -> None:
    """A program tells the token with each request, by whatever name it came here."""
    assert (await pages.get("/api/find", headers=BEARER)).status_code == 200
    assert (await pages.get("/api/find")).status_code == 401


async def test_cookie(pages: httpx.AsyncClient) -> None:
    """A browser tells it once, and has a cookie from then on, which no script and no other site can use."""
    assert "login.js" in (await pages.get("/trace/1")).text
    assert (await pages.post("/login", headers={"authorization": "Bearer wrong"})).status_code == 401
    answer = await pages.post("/login", headers=BEARER)
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    assert SECRET not in cookie
    assert (await pages.get("/api/find")).status_code == 200
    pages.cookies.clear()
    assert (await pages.get("/api/find", headers={"cookie": "clearspan-viewer=wrong"})).status_code == 401


async def test_foreign_page(pages: httpx.AsyncClient) -> None:
    """A foreign page cannot ask even with the cookie of its reader."""
    await pages.post("/login", headers=BEARER)
    assert (await pages.get("/api/find", headers={"origin": "http://evil.example"})).status_code == 403
    assert (await pages.get("/api/find", headers={"sec-fetch-site": "cross-site"})).status_code == 403
    assert (await pages.post("/login", headers=BEARER | {"sec-fetch-site": "cross-site"})).status_code == 403


async def test_answers_are_safe(pages: httpx.AsyncClient) -> None:
    """The way in has the headers that every page has."""
    answer = await pages.get("/")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert (answer.headers["referrer-policy"], answer.headers["cache-control"]) == ("no-referrer", "no-store")
