"""From the stream to the handlers of a service: each event until it is applied, or dead.

For each type of event the replicas of a service share one durable consumer, `shipping-order_placed`, which JetStream
keeps. Events of one subject that are here together are processed in their order, others at the same time. There is no
order between types, nor between replicas, and an event that failed comes again behind those after it: what a handler
needs of an order it has to see in its own data.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote
from weakref import WeakValueDictionary

from nats.aio.msg import Msg
from nats.errors import Error

from observability.events.consumer import Consumer
from observability.events.delivery import DeliveryError, Refused, Unavailable
from observability.events.event import Event, NotAnEventError
from observability.events.nats.binding import MESSAGE_ID, ONLY_FOR, from_nats, size
from observability.events.nats.connection import NatsConnection
from observability.events.nats.dead import ATTEMPTS, REASON, SUBJECT
from observability.events.nats.pull import ASK_S, Pull
from observability.events.nats.streams import Streams
from observability.providers import Telemetry
from observability.telemetry import DEAD_LETTERS

_ACK, _TERM = b"+ACK", b"+TERM"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """When an event that was not applied comes again, and when it is dead.

    Attributes:
        max_deliveries: With the last of so many it dies; JetStream counts them, also those that ended in a crash.
        first_s: Wait after the first failure, in seconds; after each further one `factor` times as long; half of it is
            left to chance.
        most_s: The bound of that wait. Seven such waits are about 20 minutes.
        ack_wait_s: How long JetStream waits for a sign of life of whoever has an event, in seconds, before it gives it
            to another one.
        outage_s: How long an event stays here, in seconds, while the handler says that none can be applied
            (`Unavailable`): it is tried again in place, keeps its order, and this does not count. Then it is a failure
            like any other, so that even hours without a database let hardly any event die.
    """

    max_deliveries: int = 8
    first_s: float = 1.0
    factor: float = 4.0
    most_s: float = 600.0
    ack_wait_s: float = 30.0
    outage_s: float = 15 * 60.0

    def wait_s(self, deliveries: int) -> float:
        """Seconds until the next delivery, after so many."""
        # The exponent is bounded: an event may have come thousands of times.
        return min(self.first_s * self.factor ** min(deliveries - 1, 32), self.most_s) * random.uniform(0.5, 1.0)  # noqa: S311


class NatsConsumer:
    """Takes events of a service's types from the stream.

    Args:
        connection: To the server; entered by the caller.
        streams: Where events are, and where those that die go.
        consumer: What is done with them.
        telemetry: Counts those that die (`clearspan.event.dead_letters`).
        concurrency: How many events of one type are here at once, in work or waiting for one before them.
        patience: When an event comes again.
        ask_s: How long one request for events stands, in seconds; it is what a lost request costs.
    """

    def __init__(
        self,
        connection: NatsConnection,
        streams: Streams,
        consumer: Consumer,
        telemetry: Telemetry,
        *,
        concurrency: int = 32,
        patience: Patience | None = None,
        ask_s: float = ASK_S,
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._consumer = consumer
        self._concurrency = concurrency
        self._patience = patience or Patience()
        self._ask_s = ask_s
        self._dead = telemetry.meter_provider.get_meter("observability.events").create_counter(*DEAD_LETTERS)
        self._lanes: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take events for as long as the block lasts; at its end those in work may end, within bounds."""
        pulls = [
            Pull(
                self._connection,
                self._streams,
                f"{self._consumer.name}-{type_.replace('.', '_')}",
                self._streams.subject(type_),
                partial(self._work, type_),
                concurrency=self._concurrency,
                ack_wait_s=self._patience.ack_wait_s,
                ask_s=self._ask_s,
            )
            for type_ in self._consumer.types
        ]
        for pull in pulls:
            pull.start()
        try:
            yield
        finally:
            self._stopping.set()
            await asyncio.gather(*(pull.stop() for pull in pulls))

    async def _work(self, type_: str, message: Msg) -> None:
        headers = message.headers or {}
        try:
            if headers.get(ONLY_FOR, self._consumer.name) != self._consumer.name:
                await self._connection.tell(message.reply, _ACK)
                return
            try:
                event = from_nats(headers, message.data)
            except NotAnEventError as error:
                await self._bury(message, type_, str(error))
                return
            async with self._lanes.setdefault(event.subject, asyncio.Lock()):
                await self._apply(message, event, type_)
        except asyncio.CancelledError:
            await self._give_back(message)
            raise

    async def _apply(self, message: Msg, event: Event, type_: str) -> None:
        deliveries = message.metadata.num_delivered
        failure: DeliveryError | None = Unavailable("the service stops")
        now = asyncio.get_running_loop().time
        until, tries = now() + self._patience.outage_s, 0
        while not self._stopping.is_set():
            tries += 1
            failure = await self._try(event)
            if not isinstance(failure, Unavailable) or now() >= until:
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._patience.wait_s(tries), self._patience.ack_wait_s)):
                    await self._stopping.wait()
        if failure is None:
            await self._connection.tell(message.reply, _ACK)
        elif isinstance(failure, Unavailable) and self._stopping.is_set():
            await self._give_back(message)
        elif deliveries >= self._patience.max_deliveries or (isinstance(failure, Refused) and failure.final):
            await self._bury(message, type_, str(failure), event)
        else:
            await self._give_back(message, self._patience.wait_s(deliveries))

    async def _try(self, event: Event) -> DeliveryError | None:
        try:
            await self._consumer.process(event, "nats")
        except DeliveryError as error:
            return error
        except Exception:  # a consumer raises no other, and one that does must not end this task untold
            logger.exception("applying an event failed")
            return Refused("applying it failed")
        return None

    async def _bury(self, message: Msg, type_: str, reason: str, event: Event | None = None) -> None:
        """Move a message to the dead letters; it comes again if that fails."""
        deliveries, sequence = message.metadata.num_delivered, message.metadata.sequence.stream
        about = {"event_type": type_, "event_id": event.id if event else None, "reason": reason, "attempts": deliveries}
        name = self._consumer.name
        headers = {
            **{key: value for key, value in (message.headers or {}).items() if not key.lower().startswith("nats-")},
            ONLY_FOR: name,
            SUBJECT: message.subject,
            ATTEMPTS: str(deliveries),
            REASON: quote(reason[:300], safe=" !#$&'()*+,/:;<=>?@[]^`{|}"),
            # One letter, however often this is tried; and another one if it dies again after it was tried again.
            MESSAGE_ID: f"{name} {sequence} {quote(event.id if event else '')}",
        }
        try:
            kept = message.data if size(headers, message.data) <= self._connection.client.max_payload else b""
            await self._connection.jetstream.publish(
                self._streams.dead_subject(name, type_), kept, stream=self._streams.dead_name, headers=headers
            )
        except (Unavailable, Error, OSError, ValueError) as error:
            logger.warning("event is dead, but was not moved", extra=about | {"error": type(error).__name__})
            await self._give_back(message, self._patience.wait_s(deliveries))
            return
        await self._connection.tell(message.reply, _TERM)
        self._dead.add(1, {"messaging.consumer.group.name": name, "messaging.destination.name": type_})
        logger.error("event is dead", extra=about)

    async def _give_back(self, message: Msg, after_s: float = 0.0) -> None:
        await self._connection.tell(message.reply, b"-NAK " + json.dumps({"delay": int(after_s * 1e9)}).encode())
