"""The way in where a token is asked for, in a real Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.forked import ForkedCommand
from tests.observability.viewer.process import free_ports, options

TOKEN = "a secret of the test"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Where a viewer's pages are that listens beyond the loopback."""
    port, otlp_port = free_ports()
    environment = os.environ | {"CLEARSPAN_VIEWER_TOKEN": TOKEN}
    told = options(port, otlp_port, tmp_path, "--host", "0.0.0.0")
    with closing(ForkedCommand(["viewer", *told], environment)) as process:
        assert process.readline().startswith("traces are at")
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.communicate(timeout=10)
        assert process.returncode == 0


def test_address_with_token(url: str, page: Page) -> None:
    """The address that is printed opens the page, and the token is gone from it before anyone can copy it."""
    page.goto(f"{url}/#token={TOKEN}")
    expect(page.get_by_role("link", name="Clearspan")).to_be_visible()
    assert page.url == f"{url}/"
    assert page.evaluate("document.cookie") == ""
    page.goto(f"{url}/trace/1")
    assert page.url == f"{url}/trace/1"
    expect(page.get_by_label("Token")).not_to_be_visible()


def test_typed_token(url: str, page: Page) -> None:
    """Whoever comes without it can type it; a wrong one is said to be wrong."""
    page.goto(f"{url}/")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_have_text("This is not its token.")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("link", name="Clearspan")).to_be_visible()
