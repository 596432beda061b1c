"""Blocks: many records in one compressed row, with an index of their tokens.

What one request brings is a *part*, or several of a large one. A large part becomes a block at once. A small one
becomes an *open* block, which has no index; when there are enough of these, they become one block that has. A block
does not change otherwise, and goes when the newest trace of it goes, since then all have.
"""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from observability.viewer.store.wire import Group, join, split

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Signal: TypeAlias = Literal["span", "log"]
Build: TypeAlias = Callable[[Sequence[Group]], tuple[bytes, bytes, bytes]]

MAX_PART_RECORDS, MAX_PART_BYTES = 4096, 1024 * 1024
"""Where a request is cut into parts; one of a single record may be larger."""

CLOSED_RECORDS, CLOSED_BYTES = 256, 256 * 1024
# As many open blocks become one.
OPEN_RECORDS, OPEN_BYTES, OPEN_BLOCKS = 1024, 512 * 1024, 128
_LEVEL = 3


def schema(signal: Signal) -> str:
    """The tables of one signal's blocks.

    `earliest_ns` is the earliest start of all traces that have a record in it; `many` is NULL in an open block.
    `size` is that of the body before it was compressed, `traces` are the numbers of the records' traces, 64 bits
    each, and `durations` 32-bit floats of seconds. What a search reads first stands first.
    """
    return f"""
CREATE TABLE IF NOT EXISTS {signal}_blocks (
    number INTEGER PRIMARY KEY, size INTEGER NOT NULL, count INTEGER NOT NULL, last_trace INTEGER NOT NULL,
    from_ns INTEGER NOT NULL, to_ns INTEGER NOT NULL, earliest_ns INTEGER NOT NULL, longest_ns INTEGER NOT NULL,
    many BLOB, ones BLOB NOT NULL, durations BLOB NOT NULL, traces BLOB NOT NULL, postings BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS {signal}_blocks_by_time ON {signal}_blocks (to_ns);
CREATE INDEX IF NOT EXISTS {signal}_blocks_by_trace ON {signal}_blocks (last_trace);
CREATE INDEX IF NOT EXISTS {signal}_blocks_open ON {signal}_blocks (number) WHERE many IS NULL;
CREATE TABLE IF NOT EXISTS {signal}_bodies (block INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS {signal}_parts (
    number INTEGER PRIMARY KEY, block INTEGER NOT NULL, start INTEGER NOT NULL -- position of its first record
);
CREATE INDEX IF NOT EXISTS {signal}_parts_by_block ON {signal}_parts (block);
"""


@dataclass(slots=True)
class Part:
    """Records that are written together; `traces` and `durations_ns` are theirs, one by one."""

    groups: Sequence[Group]
    traces: Sequence[int]
    durations_ns: Sequence[int]
    from_ns: int
    to_ns: int
    earliest_ns: int


def write_part(connection: sqlite3.Connection, signal: Signal, part: Part, build: Build) -> int:
    """Write a part; its number, which stays when the block that it is in becomes another."""
    count, body = len(part.traces), join(part.groups)
    closed = count >= CLOSED_RECORDS or len(body) >= CLOSED_BYTES
    many, ones, postings = build(part.groups) if closed else (None, b"", b"")
    block = _write_block(
        connection,
        signal,
        (
            count,
            max(part.traces),
            part.from_ns,
            part.to_ns,
            part.earliest_ns,
            max(part.durations_ns),
            many,
            ones,
            array("f", [duration / 1e9 for duration in part.durations_ns]).tobytes(),
            array("Q", part.traces).tobytes(),
            postings,
        ),
        body,
    )
    number = connection.execute(f"INSERT INTO {signal}_parts (block, start) VALUES (?, 0)", (block,)).lastrowid
    if not number:
        raise sqlite3.InternalError("a row has no number")
    return number


def join_open(connection: sqlite3.Connection, signal: Signal, build: Build) -> None:
    """Make one block of the open ones, if there are enough of them."""
    ((blocks, count, size),) = connection.execute(
        f"SELECT count(*), sum(count), sum(size) FROM {signal}_blocks WHERE many IS NULL"
    ).fetchall()
    if blocks < OPEN_BLOCKS and (count or 0) < OPEN_RECORDS and (size or 0) < OPEN_BYTES:
        return
    rows = connection.execute(
        "SELECT number, count, size, last_trace, from_ns, to_ns, earliest_ns, longest_ns, durations, traces, body"
        f" FROM {signal}_blocks JOIN {signal}_bodies ON block = number WHERE many IS NULL ORDER BY number"
    ).fetchall()
    groups = [group for row in rows for group in split(inflate(row[10], row[2]))]
    many, ones, postings = build(groups)
    merged = _write_block(
        connection,
        signal,
        (
            sum(row[1] for row in rows),
            max(row[3] for row in rows),
            min(row[4] for row in rows),
            max(row[5] for row in rows),
            min(row[6] for row in rows),
            max(row[7] for row in rows),
            many,
            ones,
            b"".join(row[8] for row in rows),
            b"".join(row[9] for row in rows),
            postings,
        ),
        join(groups),
    )
    start = 0
    for number, count, *_ in rows:
        connection.execute(
            f"UPDATE {signal}_parts SET block = ?, start = start + ? WHERE block = ?",
            (merged, start, number),
        )
        start += count
    for table, key in (("blocks", "number"), ("bodies", "block")):
        connection.executemany(f"DELETE FROM {signal}_{table} WHERE {key} = ?", [(row[0],) for row in rows])


def begins_earlier(connection: sqlite3.Connection, signal: Signal, starts: Iterable[tuple[int, int]]) -> None:
    """Traces begin earlier than was known: their new starts, each with a part that has records of it."""
    earliest: dict[int, int] = {}
    for start_ns, part in starts:
        earliest[part] = min(start_ns, earliest.get(part, start_ns))
    # A block's row is large, and is written anew for each change.
    connection.executemany(
        f"UPDATE {signal}_blocks SET earliest_ns = ?"
        f" WHERE number = (SELECT block FROM {signal}_parts WHERE number = ?) AND earliest_ns > ?",
        [(start_ns, part, start_ns) for part, start_ns in earliest.items()],
    )


def drop_blocks(connection: sqlite3.Connection, signal: Signal, last_trace: int) -> None:
    """Let the blocks go that have no newer trace."""
    dropped = connection.execute(f"SELECT number FROM {signal}_blocks WHERE last_trace <= ?", (last_trace,)).fetchall()
    for table, key in (("blocks", "number"), ("bodies", "block"), ("parts", "block")):
        connection.executemany(f"DELETE FROM {signal}_{table} WHERE {key} = ?", dropped)


def places(connection: sqlite3.Connection, signal: Signal, parts: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Of each part its block, and the position of its first record there."""
    found = {}
    for part in parts:
        for block, start in connection.execute(f"SELECT block, start FROM {signal}_parts WHERE number = ?", (part,)):
            found[part] = (block, start)
    return found


def read_block(connection: sqlite3.Connection, signal: Signal, block: int) -> list[tuple[bytes, bytes, bytes]]:
    """The records of a block, each with its resource and scope."""
    records = []
    for body, size in connection.execute(
        f"SELECT body, size FROM {signal}_bodies JOIN {signal}_blocks ON number = block WHERE block = ?",
        (block,),
    ):
        for group in split(inflate(body, size)):
            resource, scope = group.resource, group.scope
            records += [(record, resource, scope) for record in group.records]
    return records


def read_open(connection: sqlite3.Connection, signal: Signal) -> Iterator[bytes]:
    """The records of blocks that have no index."""
    for body, size in connection.execute(
        f"SELECT body, size FROM {signal}_blocks JOIN {signal}_bodies ON block = number WHERE many IS NULL"
    ):
        for group in split(inflate(body, size)):
            yield from group.records


def inflate(body: bytes, size: int) -> bytes:
    """A block's request, which has so many bytes."""
    return zstd.ZstdDecompressor().decompress(body, size)


def _write_block(connection: sqlite3.Connection, signal: Signal, row: tuple[object, ...], body: bytes) -> int:
    number = connection.execute(
        f"INSERT INTO {signal}_blocks VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (len(body), *row),
    ).lastrowid
    if not number:
        raise sqlite3.InternalError("a row has no number")
    connection.execute(f"INSERT INTO {signal}_bodies VALUES (?, ?)", (number, zstd.compress(body, _LEVEL)))
    return number
