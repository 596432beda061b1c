"""The caller's transaction, in which outbox and inbox write."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession


async def connection_of(transaction: AsyncConnection | AsyncSession) -> AsyncConnection:
    """The connection of a transaction, which a session has too."""
    return await transaction.connection() if isinstance(transaction, AsyncSession) else transaction


def on_commit(connection: AsyncConnection, told: Callable[[], None]) -> None:
    """Have a function called when the transaction of a connection commits, just before the database does.

    After a rollback it is not called, nor by a later transaction.
    """
    sync: sqlalchemy.Connection = connection.sync_connection  # type: ignore[assignment]  # it is in a transaction

    def commit(_: object) -> None:
        forget()
        told()

    def forget(_: object = None) -> None:
        event.remove(sync, "commit", commit)
        event.remove(sync, "rollback", forget)

    event.listen(sync, "commit", commit)
    event.listen(sync, "rollback", forget)
