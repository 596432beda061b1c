"""The keys that attributes have had, and values that came more than once.

They are for completion, and for searches by more than one value.
It is bounded, and begins anew when it is full.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from observability.viewer.query import as_text
from observability.viewer.store.attributes import Attributes, decode

MAX_KEYS = 2_000
MAX_VALUES = 20_000
MAX_VALUES_PER_KEY = 200
MAX_TEXT = 128  # characters of a value

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
        self._full: set[int] = set()

    def add(
        self,
        connection: sqlite3.Connection,
        positions: Mapping[int, Sequence[int]],
        keys_there: Iterable[int],
        attributes: Attributes,
    ) -> None:
        """Add the keys of a block's attributes, and the values that more than one of its records have.

        Args:
            connection: Where a transaction is open.
            positions: Those of the block's records by the tokens of their attributes.
            keys_there: The tokens of the keys of these.
            attributes: Know all of them.
        """
        keys, values = {}, {}
        known_keys, known_values, full = self._keys, self._values, self._full
        key_of = attributes.key_tokens
        if not known_keys.issuperset(keys_there):
            for token in positions:
                key, encoded = key_of[token], attributes.encoded.get(token)
                if key not in known_keys and encoded is not None:
                    known_keys.add(key)
                    keys[key] = decode(encoded)[0]
        for token in [token for token, held in positions.items() if len(held) > 1 and token not in known_values]:
            key, encoded = key_of[token], attributes.encoded.get(token)
            if key in full or encoded is None:
                continue
            text = as_text(decode(encoded)[1])
            if len(text) <= MAX_TEXT and not _ODD_NUMBER.fullmatch(text):
                known_values.add(token)
                values[token] = (key, text)
                self._values_of[key] += 1
                if self._values_of[key] == MAX_VALUES_PER_KEY:
                    full.add(key)
        if len(known_keys) > MAX_KEYS or len(known_values) > MAX_VALUES:
            self.forget()
            connection.execute("DELETE FROM keys")
            connection.execute("DELETE FROM key_values")
            return
        connection.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", keys.items())
        connection.executemany(
            "INSERT OR IGNORE INTO key_values VALUES (?, ?, ?)", [(token, *value) for token, value in values.items()]
        )

    def forget(self) -> None:
        """Know nothing, so that all that comes is written: what was to be written may not have been."""
        self._keys.clear()
        self._values.clear()
        self._values_of.clear()
        self._full.clear()


def known_keys(connection: sqlite3.Connection, prefix: str, limit: int) -> list[str]:
    """Keys that begin so, sorted."""
    query = "SELECT DISTINCT key FROM keys WHERE substr(key, 1, ?) = ? ORDER BY key LIMIT ?"
    return [row[0] for row in connection.execute(query, (len(prefix), prefix, limit))]


def known_values(connection: sqlite3.Connection, key: int, prefix: str, limit: int) -> list[tuple[int, str]]:
    """Tokens and values of a key (by its token) that begin so, sorted."""
    query = "SELECT token, value FROM key_values WHERE key = ? AND substr(value, 1, ?) = ? ORDER BY value LIMIT ?"
    return connection.execute(query, (key, len(prefix), prefix, limit)).fetchall()
