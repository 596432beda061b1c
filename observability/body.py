"""Whether a request has a body, before anybody asks for it."""

from __future__ import annotations

from starlette.types import Scope

BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
"""One of which a request of HTTP/1 has if it has a body (RFC 9112, section 6.3)."""


def may_have_body(scope: Scope) -> bool:
    """False for a request of HTTP/1 without a header that would announce a body."""
    for name, _ in scope["headers"]:  # without a generator, which costs more than the search
        if name in BODY_HEADERS:
            return True
    version: str = scope.get("http_version", "1.1")
    return not version.startswith("1")
