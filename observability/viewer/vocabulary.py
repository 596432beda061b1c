"""The keys that attributes have had, and the values that came more than once: for completion, and for searches by more than
one value.

It is bounded, and begins anew when it is full.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Mapping

from observability.viewer.attributes import Attribute
from observability.viewer.index import Positions

MAX_KEYS = 2_000
MAX_VALUES = 20_000
MAX_VALUES_PER_KEY = 200

SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (token INTEGER PRIMARY KEY, key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS key_values (token INTEGER PRIMARY KEY, key INTEGER NOT NULL, value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS key_values_by_key ON key_values (key);
"""

# Numbers that a query cannot write: as text they would be told apart from what they are.
_ODD_NUMBER = re.compile(r"[+-]?(inf|nan|[0-9.]+e[+-]?[0-9]+|[0-9]{19,}(\.[0-9]+)?|[0-9]+\.[0-9]{19,})", re.IGNORECASE)


class Vocabulary:
    """What the writer knows to be in the file, so that it writes only what is new.

    Another process may write it too, and begin it anew: then something is missing until this one does.
    """

    def __init__(self) -> None:
        self._keys: set[int] = set()
        self._values: set[int] = set()
        self._values_of: Counter[int] = Counter()

    def add(self, connection: sqlite3.Connection, positions: Positions, known: Mapping[int, Attribute]) -> None:
        """Add the keys of a block's attributes, and the values that more than one of its records have."""
        keys, values = [], []
        for token, held in positions.items():
            attribute = known[token]
            if attribute.key is None:
                continue
            if attribute.key_token not in self._keys:
                self._keys.add(attribute.key_token)
                keys.append((attribute.key_token, attribute.key))
            if (
                len(held) > 1
                and attribute.text is not None
                and token not in self._values
                and self._values_of[attribute.key_token] < MAX_VALUES_PER_KEY
                and not _ODD_NUMBER.fullmatch(attribute.text)
            ):
                self._values.add(token)
                self._values_of[attribute.key_token] += 1
                values.append((token, attribute.key_token, attribute.text))
        if len(self._keys) > MAX_KEYS or len(self._values) > MAX_VALUES:
            self.forget()
            connection.execute("DELETE FROM keys")
            connection.execute("DELETE FROM key_values")
        connection.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", keys[:MAX_KEYS])
        connection.executemany("INSERT OR IGNORE INTO key_values VALUES (?, ?, ?)", values[:MAX_VALUES])

    def forget(self) -> None:
        """Know nothing, so that all that comes is written: what was to be written may not have been."""
        self._keys.clear()
        self._values.clear()
        self._values_of.clear()


def known_keys(connection: sqlite3.Connection, prefix: str, limit: int) -> list[str]:
    """Keys that begin so, sorted."""
    query = "SELECT DISTINCT key FROM keys WHERE substr(key, 1, ?) = ? ORDER BY key LIMIT ?"
    return [row[0] for row in connection.execute(query, (len(prefix), prefix, limit))]


def known_values(connection: sqlite3.Connection, key: int, prefix: str, limit: int) -> list[tuple[int, str]]:
    """Tokens and values of a key (by its token) that begin so, sorted."""
    query = "SELECT token, value FROM key_values WHERE key = ? AND substr(value, 1, ?) = ? ORDER BY value LIMIT ?"
    return connection.execute(query, (key, len(prefix), prefix, limit)).fetchall()
