"""Where JetStream keeps events: one stream for all, and one for those that died. Whoever comes first makes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import BadRequestError, NotFoundError

from observability.events.outbox import RETENTION_S

DEAD_RETENTION_S: Final = 5 * 24 * 3600.0
"""How long dead letters are kept, in seconds; with a day in the stream before and after, as long as the inbox knows."""

DUPLICATE_WINDOW_S: Final = 5 * 60.0
"""How long JetStream leaves out what is sent again, in seconds; after that, and whatever happens, the inbox does."""

_TOKENS = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_OTHER_CONFIGURATION = 10058


@dataclass(frozen=True, slots=True)
class Streams:
    """The names and the bounds of the two streams; the same for all services.

    A stream keeps what consumers have applied too, until it is too old or takes up room that is needed. Where it is
    full of what some consumer has not applied it refuses new events, which then wait in their outboxes: so one that is
    gone for good has to be deleted from the server.

    Attributes:
        name: Of the stream.
        max_bytes: Of its file: what may come while a consumer is away.
        max_age_s: How long it keeps an event, in seconds: as long as an outbox can send it again.
        dead_max_bytes: Of the file of dead letters. Where it is full, what dies comes again until there is room.
    """

    name: str = "EVENTS"
    max_bytes: int = 1024**3
    max_age_s: float = RETENTION_S
    dead_max_bytes: int = 128 * 1024**2

    @property
    def dead_name(self) -> str:
        """The name of the stream of dead letters."""
        return f"{self.name}_DEAD"

    def subject(self, type_: str) -> str:
        """Where events of a type are published: `events.order.placed`.

        Raises:
            ValueError: NATS can have no such subject.
        """
        if not _TOKENS.fullmatch(type_):
            raise ValueError("the type of the event is none that NATS can have in a subject")
        return f"{self.name.lower()}.{type_}"

    def dead_subject(self, consumer: str, type_: str) -> str:
        """Where events of a type that died in a consumer are published: `events_dead.shipping.order.placed`."""
        return f"{self.dead_name.lower()}.{consumer}.{type_}"

    async def make(self, jetstream: JetStreamContext) -> StreamInfo:
        """Make both streams or, where they are there, let them have these bounds. Any number may do so at once.

        Returns:
            What is known of the stream of events.

        Raises:
            nats.errors.Error: It could not be done.
        """
        bounds = ((self.dead_name, self.dead_max_bytes, DEAD_RETENTION_S), (self.name, self.max_bytes, self.max_age_s))
        for name, max_bytes, max_age_s in bounds:
            config = StreamConfig(
                name=name,
                subjects=[f"{name.lower()}.>"],
                storage=StorageType.FILE,
                discard=DiscardPolicy.NEW,
                max_bytes=max_bytes,
                max_age=max_age_s,
                duplicate_window=min(DUPLICATE_WINDOW_S, max_age_s),
            )
            try:
                info = await jetstream.add_stream(config)
            except BadRequestError as error:
                if error.err_code != _OTHER_CONFIGURATION:
                    raise
                info = await jetstream.update_stream(config)
        return info

    async def look(self, jetstream: JetStreamContext) -> StreamInfo:
        """What is known of the stream of events, which is made if it is not there.

        Raises:
            nats.errors.Error: It could not be found out.
        """
        try:
            return await jetstream.stream_info(self.name)
        except NotFoundError:
            return await self.make(jetstream)

    async def trim(self, jetstream: JetStreamContext, info: StreamInfo) -> None:
        """Drop what all consumers have applied from a stream that is more than half full.

        Args:
            jetstream: The server's.
            info: What was known of the stream a moment ago.

        Raises:
            nats.errors.Error: It could not be done.
        """
        if info.state.bytes < self.max_bytes / 2:
            return
        consumers = await jetstream.consumers_info(self.name)
        if len(consumers) < info.state.consumer_count:
            return  # there are more than one answer holds
        # One that nothing waits for had all that there was when the stream was looked at, before it.
        applied = [
            (one.ack_floor.stream_seq if one.ack_floor else 0)
            if one.num_pending or one.num_ack_pending
            else info.state.last_seq
            for one in consumers
        ]
        if applied and min(applied) >= info.state.first_seq:
            await jetstream.purge_stream(self.name, seq=min(applied) + 1)
