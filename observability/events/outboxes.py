"""The outboxes of a project's services, for people who look after them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import SQLAlchemyError

from observability.database import create_engine, database_url
from observability.events.outbox import Outbox, outbox_table
from observability.providers import Telemetry


class OutboxError(Exception):
    """A service's database cannot be looked into; the message says which and why."""


@asynccontextmanager
async def open_outboxes(names: Iterable[str], data_dir: Path, url: str | None) -> AsyncIterator[dict[str, Outbox]]:
    """The outbox of each service that has one, around a block.

    Args:
        names: The services'.
        data_dir: Folder of their SQLite files.
        url: Their database, if one is named: `DATABASE_URL`.

    Raises:
        OutboxError: A database is there and cannot be read, or the URL cannot be used.
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
                raise OutboxError(f"the database of {name} cannot be read: {reason}") from error
        yield outboxes


def _has_outbox(connection: Connection, name: str) -> bool:
    return sa.inspect(connection).has_table(outbox_table(name).name)
