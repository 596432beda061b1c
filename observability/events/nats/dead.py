"""Events that died in a consumer, for people: to look at, to try again, to drop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from observability.events.nats.binding import ONLY_FOR
from observability.events.nats.connection import NatsConnection
from observability.events.nats.streams import Streams

SUBJECT: Final = "clearspan-subject"
"""Header of a dead letter: where it was published."""

REASON: Final = "clearspan-reason"
"""Header of a dead letter: why it died, percent-encoded."""

ATTEMPTS: Final = "clearspan-attempts"
"""Header of a dead letter: how often it had been delivered."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that a consumer could not apply.

    Attributes:
        number: Its number among the dead letters.
        id, type, subject: The event's; empty if the message was none.
        consumer: Which service's consumer it died in.
        reason: Why.
        attempts: How often it had been delivered.
        died_at: When.
    """

    number: int
    id: str
    type: str
    subject: str
    consumer: str
    reason: str
    attempts: int
    died_at: datetime

    @property
    def age_s(self) -> float:
        """Seconds since it died."""
        return (datetime.now(UTC) - self.died_at).total_seconds()


class DeadLetters:
    """The stream of dead letters.

    Args:
        jetstream: Of a connection.
        streams: Which one it is, and where an event that is tried again goes.
    """

    def __init__(self, jetstream: JetStreamContext, streams: Streams) -> None:
        self._jetstream = jetstream
        self._streams = streams

    async def found(self, *, limit: int = 100) -> list[DeadLetter]:
        """The oldest dead letters, so many at most.

        Raises:
            nats.errors.Error: JetStream does not answer.
        """
        letters: list[DeadLetter] = []
        async for message in self._messages():
            if len(letters) == limit:
                break
            headers = _headers(message)
            ce = {name: unquote(headers.get(f"ce-{name}", "")) for name in ("id", "type", "subject")}
            letters.append(
                DeadLetter(
                    number=message.seq or 0,
                    **ce,
                    consumer=headers.get(ONLY_FOR, ""),
                    reason=unquote(headers.get(REASON, "")),
                    attempts=int(headers.get(ATTEMPTS, "0")),
                    died_at=message.time or datetime.now(UTC),
                )
            )
        return letters

    async def retry(self, event_id: str | None = None) -> int:
        """Publish dead letters, or those of one event, again, for the consumer in which they died; how many there were.

        Each is dropped from the dead letters when it is in the stream. Doing it twice does no harm.

        Raises:
            nats.errors.Error: JetStream does not answer, or does not take one of them; the earlier ones are done.
        """
        count = 0
        async for message in self._messages(event_id):
            headers = _headers(message)
            subject = headers.pop(SUBJECT)
            del headers[ATTEMPTS], headers[REASON]
            # Under the id of this letter: JetStream does not take it for the event that it has already, nor this done
            # twice for two events.
            await self._jetstream.publish(subject, message.data or b"", stream=self._streams.name, headers=headers)
            await self._jetstream.delete_msg(self._streams.dead_name, message.seq or 0)
            count += 1
        return count

    async def discard(self, event_id: str) -> int:
        """Drop the dead letters of one event; how many there were.

        Raises:
            nats.errors.Error: JetStream does not answer.
        """
        count = 0
        async for message in self._messages(event_id):
            await self._jetstream.delete_msg(self._streams.dead_name, message.seq or 0)
            count += 1
        return count

    async def _messages(self, event_id: str | None = None) -> AsyncIterator[RawStreamMsg]:
        """The dead letters that there are now, the oldest first."""
        try:
            last = (await self._jetstream.stream_info(self._streams.dead_name)).state.last_seq
            following = 1
            while following <= last:
                message = await self._jetstream.get_msg(self._streams.dead_name, seq=following, subject=">", next=True)
                following = (message.seq or 0) + 1
                if following <= last + 1 and event_id in (None, unquote(_headers(message).get("ce-id", ""))):
                    yield message
        except NotFoundError:
            return  # there is no such stream, or nothing more in it


@asynccontextmanager
async def dead_letters(url: str, *, timeout_s: float) -> AsyncIterator[DeadLetters]:
    """The dead letters of a broker, around a block.

    Args:
        url: The broker's.
        timeout_s: How long to wait for it, in seconds.

    Raises:
        Unavailable: It was not reached in time.
        ValueError: The URL is none of NATS.
    """
    async with NatsConnection(url, "clearspan events") as connection:
        await connection.connected(timeout_s)
        yield DeadLetters(connection.jetstream, Streams())


def _headers(message: RawStreamMsg) -> dict[str, str]:
    """Headers by lower-case names, but for JetStream's own, as they have to be written."""
    headers = message.headers or {}
    return {name if name.startswith("Nats-") else name.lower(): str(value) for name, value in headers.items()}
