from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from observability.viewer.app import create_pages
from observability.viewer.arrivals import Arrivals
from observability.viewer.body import Bodies
from observability.viewer.intake import Intake
from observability.viewer.receiver import create_receiver
from observability.viewer.store import Store

pytestmark = pytest.mark.anyio

OWN = [b"localhost", b"LOCALHOST:16686", b"127.0.0.1:16686", b"[::1]:16686", b"[::1]", b"localhost."]
FOREIGN = [
    [b"evil.example"],
    [b"localhost.evil.example"],
    [b"127.0.0.1.evil.example:16686"],
    [b"localhost:evil"],
    [b"localhost:"],
    [b"[::1]evil"],
    [b"evil@localhost"],
    [b"evil.example:localhost"],
    [b""],
    [],
    [b"localhost", b"evil.example"],
    [b"localhost", b"localhost"],
]


@pytest.fixture
def apps(store: Store) -> list[Starlette]:
    """Both applications."""
    return [create_pages(store, Arrivals(), otlp_url=""), create_receiver(Intake(store, Bodies(), Arrivals()))]


async def _status(app: Starlette, path: str, headers: Sequence[tuple[bytes, bytes]], method: str = "GET") -> int:
    """Ask by ASGI itself, since no client would send such hosts."""
    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request"}

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    asgi = {"version": "3.0", "spec_version": "2.4"}
    scope = {"type": "http", "asgi": asgi, "method": method, "path": path, "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return statuses[0]


@pytest.mark.parametrize("hosts", FOREIGN, ids=lambda hosts: b",".join(hosts).decode() or "none")
async def test_foreign_host(apps: list[Starlette], hosts: list[bytes]) -> None:
    """No route, known or not, answers a request that does not name a loopback host exactly once."""
    for app in apps:
        paths = [route.path for route in app.routes if isinstance(route, Route)]
        assert paths
        for path in [*paths, "/nowhere"]:
            for method in ("GET", "POST", "OPTIONS"):
                assert await _status(app, path, [(b"host", host) for host in hosts], method) == 421


@pytest.mark.parametrize("host", OWN, ids=bytes.decode)
async def test_own_host(apps: list[Starlette], host: bytes) -> None:
    """A request that names a loopback host is answered, whatever its port."""
    for app in apps:
        assert await _status(app, "/livez", [(b"host", host)]) == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ((b"origin", b"http://evil.example"), 403),
        ((b"origin", b"null"), 403),
        ((b"origin", b"http://localhost:3000"), 403),
        ((b"sec-fetch-site", b"cross-site"), 403),
        ((b"sec-fetch-site", b"same-site"), 403),
        ((b"origin", b"http://localhost:4318"), 415),
        ((b"sec-fetch-site", b"same-origin"), 415),
        ((b"sec-fetch-site", b"none"), 415),
    ],
    ids=lambda value: b" ".join(value).decode() if isinstance(value, tuple) else "",
)
async def test_foreign_page(store: Store, header: tuple[bytes, bytes], status: int) -> None:
    """A page of another origin cannot post, not even what needs no preflight."""
    headers = [(b"host", b"localhost:4318"), (b"content-type", b"text/plain"), header]
    for signal in ("traces", "logs", "metrics"):
        assert (
            await _status(create_receiver(Intake(store, Bodies(), Arrivals())), f"/v1/{signal}", headers, "POST")
            == status
        )


async def test_link_from_elsewhere(store: Store) -> None:
    """A link on any page may lead here, but a foreign page reads nothing, nor makes the store work as by an image."""
    app = create_pages(store, Arrivals(), otlp_url="")
    host, link = (b"host", b"localhost:16686"), (b"sec-fetch-site", b"cross-site")
    assert await _status(app, "/", [host, link]) == 200
    assert await _status(app, "/trace/1", [host, link]) == 200
    assert await _status(app, "/api/traces", [host, link]) == 403
    assert await _status(app, "/api/traces", [host, (b"sec-fetch-site", b"same-origin")]) == 200
    assert await _status(app, "/api/traces", [host]) == 200
    assert await _status(app, "/api/traces", [host, (b"origin", b"http://evil.example")]) == 403


def test_page_has_no_html_from_text() -> None:
    """No script of the pages parses text as HTML."""
    folder = Path(__file__).parents[3] / "observability" / "viewer" / "pages"
    scripts = [file.read_text() for file in folder.glob("*.js")]
    assert scripts
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"):
        assert not any(word in script for script in scripts)
