"""Encoded attributes, and the tokens by which records are searched for them.

A token is a hash of a key and a value as text. Two that differ have the same one once in four billion, so what is
found by a token is looked at again.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.query import Value, as_text
from observability.viewer.store.fields import plain_value, service_name
from observability.viewer.store.index import Positions

_MAX_REMEMBERED = 20_000
_MAX_UNREMEMBERED = 4_000  # what is looked up all the time should stay in the processor's cache
_MAX_VALUES_PER_KEY = 1_000
_MAX_REMEMBERED_BYTES = 256
# Before what is hashed, so that a field, a key and a key with its value never look the same.
_FIELD, _KEY, _PAIR = "\1", "\2", "\3"


_STATUS_KEYS = frozenset({"http.response.status_code", "http.status_code"})

# Below it, a length takes one byte.
_SHORT = 128
# What an encoded value of so many bytes begins with if it is text, and if it is a number.
_TEXT_HEADS = [bytes((0x12, max(0, size - 2), 0x0A, max(0, size - 4))) for size in range(_SHORT)]
_NUMBER_HEADS = [bytes((0x12, max(0, size - 2), 0x18)) for size in range(_SHORT)]


def field_token(field: str, text: str) -> int:
    """The token of a field of a record with a value."""
    return zlib.crc32(f"{_FIELD}{field}\0{text}".encode(errors="replace"))


def key_token(key: str) -> int:
    """The token of an attribute that is there, whatever its value."""
    return zlib.crc32(f"{_KEY}{key}".encode(errors="replace"))


def pair_token(key: str, text: str) -> int:
    """The token of an attribute with a value."""
    return zlib.crc32(text.encode(errors="replace"), _pair_seed(key))


@dataclass(slots=True)
class _Key:
    """Of a key its token, what the tokens of its values begin with, and how many values it has had."""

    token: int
    seed: int
    is_http_status: bool
    values: int = 0


@dataclass(frozen=True, slots=True)
class ResourceFacts:
    """What is known of a resource: its service, and the tokens of its attributes, which `Attributes` knows."""

    service: str
    tokens: list[int]


class Attributes:
    """The tokens of attributes, remembered by their encoded bytes, since the same ones come again and again.

    What would cost too much by a call each is read where it is needed: `tokens` by the bytes of an attribute; by its
    token the token of its key, the HTTP status that it is, and its bytes, if they are few.
    """

    def __init__(self) -> None:
        self.tokens: dict[bytes, int] = {}
        self.key_tokens: dict[int, int] = {}
        self.http_statuses: dict[int, int] = {}
        self.encoded: dict[int, bytes] = {}
        self._keys: dict[bytes, _Key] = {}
        self._resources: dict[bytes, ResourceFacts] = {}

    def forget(self) -> None:
        """Make room, if there is too little. What was known by a token is not known any more."""
        if max(len(self.tokens), len(self._keys)) > _MAX_REMEMBERED:
            self.tokens.clear()
            self.http_statuses.clear()
            self.encoded.clear()
            self.key_tokens.clear()
            self._keys.clear()
            self._resources.clear()
        elif len(self.key_tokens) > len(self.tokens) + _MAX_UNREMEMBERED:
            self.key_tokens = {token: self.key_tokens[token] for token in self.tokens.values()}
            self._resources.clear()

    def learn(self, encoded: bytes) -> int:
        """The token of an attribute that is not remembered.

        Raises:
            google.protobuf.message.DecodeError: It is no attribute.
        """
        key = text = None
        size = len(encoded)
        if 2 < size < _SHORT:
            end = 2 + encoded[1]
            key = self._keys.get(encoded[:end])
            if key is not None:
                text = _short_value(encoded, end, size - end)
        if key is None or text is None:
            name, value = decode(encoded)
            head, text = _head(name), as_text(value).encode()
            key = self._keys.get(head) or _Key(key_token(name), _pair_seed(name), name in _STATUS_KEYS)
            if len(head) < _SHORT:
                self._keys[head] = key
        token = zlib.crc32(text, key.seed)
        self.key_tokens[token] = key.token
        # The values of a key that has had so many will hardly come again.
        if key.values < _MAX_VALUES_PER_KEY and size <= _MAX_REMEMBERED_BYTES:
            key.values += 1
            self.tokens[encoded] = token
            self.encoded[token] = encoded
        if key.is_http_status and len(text) == 3 and text.isdigit():
            self.http_statuses[token] = int(text)
        return token

    def positions(self, records: Iterable[Sequence[bytes]]) -> Positions:
        """The positions of records by the tokens of their encoded attributes.

        Raises:
            google.protobuf.message.DecodeError: One is no attribute.
        """
        positions: defaultdict[int, list[int]] = defaultdict(list)
        tokens, learn = self.tokens.get, self.learn
        for position, attributes in enumerate(records):
            for encoded in attributes:
                token = tokens(encoded)
                positions[learn(encoded) if token is None else token].append(position)
        return positions

    def resource(self, encoded: bytes) -> ResourceFacts:
        """What is known of an encoded resource.

        Raises:
            google.protobuf.message.DecodeError: It is no resource.
        """
        facts = self._resources.get(encoded)
        if facts is None:
            resource = Resource.FromString(encoded)
            facts = ResourceFacts(
                service_name(resource), [self.learn(one.SerializeToString()) for one in resource.attributes]
            )
            if len(encoded) <= 8 * _MAX_REMEMBERED_BYTES and len(self._resources) < _MAX_REMEMBERED:
                self._resources[encoded] = facts
        return facts


def decode(encoded: bytes) -> tuple[str, Value]:
    """Key and value of an attribute.

    Raises:
        google.protobuf.message.DecodeError: It is no attribute, or deeper than one of a span may be.
    """
    attribute = KeyValue.FromString(encoded)
    value = attribute.value
    match value.WhichOneof("value"):
        case "string_value":
            return attribute.key, value.string_value
        case "int_value":
            return attribute.key, value.int_value
        case "array_value" | "kvlist_value":
            # As deep as the span is later, of which it is a part.
            Span.FromString(Span(attributes=[attribute]).SerializeToString())
    return attribute.key, plain_value(value)


def _head(key: str) -> bytes:
    """What an encoded attribute begins with that has this key."""
    return KeyValue(key=key).SerializeToString() if key else b"\x0a\x00"


def _short_value(encoded: bytes, at: int, size: int) -> bytes | None:
    """The text of an attribute's value at a position, of so many bytes, if it is ASCII or a small number; or else None.

    Most values are that never come again. They are read without a message, which takes four times as long.
    """
    if encoded[at : at + 4] == _TEXT_HEADS[size]:
        text = encoded[at + 4 :]
        return text if text.isascii() else None
    if encoded[at : at + 3] == _NUMBER_HEADS[size]:
        # Seven bits a byte, the lowest first; all but the last byte say that more follow.
        if size == 4:
            last = encoded[-1]
            return b"%d" % last if last < 128 else None
        if size == 5:
            low, last = encoded[at + 3 :]
            return b"%d" % (low - 128 | last << 7) if low > 127 > last else None
        if size == 6:
            low, middle, last = encoded[at + 3 :]
            if low > 127 and middle > 127 > last:
                return b"%d" % (low - 128 | middle - 128 << 7 | last << 14)
    return None


def _pair_seed(key: str) -> int:
    return zlib.crc32(f"{_PAIR}{key}\0".encode(errors="replace"))
