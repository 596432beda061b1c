"""Which requests are sent."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from observability.load.load import Request
from observability.load.mix import MixError, read_mix, requests


def _pyproject(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(text)
    return path


def test_mix(tmp_path: Path) -> None:
    """Each request is sent as often as its weight says, to the URL that is given."""
    text = """
    [tool.clearspan.load]
    mug = { weight = 3, method = "POST", path = "/orders", json = { sku = "mug", quantity = 1 } }
    list = { weight = 1, path = "/orders?limit=1" }
    """
    sent = Counter(islice(requests(read_mix(_pyproject(tmp_path, text)), "http://edge/shop/"), 4000))
    assert set(sent) == {
        Request("POST", "http://edge/shop/orders", b'{"sku": "mug", "quantity": 1}', "mug"),
        Request("GET", "http://edge/shop/orders?limit=1", b"", "list"),
    }
    assert 2700 < max(sent.values()) < 3300  # eleven standard deviations


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no requests: name them in [tool.clearspan.load]"),
        ("[tool.clearspan.load]", "has no requests: name them in [tool.clearspan.load]"),
        ("]", "cannot be read: Invalid statement (at line 1, column 1)"),
        ("[tool.clearspan]\nload = 5", "[tool.clearspan.load]: : Input should be a valid dictionary"),
        ("[tool.clearspan.load]\nmug = { path = '/' }", "[tool.clearspan.load]: mug.weight: Field required"),
        ("[tool.clearspan.load]\nmug = { weight = 0, path = '/' }", "mug.weight: Input should be greater than 0"),
        ("[tool.clearspan.load]\nmug = { weight = inf, path = '/' }", "mug.weight: Input should be a finite number"),
        ("[tool.clearspan.load]\nmug = { weight = 1, path = 'orders' }", "mug.path: String should match pattern"),
        ("[tool.clearspan.load]\nmug = { weight = 1, path = '/', method = 'SEND' }", "mug.method: Input should be"),
        ("[tool.clearspan.load]\nmug = { weight = 1, path = '/', body = 1 }", "mug.body: Extra inputs"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    """What cannot be sent is told with the entry that is wrong."""
    with pytest.raises(MixError) as caught:
        read_mix(_pyproject(tmp_path, text))
    assert message in str(caught.value)


def test_outside_a_project(tmp_path: Path) -> None:
    """Where there is no pyproject.toml, that is said."""
    with pytest.raises(MixError, match="run this in the project's folder"):
        read_mix(tmp_path / "pyproject.toml")
