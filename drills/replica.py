"""The processes of the drill with two replicas: a replica of orders, and the one consumer of what they tell.

A replica adds events of a few subjects as fast as it is told, and delivers what either of them has added. The number of
an event is its place in the order of its subject's commits, so that it can be seen of every event whether it was lost,
came twice or overtook another one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Final, Self

import sqlalchemy as sa
from fastapi import FastAPI
from pydantic import AnyHttpUrl
from sqlalchemy.ext.asyncio import AsyncEngine

from observability import Telemetry, observe, serve
from observability.database import create_engine, is_busy
from observability.events.consumer import Consumer
from observability.events.endpoint import EventIntake
from observability.events.event import Event
from observability.events.exchange import Routes, exchange
from observability.events.inbox import Inbox
from observability.events.outbox import Outbox

SUBJECTS = [f"order-{number}" for number in range(40)]
TYPE: Final = "order.changed"
SERVICE, CONSUMER = "orders", "shipping"

QUIET: Final = "/quiet"
"""A replica that this is posted to adds no more events; it still delivers."""

ADDERS = 4
"""Transactions that one replica may have under way at once."""

_metadata = sa.MetaData()
COUNTERS = sa.Table(
    "counters",
    _metadata,
    sa.Column("subject", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
)
"""How many events of each subject were committed, by whichever replica."""

APPLIED = sa.Table(
    "applied",
    _metadata,
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("event_id", sa.String(64), nullable=False),
    sa.Column("subject", sa.String(64), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
)
"""The consumer's effect of each event, in the order in which they came to be."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setting:
    """What one process is told.

    Attributes:
        port: Where it answers.
        database: Its own, which the replicas share.
        rate: Events that it adds a second; none if it is the consumer.
        broker: The URL of NATS; without it events go over HTTP.
        consumer_url: Where the consumer is.
        token: What all of them know.
    """

    port: int
    database: str
    rate: float | None
    broker: str | None
    consumer_url: str
    token: str

    def command(self) -> list[str]:
        """Starts the process."""
        return [sys.executable, "-m", "drills.replica", json.dumps(asdict(self))]

    @classmethod
    def from_command(cls, argument: str) -> Self:
        """What the process was started with."""
        return cls(**json.loads(argument))

    def way(self) -> Routes | str:
        """How events travel, as `exchange` takes it."""
        return self.broker or Routes({CONSUMER: AnyHttpUrl(self.consumer_url)}, {TYPE: [CONSUMER]}, self.token)


def replica(setting: Setting, rate: float) -> FastAPI:
    """A replica: adds events until it is told to be quiet, and delivers them."""
    telemetry = Telemetry.from_environment(SERVICE)
    engine = create_engine(setting.database)
    outbox, inbox = Outbox(engine, SERVICE, telemetry), Inbox(engine, SERVICE, telemetry)
    adders: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with exchange(outbox, inbox, Consumer(SERVICE, {}, telemetry), telemetry, setting.way()):
            adders.extend(asyncio.create_task(_add(engine, outbox, ADDERS / rate)) for _ in range(ADDERS))
            yield
            await quiet()
        await engine.dispose()

    async def quiet() -> None:
        for task in adders:
            task.cancel()
        for task in adders:
            with suppress(asyncio.CancelledError):
                await task

    app = FastAPI(lifespan=lifespan)
    app.post(QUIET, status_code=204)(quiet)
    observe(app, telemetry)
    return app


async def _add(engine: AsyncEngine, outbox: Outbox, every_s: float) -> None:
    count = (
        sa.update(COUNTERS)
        .where(COUNTERS.c.subject == sa.bindparam("of"))
        .values(number=COUNTERS.c.number + 1)
        .returning(COUNTERS.c.number)
    )
    loop = asyncio.get_running_loop()
    at = loop.time() + random.uniform(0, every_s)  # noqa: S311 - not for secrets
    while True:
        await asyncio.sleep(at - loop.time())
        at += every_s
        subject = random.choice(SUBJECTS)  # noqa: S311 - not for secrets
        try:
            async with engine.begin() as connection:
                number = (await connection.execute(count, {"of": subject})).scalar_one()
                await outbox.add(connection, Event(TYPE, "/orders", subject, json.dumps({"number": number}).encode()))
        except Exception as error:
            if not is_busy(error):
                raise
            logger.warning("an event was not added, since the database has too much to do")


def consumer(setting: Setting) -> FastAPI:
    """The consumer: writes down each event that it applies."""
    telemetry = Telemetry.from_environment(CONSUMER)
    engine = create_engine(setting.database)
    outbox, inbox = Outbox(engine, CONSUMER, telemetry), Inbox(engine, CONSUMER, telemetry)

    async def apply(event: Event) -> None:
        row = {"event_id": event.id, "subject": event.subject, "number": json.loads(event.data)["number"]}
        async with engine.begin() as connection:
            if await inbox.accept(connection, event):
                await connection.execute(sa.insert(APPLIED), row)

    taking = Consumer(CONSUMER, {TYPE: apply}, telemetry)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with exchange(outbox, inbox, taking, telemetry, setting.way()):
            yield
        await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    observe(app, telemetry, events=EventIntake(taking, setting.token))
    return app


if __name__ == "__main__":
    told = Setting.from_command(sys.argv[1])
    serve(
        consumer(told) if told.rate is None else replica(told, told.rate),
        host="127.0.0.1",
        port=told.port,
    )
