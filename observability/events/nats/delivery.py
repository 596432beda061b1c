"""From the outbox to the stream: an event is delivered when JetStream says that it has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import time
from typing import Final

from nats.errors import Error
from nats.js.errors import APIError, NoStreamResponseError

from observability.events.delivery import Refused, Unavailable
from observability.events.event import Event
from observability.events.nats.binding import size, to_nats
from observability.events.nats.connection import NatsConnection
from observability.events.nats.streams import Streams
from observability.tasks import running_task

ACK_TIMEOUT_S: Final = 5.0
"""How long JetStream may take to store an event, in seconds; less than the relay waits."""

MAX_IN_FLIGHT: Final = 256

LOOK_EVERY_S: Final = 10.0
"""How often it is looked whether the stream still has what it had, in seconds."""

TAIL_S: Final = 10 * 60.0
"""How far back events are sent again if the last ones of the stream are gone; the server syncs every two minutes."""

SKEW_S: Final = 60.0
"""How far the server's clock and this one may differ, in seconds."""

ROOM_BYTES: Final = 2 * 1024
"""What a dead letter has on top of its event."""

_TOO_LARGE = 10054

Lost = Callable[[float, float], Awaitable[object]]
"""Sends again what was sent between two times, in seconds since the epoch: `Outbox.send_again`."""

logger = logging.getLogger(__name__)


class NatsDelivery:
    """`observability.events.delivery.Delivery` to JetStream.

    What JetStream has said to have may be gone. It is noticed that the stream was made anew, by its time of birth, also
    by a process that starts after that; and that a stream ends earlier than this process has seen it end, by the
    number of its last event. Then `on_lost` is called until it succeeds. Not noticed is what nobody knows any more: the
    end of a stream that was lost while every process that had sent to it has stopped, or that others have
    made grow again before this process looks.

    Args:
        connection: To the server; entered by the caller.
        streams: Where events go.
        on_lost: Called with two times between which events were sent that may be gone.
        ack_timeout_s: How long JetStream may take to store an event, in seconds.
    """

    system = "nats"
    max_in_flight = MAX_IN_FLIGHT

    def __init__(
        self,
        connection: NatsConnection,
        streams: Streams,
        on_lost: Lost,
        *,
        ack_timeout_s: float = ACK_TIMEOUT_S,
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._on_lost = on_lost
        self._ack_timeout_s = ack_timeout_s
        self._look_now = asyncio.Event()
        self._born_at: float | None = None
        self._last = 0
        self._shorter = False
        connection.on_change(self._look_now.set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have the stream made and looked after for as long as the block lasts; until it is made, sends fail."""
        async with running_task(self._look_after(), "nats stream"):
            yield

    async def send(self, event: Event) -> None:
        """Publish an event, under an id that is the same whenever it is sent.

        A publish that failed may be stored all the same, also later.
        """
        try:
            subject = self._streams.subject(event.type)
        except ValueError as error:
            raise Refused(str(error), final=True) from None
        headers, body = to_nats(event)
        client, jetstream = self._connection.client, self._connection.jetstream
        if size(headers, body) > client.max_payload - ROOM_BYTES:
            raise Refused("larger than the broker takes", final=True)
        before = self._last
        try:
            ack = await jetstream.publish(
                subject, body, timeout=self._ack_timeout_s, stream=self._streams.name, headers=headers
            )
        except NoStreamResponseError:
            self._look_now.set()
            raise Unavailable("the broker has no stream for it") from None
        except APIError as error:
            if error.err_code == _TOO_LARGE:
                raise Refused("larger than the broker's stream takes", final=True) from error
            self._look_now.set()  # it may be full
            raise Unavailable(f"the broker did not store it: {error.description}") from error
        except (Error, OSError) as error:
            raise Unavailable(f"the broker did not say that it is stored ({type(error).__name__})") from error
        if not ack.duplicate:
            if ack.seq <= before:
                self._shorter = True
                self._look_now.set()
            self._last = max(self._last, ack.seq)

    async def _look_after(self) -> None:
        made = complained = False
        while True:
            self._look_now.clear()
            try:
                await self._look(make=not made)
                made, complained = True, False
            except Unavailable:
                pass  # the connection has told it
            except Exception as error:  # noqa: BLE001 - NATS's, or a database's from `on_lost`; the next look will do
                if not complained:
                    logger.warning("the stream of events cannot be looked after: %s", type(error).__name__)
                complained = True
            try:
                async with asyncio.timeout(1.0 if complained else LOOK_EVERY_S):
                    await self._look_now.wait()
            except TimeoutError:
                pass

    async def _look(self, *, make: bool) -> None:
        last = self._last  # before the answer, which then tells of at least as many
        jetstream = self._connection.jetstream
        info = await (self._streams.make(jetstream) if make else self._streams.look(jetstream))
        if info.created is None:
            raise Unavailable("the broker did not say how old its stream is")
        born_at, now = info.created.timestamp(), time()
        if born_at != self._born_at:
            # Nothing that was sent before can be in it. What was sent again since is found sent after its birth.
            since, until = now - self._streams.max_age_s, min(born_at + SKEW_S, now)
            if since < until:
                await self._on_lost(since, until)
            self._born_at, self._last, self._shorter = born_at, info.state.last_seq, False
        elif self._shorter or info.state.last_seq < last:
            logger.error("the stream of events has lost its end: the last minutes are sent again")
            await self._on_lost(now - TAIL_S, now)
            self._last, self._shorter = info.state.last_seq, False
        await self._streams.trim(jetstream, info)
