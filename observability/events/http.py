"""Events over HTTP, where there is no broker: CloudEvents in binary mode, posted to each consumer's `/events`.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import httpx
from fastapi import APIRouter, Request, Response
from pydantic import AnyHttpUrl
from starlette.types import Scope

from observability.events.consumer import HANDLER_TIMEOUT_S, Consumer
from observability.events.delivery import Refused, Unavailable
from observability.events.event import Event, NotAnEventError, from_message, to_message
from observability.problems import problem
from observability.resilience.attempt import AttemptOptions
from observability.resilience.bulkhead import BulkheadOptions
from observability.resilience.client import Dependency
from observability.resilience.deadline import DeadlineOptions
from observability.resilience.retry import RetryOptions

PATH = "/events"
SYSTEM = "http"
MAX_IN_FLIGHT = 32
"""Deliveries at once: more would only wait for each other in the consumers' databases."""

_NOBODY_TAKES = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,  # the token is not the consumer's: a matter of the two services, not of the event
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,  # the consumer takes no events over HTTP, or does not yet
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
_NEVER_TAKEN = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    }
)


def consumer_dependency(name: str, url: AnyHttpUrl) -> Dependency:
    """A consumer as it is called.

    It is not asked again within a call, since the outbox does that, and it is waited for longer than its handlers take.
    """
    total_s = HANDLER_TIMEOUT_S + 1.0
    return Dependency(
        name=name,
        base_url=url,
        bulkhead=BulkheadOptions(max_calls=MAX_IN_FLIGHT),
        deadline=DeadlineOptions(total_s=total_s),
        attempt=AttemptOptions(timeout_s=total_s),
        retry=RetryOptions(max_attempts=1),
    )


class HttpDelivery:
    """`observability.events.delivery.Delivery` over HTTP.

    An event is delivered when all its consumers have answered that they have applied it.

    Args:
        consumers: For each consumer's name a client whose base URL is the consumer's.
        subscriptions: The names of those who consume it, by an event's type.
        token: What proves to consumers that we are one of them.
    """

    system = SYSTEM
    max_in_flight = MAX_IN_FLIGHT

    def __init__(
        self,
        consumers: Mapping[str, httpx.AsyncClient],
        subscriptions: Mapping[str, Sequence[str]],
        token: str | None,
    ) -> None:
        self._consumers = consumers
        self._subscriptions = subscriptions
        self._credentials = {"authorization": f"Bearer {token}"} if token else {}

    async def send(self, event: Event) -> None:
        """Post an event to each of its consumers."""
        headers, body = to_message(event)
        names = self._subscriptions.get(event.type)
        if not names:
            raise Refused(f"nobody consumes events of type {event.type}", final=True)
        for name in names:
            try:
                answer = await self._consumers[name].post(PATH, content=body, headers={**headers, **self._credentials})
            except httpx.RequestError as error:
                raise Unavailable(f"{name} could not be reached ({type(error).__name__})") from error
            if not answer.is_success:
                raise _refusal(name, answer)


class Access:
    """Who may deliver events here: whoever knows the token, and nobody where there is none.

    Args:
        token: A secret of all the services, which may be of any length.
    """

    def __init__(self, token: str | None) -> None:
        self._expected = f"Bearer {token}".encode() if token else None

    def allows(self, scope: Scope) -> bool:
        """Whether a request is one to deliver an event, of one of our own."""
        if self._expected is None or scope["type"] != "http" or scope["path"] != PATH:
            return False
        claimed = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(claimed) == 1 and hmac.compare_digest(claimed[0], self._expected)


def events_router(consumer: Consumer, access: Access) -> APIRouter:
    """`POST /events`, for a service that takes events over HTTP.

    It answers 204 once the event is applied, now or before; 400 or 422 if it never can be; 401 to strangers.
    """
    router = APIRouter()

    @router.post(PATH, include_in_schema=False)  # for services, not for customers
    async def receive(request: Request) -> Response:
        if not access.allows(request.scope):
            detail = "Events are taken from services that share this one's CLEARSPAN_EVENTS_TOKEN."
            return problem(401, "Unauthorized", detail, headers={"www-authenticate": "Bearer"})
        try:
            event = from_message(request.headers, await request.body())
        except NotAnEventError as error:
            return problem(400, "Not an event", str(error))
        try:
            await consumer.process(event, SYSTEM)
        except Refused as refusal:
            return problem(422 if refusal.final else 500, "Event refused", str(refusal))
        return Response(status_code=204)

    return router


def _refusal(name: str, answer: httpx.Response) -> Refused | Unavailable:
    reason = f"{name} answered {answer.status_code}"
    try:
        problem_of = json.loads(answer.content)
        reason += f": {problem_of.get('detail') or problem_of['title']}"
    except (ValueError, KeyError, AttributeError, RecursionError):
        pass
    if answer.status_code in _NOBODY_TAKES:
        return Unavailable(reason)
    return Refused(reason, final=answer.status_code in _NEVER_TAKEN)
