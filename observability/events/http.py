"""Events over HTTP, where there is no broker: posted to each consumer's `/events`, as CloudEvents in binary mode."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import httpx
from pydantic import AnyHttpUrl

from observability.events.consumer import HANDLER_TIMEOUT_S
from observability.events.delivery import Refused, Unavailable
from observability.events.endpoint import PATH, SYSTEM
from observability.events.event import Event, to_message

MAX_IN_FLIGHT = 32
"""Deliveries at once: more would only wait for each other in the consumers' databases."""

MAX_ANSWER_BYTES = 16 * 1024

_TIMEOUT = httpx.Timeout(HANDLER_TIMEOUT_S + 1.0, connect=1.0)
_NEVER_TAKEN = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    }
)


class HttpDelivery:
    """`observability.events.delivery.Delivery` over HTTP.

    An event is delivered when all its consumers have answered that they have applied it. Calls do not go through the
    chain of `observability.resilience`: the relay asks again, waits, pauses and bounds what is under way by itself, and
    its span of each attempt is the call's.

    Args:
        urls: Where each consumer is, by its name.
        subscriptions: The names of those who consume it, by an event's type.
        token: What proves to consumers that we are one of them.
        transports: For each consumer's name, how it is reached.
    """

    system = SYSTEM
    max_in_flight = MAX_IN_FLIGHT

    def __init__(
        self,
        urls: Mapping[str, AnyHttpUrl],
        subscriptions: Mapping[str, Sequence[str]],
        token: str | None,
        transports: Mapping[str, httpx.AsyncBaseTransport],
    ) -> None:
        self._urls = {name: httpx.URL(str(url).rstrip("/") + PATH) for name, url in urls.items()}
        self._subscriptions = subscriptions
        self._credentials = {"authorization": f"Bearer {token}"} if token else {}
        self._transports = transports

    async def send(self, event: Event) -> None:
        """Post an event to each of its consumers."""
        headers, body = to_message(event)
        names = self._subscriptions.get(event.type)
        if not names:
            raise Refused(f"nobody consumes events of type {event.type}", final=True)
        for name in names:
            request = httpx.Request(
                "POST",
                self._urls[name],
                content=body,
                headers={**headers, **self._credentials},
                extensions={"timeout": _TIMEOUT.as_dict()},
            )
            try:
                answer = await self._transports[name].handle_async_request(request)
                try:
                    content = await _read(answer)
                finally:
                    await answer.aclose()
            except httpx.RequestError as error:
                raise Unavailable(f"{name} could not be reached ({type(error).__name__})") from error
            if not answer.is_success:
                raise _refusal(name, answer.status_code, content)


async def _read(answer: httpx.Response) -> bytes:
    content = b""
    async for piece in answer.aiter_raw():
        content += piece
        if len(content) > MAX_ANSWER_BYTES:
            break
    return content


def _refusal(name: str, status: int, content: bytes) -> Refused | Unavailable:
    reason = f"{name} answered {status}"
    try:
        problem = json.loads(content)
        reason += f": {problem.get('detail') or problem['title']}"
    except (ValueError, KeyError, AttributeError, RecursionError):
        pass  # no problem of ours
    if status in _NEVER_TAKEN:
        return Refused(reason, final=True)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return Refused(reason)
    # All else is no answer to an event: the consumer is full or not there yet, or something else stands in its place.
    return Unavailable(reason)
