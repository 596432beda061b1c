"""Where events come in over HTTP: `POST /events`, CloudEvents in binary mode.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from observability.events.consumer import Consumer
from observability.events.delivery import Refused, Unavailable
from observability.events.event import NotAnEventError, from_message
from observability.limits import MAX_BODY_BYTES, ConcurrencyLimit, RequestLimits
from observability.problems import TOO_LARGE, CancelledRequests, problem

PATH = "/events"
SYSTEM = "http"
MAX_DELIVERIES = 128
"""At once, from all relays together."""


@dataclass(frozen=True, slots=True)
class EventIntake:
    """Who takes events over HTTP, and from whom.

    Attributes:
        consumer: Applies them.
        token: A secret of all one's services, which whoever delivers an event has to know; without one nobody may.
    """

    consumer: Consumer
    token: str | None = field(repr=False)


class EventEndpoint:
    """ASGI middleware that takes events itself, outside the server span: each has its own span, in its own trace.

    It answers 204 once an event is applied, now or before; 400 or 422 if it never can be; 500 if it could not be this
    time; 503 if none can be now; and 401 to strangers, whose events would be orders to us.
    """

    def __init__(self, app: ASGIApp, events: EventIntake) -> None:
        self.app = app
        self._consumer = events.consumer
        self._expected = f"Bearer {events.token}".encode() if events.token else None
        # From the inside out, as for any other request.
        taking: ASGIApp = self._take
        taking = RequestLimits(taking)  # around whatever reads the body
        taking = ConcurrencyLimit(taking, max_requests=MAX_DELIVERIES)  # before any work
        self._taking = CancelledRequests(taking)  # around whatever is cut off

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self.app(scope, receive, send)
        elif not self._is_ours(scope):
            detail = "Events are taken from those who share this service's CLEARSPAN_EVENTS_TOKEN."
            answer = problem(401, "Unauthorized", detail, headers={"www-authenticate": "Bearer"})
            await answer(scope, receive, send)
        else:
            await self._taking(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        claimed = [value for name, value in scope["headers"] if name == b"authorization"]
        return self._expected is not None and len(claimed) == 1 and hmac.compare_digest(claimed[0], self._expected)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = bytearray()
        try:
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    break
        except ClientDisconnect:
            return
        answer = await self._answer(request, bytes(body))
        await answer(scope, receive, send)

    async def _answer(self, request: Request, body: bytes) -> Response:
        if len(body) > MAX_BODY_BYTES:
            return problem(413, "Content too large", TOO_LARGE, headers={"connection": "close"})
        try:
            await self._consumer.process(from_message(request.headers, body), SYSTEM)
        except NotAnEventError as error:
            return problem(400, "Not an event", str(error))
        except Refused as refusal:
            return problem(422 if refusal.final else 500, "Event refused", str(refusal))
        except Unavailable as reason:
            return problem(503, "No events are taken now", str(reason), headers={"retry-after": "1"})
        return Response(status_code=204)
