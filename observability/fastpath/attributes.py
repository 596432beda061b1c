"""Attributes as OTLP's KeyValue messages, their secrets cut out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

from opentelemetry.attributes import BoundedAttributes

from observability.fastpath.wire import ONE_BYTE_LENGTH, double, field, int64, varint
from observability.scrub import REDACTED, is_secret, scrub_attribute, scrub_attributes
from observability.telemetry import SCRUBBED

MAX_REMEMBERED: Final = 4096
"""Pairs of key and value whose bytes are remembered, of each kind; beyond them all are forgotten."""

MAX_REMEMBERED_CHARACTERS: Final = 128
MAX_REMEMBERED_INT: Final = 0xFFFF

_MOST_VARINT = 10  # bytes of a number
_DOUBLE = 8

_NOTHING = b""
_FALSE, _TRUE = b"\x10\x00", b"\x10\x01"

_Key = TypeVar("_Key")
_Encoded = TypeVar("_Encoded")

_logger = logging.getLogger(__name__)


class Attributes:
    """Encodes and scrubs the attributes of one kind of message.

    Short texts and small numbers that come again are encoded once; a text that holds a secret is remembered as what is
    left of it. Threads may share it.
    """

    def __init__(self, tag: bytes) -> None:
        """Encode as the field with this tag."""
        self._tag = tag
        self._texts: dict[tuple[str, str], bytes] = {}
        self._ints: dict[tuple[str, int], bytes] = {}
        self._heads: dict[str, tuple[bytes, int]] = {}
        self._cut_texts: dict[tuple[str, str], bytes] = {}
        self._paths: dict[tuple[str, ...], bytes] = {}

    def add(self, attributes: Mapping[str, Any], parts: list[bytes], cut: list[str], at: str = "attributes") -> None:
        """Append a part for each attribute, and the path of each secret that was cut.

        What OTLP has no form for (a lone surrogate, an integer of more than 64 bits) is left out, and logged.
        """
        texts, ints = self._texts, self._ints
        for pair in attributes.items():
            value = pair[1]
            kind = type(value)
            if kind is str:
                encoded = texts.get(pair) or self._text(pair, cut, at)
            elif kind is int:
                encoded = ints.get(pair) or self._int(pair, cut, at)
            elif kind is float:
                encoded = self._float(pair)
            else:
                encoded = self._other(pair, cut, at)
            parts.append(encoded)

    def tell(self, cut: list[str], attributes: Mapping[str, Any], parts: list[bytes], first: int) -> None:
        """Append an attribute that names what was cut, if anything was, or put it in the place of one of that name.

        Args:
            cut: Paths of what was cut.
            attributes: The message's own, whose parts `add` appended.
            parts: Of the message.
            first: Where in `parts` those of the attributes begin.
        """
        if not cut:
            return
        key = tuple(cut)
        paths = self._paths.get(key)
        if paths is None:
            paths = plain({SCRUBBED: cut}, self._tag)
            if 0 < len(paths) <= MAX_REMEMBERED_CHARACTERS:
                remember(self._paths, key, paths)
        if SCRUBBED in attributes:
            parts[first + list(attributes).index(SCRUBBED)] = paths
        else:
            parts.append(paths)

    def _text(self, pair: tuple[str, str], cut: list[str], at: str) -> bytes:
        key, value = pair
        scrubbed, found = scrub_attribute(key, value)
        if found:
            cut.append(f"{at}.{key}")
            # Apart from clean ones: what is cut may, looked through again, be cut once more.
            return self._cut_texts.get((key, scrubbed)) or self._new_text(key, scrubbed, self._cut_texts)
        return self._new_text(key, value, self._texts)

    def _new_text(self, key: str, value: str, known: dict[tuple[str, str], bytes]) -> bytes:
        if len(value) > MAX_REMEMBERED_CHARACTERS or not value.isascii():
            return plain({key: value}, self._tag)
        head, room = self._head(key)
        length = len(value)
        if length > room:
            return plain({key: value}, self._tag)
        encoded = b"%b%c%b\x12%c\x0a%c%b" % (
            self._tag,
            ONE_BYTE_LENGTH - room + length,
            head,
            length + 2,
            length,
            value.encode(),
        )
        remember(known, (key, value), encoded)
        return encoded

    def _int(self, pair: tuple[str, int], cut: list[str], at: str) -> bytes:
        key, value = pair
        if is_secret(key):
            cut.append(f"{at}.{key}")
            return plain({key: REDACTED}, self._tag)
        head, room = self._head(key)
        if not 0 <= value <= MAX_REMEMBERED_INT or room < _MOST_VARINT:
            return plain({key: value}, self._tag)
        number = varint(value)
        length = len(number) + 1
        encoded = b"%b%c%b\x12%c\x18%b" % (self._tag, len(head) + 2 + length, head, length, number)
        remember(self._ints, pair, encoded)
        return encoded

    def _float(self, pair: tuple[str, float]) -> bytes:
        head, room = self._head(pair[0])
        if room < _DOUBLE:
            return plain({pair[0]: pair[1]}, self._tag)
        return b"%b%c%b\x12\x09\x21%b" % (self._tag, len(head) + 3 + _DOUBLE, head, double(pair[1]))

    def _other(self, pair: tuple[str, Any], cut: list[str], at: str) -> bytes:
        key, value = pair
        if value is not None and not isinstance(value, (bool, float)):
            scrubbed, found = scrub_attributes({key: value}, at=at)
            if found:
                cut.extend(found)
                value = scrubbed[key]
        return plain({key: value}, self._tag)

    def _head(self, key: str) -> tuple[bytes, int]:
        """The field of a key, and how many bytes a text beside it may have for all lengths to be of one byte."""
        known = self._heads.get(key)
        if known is None:
            head = field(b"\x0a", key.encode(errors="replace"))
            known = head, ONE_BYTE_LENGTH - len(head) - 4 if key.isascii() else -1
            if len(key) <= MAX_REMEMBERED_CHARACTERS:
                remember(self._heads, key, known)
        return known


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
            _logger.warning("attribute %r cannot be exported: %s", key, error)
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


def remember(known: dict[_Key, _Encoded], key: _Key, encoded: _Encoded) -> None:
    """Keep what was encoded for a while, in bounded memory."""
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    known[key] = encoded
