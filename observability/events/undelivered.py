"""Events that were not delivered, of all services of a project, for people who look after them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import SQLAlchemyError

from observability.database import create_engine, database_url
from observability.events.delivery import Unavailable
from observability.events.outbox import Outbox, outbox_table
from observability.events.report import dead_letter_line, line
from observability.providers import Telemetry

if TYPE_CHECKING:
    from observability.events.nats.dead import DeadLetters

CONNECT_TIMEOUT_S = 5.0


class UndeliveredError(Exception):
    """A database or the broker cannot be looked into; the message says which and why."""


class Undelivered:
    """What waits or died in the outboxes of services, and what died in consumers behind a broker.

    Args:
        outboxes: By the names of their services.
        dead: The broker's, if there is one.
    """

    def __init__(self, outboxes: Mapping[str, Outbox], dead: DeadLetters | None) -> None:
        self._outboxes = outboxes
        self._dead = dead

    async def lines(self, limit: int) -> AsyncIterator[str]:
        """A line for each event, so many at most of each service, and one for each service in the end."""
        for name, outbox in self._outboxes.items():
            for stored in await outbox.unsent(limit):
                yield line(name, stored)
        letters = await self._dead.found(limit=limit) if self._dead is not None else []
        for letter in letters:
            yield dead_letter_line(letter)
        for name, outbox in self._outboxes.items():
            backlog = await outbox.backlog()
            yield f"{name}: {backlog.pending} wait, {backlog.dead} dead"
        if self._dead is not None:
            yield f"dead letters: {len(letters)}"

    async def retry(self, event_id: str | None) -> int:
        """Have refused and dead events, or the one of this id, tried again; how many there were."""
        count = sum([await outbox.retry(event_id) for outbox in self._outboxes.values()])
        return count + (await self._dead.retry(event_id) if self._dead is not None else 0)

    async def discard(self, event_id: str) -> int:
        """Delete an event; how many there were of this id."""
        count = sum([await outbox.discard(event_id) for outbox in self._outboxes.values()])
        return count + (await self._dead.discard(event_id) if self._dead is not None else 0)


@asynccontextmanager
async def open_undelivered(
    names: Iterable[str], data_dir: Path, url: str | None, broker_url: str | None
) -> AsyncIterator[Undelivered]:
    """Look into the outbox of each service that has one, and into the broker, around a block.

    Args:
        names: The services'.
        data_dir: Folder of their SQLite files.
        url: Their database, if one is named: `DATABASE_URL`.
        broker_url: Their broker, if there is one: `BROKER_URL`.

    Raises:
        UndeliveredError: Something that is there cannot be read, or a URL cannot be used, or there is nothing yet.
    """
    telemetry = Telemetry.build("clearspan")  # nobody is told of what people do here
    outboxes = {}
    async with AsyncExitStack() as stack:
        for name in names:
            try:
                database = database_url(name, data_dir, url)
                parsed = make_url(database)
                file = Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None
                if file is not None and not file.is_file():
                    continue  # the service has not run yet, and to look is no reason to make its database
                engine = create_engine(database, "clearspan events")
                stack.push_async_callback(engine.dispose)
                async with engine.connect() as connection:
                    if await connection.run_sync(_has_outbox, name):
                        outboxes[name] = Outbox(engine, name, telemetry)
            except (SQLAlchemyError, ValueError, OSError) as error:
                reason = getattr(error, "orig", None) or error
                raise UndeliveredError(f"the database of {name} cannot be read: {reason}") from error
        if not outboxes:
            raise UndeliveredError("no service has an outbox here; name its --data-dir or DATABASE_URL")
        dead = None
        if broker_url:
            # Only who has a broker needs its library.
            from observability.events.nats.dead import dead_letters  # noqa: PLC0415

            try:
                dead = await stack.enter_async_context(dead_letters(broker_url, timeout_s=CONNECT_TIMEOUT_S))
            except (Unavailable, ValueError) as error:
                raise UndeliveredError(f"BROKER_URL: {error}") from error
        yield Undelivered(outboxes, dead)


def _has_outbox(connection: Connection, name: str) -> bool:
    return sa.inspect(connection).has_table(outbox_table(name).name)
