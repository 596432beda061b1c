"""What is too old or too much goes: the traces that arrived first, whole."""

from __future__ import annotations

import sqlite3

from observability.viewer.store.blocks import drop_blocks
from observability.viewer.store.database import bytes_in_use

SCHEMA = """
CREATE TABLE IF NOT EXISTS arrivals (minute INTEGER PRIMARY KEY, last_trace INTEGER NOT NULL);
"""

_TABLES = {
    "traces": "number",
    "shares": "trace",
    "log_shares": "trace",
    "links": "trace",
    "operations": "last_trace",
    "statistics": "last_trace",
    "calls": "last_trace",
    "arrivals": "last_trace",
}


def evict(connection: sqlite3.Connection, max_bytes: int, max_age_s: float, now: float) -> int:
    """Let traces go until the pages in use are few enough and none came too long ago, in the caller's transaction.

    Returns:
        The number of the last trace that went; 0 if none did.
    """
    last = 0
    minute = int(now // 60)
    ((newest,),) = connection.execute("SELECT coalesce(max(number), 0) FROM traces").fetchall()
    connection.execute(
        "INSERT INTO arrivals VALUES (?, ?) ON CONFLICT DO UPDATE SET last_trace = excluded.last_trace",
        (minute, newest),
    )
    ((aged,),) = connection.execute(
        "SELECT max(last_trace) FROM arrivals WHERE minute < ?", (int((now - max_age_s) // 60),)
    ).fetchall()
    if aged is not None:
        _drop(connection, aged)
        last = int(aged)
    while bytes_in_use(connection) > max_bytes:
        # As many as free a block: less frees next to nothing.
        ((oldest,),) = connection.execute(
            "SELECT min(last_trace) FROM (SELECT min(last_trace) AS last_trace FROM span_blocks"
            " UNION ALL SELECT min(last_trace) FROM log_blocks)"
        ).fetchall()
        if oldest is None:
            break
        _drop(connection, oldest)
        last = max(last, int(oldest))
    return last


def _drop(connection: sqlite3.Connection, last_trace: int) -> None:
    """Let the traces up to this one go, with all that no other has had since."""
    for signal in ("span", "log"):
        drop_blocks(connection, signal, last_trace)
    for table, column in _TABLES.items():
        connection.execute(f"DELETE FROM {table} WHERE {column} <= ?", (last_trace,))
