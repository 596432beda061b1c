"""Which requests have a body."""

from __future__ import annotations

import pytest

from observability.body import may_have_body


@pytest.mark.parametrize(
    ("headers", "version", "expected"),
    [
        ([], "1.1", False),
        ([(b"host", b"service"), (b"accept", b"content-length")], "1.0", False),
        ([(b"host", b"service"), (b"content-length", b"0")], "1.1", True),
        ([(b"transfer-encoding", b"chunked")], "1.1", True),
        ([], "2", True),
        ([], "3", True),
    ],
)
def test_headers_announce_it(headers: list[tuple[bytes, bytes]], version: str, expected: bool) -> None:
    """A header announces it in HTTP/1; in later versions it may come without one."""
    assert may_have_body({"type": "http", "headers": headers, "http_version": version}) is expected
