"""Who may ask: requests whose Host is one of this machine's loopback names, and that no foreign page sent.

Where a token is asked for, the Host may be any, since who points a name of its own here still knows no token.

A page that the developer visits can point a name of its own at 127.0.0.1 and read a loopback server as its own origin
(DNS rebinding); what gives it away is the Host. A page can also post to loopback without being able to read the answer;
what gives that away is the Origin or, should a browser leave it out, Sec-Fetch-Site.
"""

from __future__ import annotations

from collections.abc import Collection

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_OWN_SITES = (b"same-origin", b"none")

SECURITY_HEADERS = [
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            b"frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """ASGI middleware, the first of all: answers 421 for a foreign Host, 403 for what a foreign page sent.

    Args:
        app: What it guards.
        any_host: Whether any Host will do.
        origins: Foreign origins, as browsers write them, whose pages may ask.
    """

    def __init__(self, app: ASGIApp, *, any_host: bool = False, origins: Collection[str] = ()) -> None:
        self.app = app
        self._any_host = any_host
        self._origins = frozenset(origin.encode("latin-1") for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = [value for name, value in headers if name == b"host"]
        origins = [value for name, value in headers if name == b"origin"]
        sites = [value for name, value in headers if name == b"sec-fetch-site"]
        if len(hosts) != 1 or not (self._any_host or _host_name(hosts[0]) in _LOOPBACK):
            refusal = PlainTextResponse("Open this page as localhost or 127.0.0.1.\n", 421)
            await refusal(scope, receive, send)
        elif len(origins) == 1 and origins[0] in self._origins:
            await self.app(scope, receive, send)
        elif any(origin not in (b"http://" + hosts[0], b"https://" + hosts[0]) for origin in origins) or (
            # Links to the pages are welcome from anywhere; to make work here, as by an image, is not.
            (scope["method"] not in ("GET", "HEAD") or scope["path"].startswith("/api/"))
            and any(site not in _OWN_SITES for site in sites)
        ):
            await PlainTextResponse("Pages of other origins may not ask.\n", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _host_name(host: bytes) -> str:
    name = host.decode("latin-1").lower()
    if not name.endswith("]"):
        name, colon, port = name.rpartition(":") if ":" in name else (name, "", "")
        if colon and not port.isdigit():
            return ""
    return name.removesuffix(".")
