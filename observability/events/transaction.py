"""The caller's transaction, in which outbox and inbox write."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

_told_on_commit: WeakKeyDictionary[sqlalchemy.Connection, list[Callable[[], None]]] = WeakKeyDictionary()


async def connection_of(transaction: AsyncConnection | AsyncSession) -> AsyncConnection:
    """The connection of a transaction, which a session has too."""
    return await transaction.connection() if isinstance(transaction, AsyncSession) else transaction


def on_commit(connection: AsyncConnection, told: Callable[[], None]) -> None:
    """Have a function called once when the transaction of a connection commits, just before the database does.

    After a rollback it is not called, nor by a later transaction; that of a savepoint alone does not count.
    """
    sync: sqlalchemy.Connection = connection.sync_connection  # type: ignore[assignment]  # it is in a transaction
    if sync not in _told_on_commit:  # a listener cannot be taken away while it is called, so each connection has one
        _told_on_commit[sync] = []
        event.listen(sync, "commit", _commit)
        event.listen(sync, "rollback", _rollback)
    _told_on_commit[sync].append(told)


def _commit(connection: sqlalchemy.Connection) -> None:
    waiting = _told_on_commit[connection]
    while waiting:
        waiting.pop(0)()


def _rollback(connection: sqlalchemy.Connection) -> None:
    _told_on_commit[connection].clear()
