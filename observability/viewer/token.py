"""The secret that a viewer asks everybody for if others than this machine can reach it.

Programs say it with each request, `Authorization: Bearer ...`. A browser is told it once, in the fragment of the
address that is printed at the start, which no browser sends or logs; `login.js` exchanges it for a cookie.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

LEAST_CHARACTERS = 16  # attempts are not counted

_COOKIE = "clearspan-viewer"
_LOGIN_PAGE = Path(__file__).with_name("pages") / "login.html"
_FOR_LOGIN = frozenset({"/pages/login.js", "/pages/viewer.css"})
_CHALLENGE = {"www-authenticate": "Bearer"}


class Token:
    """The secret, and what a browser gets in its place. Neither shows in a representation."""

    __slots__ = ("_cookie", "_secret")

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        # Cookies go to every server on this host, whatever its port. So it is not the secret, which can send too.
        self._cookie = hmac.digest(self._secret, b"cookie of the viewer's pages", "sha256").hex()

    def is_told_by(self, authorization: Sequence[bytes]) -> bool:
        """Whether the values of a request's Authorization headers are one, and tell the secret."""
        if len(authorization) != 1:
            return False
        scheme, _, told = authorization[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(told.strip(), self._secret)

    def gave(self, cookies: dict[str, str]) -> bool:
        """Whether the cookies of a request have the one that was given for the secret."""
        return hmac.compare_digest(cookies.get(_COOKIE, "").encode(), self._cookie.encode())

    def give(self, response: Response) -> None:
        """Set the cookie; it stands until the browser ends or the secret changes."""
        response.set_cookie(_COOKIE, self._cookie, httponly=True, samesite="strict")


class TokenGuard:
    """ASGI middleware: answers 401 to who does not know the token.

    Args:
        app: What it guards.
        token: The secret.
        pages: Whether these are pages for browsers, which may log in, and not what telemetry is sent to.
    """

    def __init__(self, app: ASGIApp, token: Token, *, pages: bool) -> None:
        self.app = app
        self._token = token
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = self._answer(Request(scope))
        await (self.app if answer is None else answer)(scope, receive, send)

    def _answer(self, request: Request) -> Response | None:
        """What to answer in the application's place."""
        told = self._token.is_told_by([value.encode("latin-1") for value in request.headers.getlist("authorization")])
        path = request.url.path
        if told and self._pages and (request.method, path) == ("POST", "/login"):
            response = Response(status_code=204)
            self._token.give(response)
            return response
        if told or (self._pages and (path in _FOR_LOGIN or self._token.gave(request.cookies))):
            return None
        if self._pages and request.method == "GET" and not path.startswith("/api/"):
            return FileResponse(_LOGIN_PAGE, 401, _CHALLENGE)
        return PlainTextResponse("the viewer's token is missing or wrong\n", 401, _CHALLENGE)
