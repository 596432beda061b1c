"""Pages of other origins that send telemetry, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from playwright.sync_api import Page

from tests.observability.viewer.process import running_viewer
from tests.observability.viewer.samples import as_json, nested

TRACE = as_json(nested(1, ["root"])).decode()
FETCH = """async ([url, body]) => {
    const options = { method: "POST", body, headers: { "content-type": "application/json" } };
    return fetch(url, options).then((answer) => answer.status, () => "refused");
}"""
BEACON = "([url, body]) => navigator.sendBeacon(url, new Blob([body], { type: 'application/json' }))"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[str]:
    """The origin of a page that is served; Chromium lets none that a test makes up reach the loopback."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "index.html").write_text("a shop")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("listed", "answer"), [(True, 200), (False, "refused")])
def test_fetch(shop: str, page: Page, tmp_path: Path, *, listed: bool, answer: object) -> None:
    """A page of a listed origin sends and reads the answer; one of another origin can do neither."""
    page.goto(shop)
    with running_viewer(tmp_path, "--allow-origin", shop if listed else f"{shop}0") as viewer:
        assert page.evaluate(FETCH, [f"{viewer.otlp}/v1/traces", TRACE]) == answer
        assert len(httpx.get(f"{viewer.page}/api/find").json()["traces"]) == listed


def test_beacon(shop: str, page: Page, tmp_path: Path) -> None:
    """What a page of a listed origin sends when it is left arrives."""
    page.goto(shop)
    with running_viewer(tmp_path, "--allow-origin", shop) as viewer:
        with page.expect_response("**/v1/traces") as answer:
            assert page.evaluate(BEACON, [f"{viewer.otlp}/v1/traces", TRACE]) is True
        assert answer.value.status == 200
        assert len(httpx.get(f"{viewer.page}/api/find").json()["traces"]) == 1
