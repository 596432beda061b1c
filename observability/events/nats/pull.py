"""Asks a durable consumer of JetStream for messages, for so many as there is room, and has each worked on."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig

from observability.events.delivery import Unavailable
from observability.events.nats.connection import NatsConnection
from observability.events.nats.streams import Streams
from observability.tasks import end

STOP_TIMEOUT_S: Final = 2.0
"""How long work may take to end when the service stops, in seconds."""

MAX_ACK_PENDING: Final = 1000
"""How many messages may be in work or wait for their next attempt, at all replicas together."""

ASK_S: Final = 5.0
"""How long one request for messages stands, in seconds."""

_PROGRESS = b"+WPI"
_NO_MORE = ("404", "408")
_HEARTBEAT = "100"
_PAUSE_S = 1.0

logger = logging.getLogger(__name__)


class Pull:
    """Takes messages of one durable consumer, which it makes, and the stream too, whenever they are not there.

    nats-py's own `fetch` waits until it has as many as it has asked for, or the time is up; here work on each begins
    as it comes. While a message is here JetStream is shown signs of life, so that it gives it to nobody else.

    Args:
        connection: To the server.
        streams: Where the messages are.
        durable: The name of the durable consumer, which all replicas share.
        subject: Of the messages.
        work: Sees to one message, and tells JetStream what became of it. It raises nothing.
        concurrency: How many messages are here at once.
        ack_wait_s: How long JetStream waits for a sign of life, in seconds.
        ask_s: How long one request stands, in seconds; so much is lost when one is.
    """

    def __init__(
        self,
        connection: NatsConnection,
        streams: Streams,
        durable: str,
        subject: str,
        work: Callable[[Msg], Coroutine[Any, Any, None]],
        *,
        concurrency: int,
        ack_wait_s: float,
        ask_s: float,
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._durable = durable
        self._subject = subject
        self._work = work
        self._concurrency = concurrency
        self._ack_wait_s = ack_wait_s
        self._ask_s = ask_s
        self._own: list[asyncio.Task[None]] = []
        self._working: dict[asyncio.Task[None], Msg] = {}
        self._asked = 0
        self._trouble: str | None = None
        self._news = asyncio.Event()
        connection.on_change(self._news.set)

    def start(self) -> None:
        """Begin to take messages."""
        self._own = [
            asyncio.create_task(self._run(), name=f"nats {self._durable}"),
            asyncio.create_task(self._show_life(), name=f"nats signs of life of {self._durable}"),
        ]

    async def stop(self) -> None:
        """Take no more, and let work end within bounds."""
        asking, life = self._own
        try:
            await end(asking)
            if self._working:
                await asyncio.wait(self._working, timeout=STOP_TIMEOUT_S)
        finally:
            await asyncio.gather(*map(end, (life, *self._working)))

    async def _show_life(self) -> None:
        while True:
            await asyncio.sleep(self._ack_wait_s / 3)
            for message in list(self._working.values()):
                await self._connection.tell(message.reply, _PROGRESS)

    async def _run(self) -> None:
        told = False
        while True:
            self._news.clear()
            try:
                await self._take()
                told = False
                continue
            except Unavailable:
                pass  # the connection has told it
            except Exception as error:  # noqa: BLE001 - nats-py raises all kinds of errors; the next attempt may do
                if not told:
                    logger.warning("nothing comes from %s: %s %s", self._durable, type(error).__name__, error)
                told = True
            await self._wait(_PAUSE_S)

    async def _take(self) -> None:
        """Take messages for as long as the connection and the durable consumer last."""
        client, number = self._connection.client, self._connection.number
        await self._make()
        inbox = client.new_inbox()
        self._asked, self._trouble = 0, None
        subscription = await client.subscribe(inbox, cb=self._received)
        now = asyncio.get_running_loop().time
        answered_by = now()
        try:
            while self._connection.client is client and self._connection.number == number:
                self._news.clear()
                if self._trouble is not None:
                    raise Error(f"the server says {self._trouble}")
                if self._asked <= 0 or now() >= answered_by:
                    self._asked = max(0, self._concurrency - len(self._working))
                    answered_by = now() + self._ask_s + 1.0
                    if self._asked:
                        await self._ask(client, inbox)
                await self._wait(answered_by - now())
        finally:
            with suppress(Error, OSError):
                await subscription.unsubscribe()

    async def _make(self) -> None:
        jetstream = self._connection.jetstream
        await self._streams.make(jetstream)
        config = ConsumerConfig(
            durable_name=self._durable,
            filter_subject=self._subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait_s,
            max_ack_pending=MAX_ACK_PENDING,
            # No max_deliver: after so many JetStream would only forget a message. Whoever works on it counts.
        )
        await jetstream.add_consumer(self._streams.name, config)

    async def _ask(self, client: Client, inbox: str) -> None:
        request = {"batch": self._asked, "expires": int(self._ask_s * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._streams.name}.{self._durable}"
        await client.publish(subject, json.dumps(request).encode(), reply=inbox)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._news.wait()

    async def _received(self, message: Msg) -> None:
        if message.reply.startswith("$JS.ACK."):
            self._asked -= 1
            task = asyncio.create_task(self._work(message), name=f"nats message of {self._durable}")
            self._working[task] = message
            task.add_done_callback(self._done)
            if self._asked <= 0:
                self._news.set()
            return
        # What else comes is the server's word on the request.
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status in _NO_MORE:
            self._asked = 0
        elif status != _HEARTBEAT:
            self._trouble = " ".join(headers.values())
        self._news.set()

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._working[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("working on a message failed", exc_info=error)
        if self._asked <= 0:
            self._news.set()
