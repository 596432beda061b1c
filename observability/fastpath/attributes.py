"""Attributes as OTLP's KeyValue messages, their secrets cut out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

from opentelemetry.attributes import BoundedAttributes

from observability.fastpath.wire import double, field, int64
from observability.scrub import scrub_attributes

MAX_REMEMBERED: Final = 4096
"""Pairs of key and value whose bytes are remembered, of each kind; beyond them all are forgotten."""

MAX_REMEMBERED_CHARACTERS: Final = 128
MAX_REMEMBERED_INT: Final = 0xFFFF

_NOTHING = b""
_FALSE, _TRUE = b"\x10\x00", b"\x10\x01"

_Pair = TypeVar("_Pair")

_logger = logging.getLogger(__name__)


class Attributes:
    """Encodes and scrubs the attributes of one kind of message.

    Short texts and small numbers that come again are encoded once. What holds a secret is never remembered. Threads may
    share it.
    """

    def __init__(self, tag: bytes) -> None:
        """Encode as the field with this tag."""
        self._tag = tag
        self._texts: dict[tuple[str, str], bytes] = {}
        self._ints: dict[tuple[str, int], bytes] = {}

    def add(self, attributes: Mapping[str, Any], parts: list[bytes], cut: list[str], at: str = "attributes") -> None:
        """Append a part for each attribute, and the path of each secret that was cut.

        What OTLP has no form for (a lone surrogate, an integer of more than 64 bits) is left out, and logged.
        """
        texts, ints = self._texts, self._ints
        for pair in attributes.items():
            value = pair[1]
            kind = type(value)
            if kind is str:
                encoded = texts.get(pair)
            elif kind is int:
                encoded = ints.get(pair)
            else:
                encoded = None
            parts.append(encoded if encoded is not None else self._encode(pair[0], value, cut, at))

    def _encode(self, key: str, value: object, cut: list[str], at: str) -> bytes:
        found: list[str] = []
        if value is not None and not isinstance(value, (bool, int, float)):
            scrubbed, found = scrub_attributes({key: value}, at=at)
            if found:
                value = scrubbed[key]
        encoded = plain({key: value}, self._tag)
        if found:
            cut.extend(found)
        elif type(value) is str:
            if len(value) <= MAX_REMEMBERED_CHARACTERS:
                remember(self._texts, (key, value), encoded)
        elif type(value) is int and 0 <= value <= MAX_REMEMBERED_INT:
            remember(self._ints, (key, value), encoded)
        return encoded


def copied(attributes: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The attributes as they are now; the SDK's own mappings would be asked for each one by itself."""
    if isinstance(attributes, (MappingProxyType, BoundedAttributes)):
        return attributes.copy()
    return attributes or {}


def plain(attributes: Mapping[str, Any], tag: bytes) -> bytes:
    """Fields of attributes as they are; what OTLP has no form for is left out, and logged."""
    parts = []
    for key, value in attributes.items():
        try:
            parts.append(field(tag, key_value(key, value)))
        except (ValueError, TypeError) as error:
            _logger.warning("attribute %s cannot be exported: %s", key, error)
    return b"".join(parts)


def key_value(key: str, value: object) -> bytes:
    """A KeyValue message.

    Raises:
        ValueError: There is no form for the value.
        TypeError: There is none for values of its type.
    """
    return field(b"\x0a", key.encode()) + field(b"\x12", any_value(value))


def any_value(value: object) -> bytes:
    """An AnyValue message; see `key_value` for what it raises."""
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, str):
        return field(b"\x0a", value.encode())
    if isinstance(value, int):
        return b"\x18" + int64(value)
    if isinstance(value, float):
        return b"\x21" + double(value)
    if isinstance(value, bytes):
        return field(b"\x3a", value)
    if isinstance(value, Sequence):
        return field(b"\x2a", b"".join(field(b"\x0a", any_value(item)) for item in value))
    if isinstance(value, Mapping):
        return field(b"\x32", b"".join(field(b"\x0a", key_value(str(key), item)) for key, item in value.items()))
    raise TypeError(f"attributes have no values of type {type(value).__name__}")


def remember(known: dict[_Pair, bytes], pair: _Pair, encoded: bytes) -> None:
    """Keep what was encoded for a while, in bounded memory."""
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    known[pair] = encoded
