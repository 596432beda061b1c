"""Completion of a query while it is typed: keys, and values that they have had."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from observability.viewer.query import FIELDS, as_text
from observability.viewer.store.attributes import decode, key_token
from observability.viewer.store.blocks import Signal, read_open
from observability.viewer.store.fields import KINDS, SEVERITIES, STATUSES
from observability.viewer.store.vocabulary import known_keys, known_values
from observability.viewer.store.wire import parse_log, parse_span

MOST = 50
_SIGNALS: tuple[Signal, ...] = ("span", "log")


def complete_keys(connection: sqlite3.Connection, prefix: str) -> list[str]:
    """Keys of fields and attributes that begin so, sorted."""
    keys = set(known_keys(connection, prefix, MOST))
    keys.update(key for encoded in set(_unindexed(connection)) if (key := decode(encoded)[0]).startswith(prefix))
    keys.update(key for key in FIELDS if key.startswith(prefix))
    return sorted(keys)[:MOST]


def complete_values(connection: sqlite3.Connection, key: str, prefix: str) -> list[str]:
    """Values of a field or an attribute that begin so, sorted."""
    values = set(_of_field(connection, key))
    if key not in FIELDS:
        values.update(value for _, value in known_values(connection, key_token(key), prefix, MOST))
        for encoded in set(_unindexed(connection)):
            one, value = decode(encoded)
            if one == key:
                values.add(as_text(value))
    return sorted(value for value in values if value.startswith(prefix))[:MOST]


def _of_field(connection: sqlite3.Connection, key: str) -> list[str]:
    match key:
        case "service" | "operation":
            column = "service" if key == "service" else "name"
            return [row[0] for row in connection.execute(f"SELECT DISTINCT {column} FROM operations")]
        case "kind":
            return list(KINDS.values())
        case "status":
            return list(STATUSES.values())
        case "severity":
            return list(SEVERITIES)
        case "error":
            return ["true", "false"]
    return []


def _unindexed(connection: sqlite3.Connection) -> Iterator[bytes]:
    """The attributes of records that are in no index yet."""
    for signal in _SIGNALS:
        for record in read_open(connection, signal):
            yield from (parse_span(record) if signal == "span" else parse_log(record)).attributes
