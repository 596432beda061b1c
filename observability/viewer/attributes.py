"""Encoded attributes, and the tokens by which records are searched for them.

A token is a hash of a key and a value as text. Two that differ have the same one once in four billion, so what is found by
a token is looked at again.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.fields import plain_value, service_name
from observability.viewer.query import Value, as_text

MAX_TEXT = 128
"""Characters of the longest key and value that are remembered for completion."""

_MAX_REMEMBERED = 30_000
_MAX_REMEMBERED_BYTES = 256
# Before what is hashed, so that a field, a key and a key with its value never look the same.
_FIELD, _KEY, _PAIR = "\1", "\2", "\3"


def field_token(field: str, text: str) -> int:
    """The token of a field of a record with a value."""
    return zlib.crc32(f"{_FIELD}{field}\0{text}".encode(errors="replace"))


def key_token(key: str) -> int:
    """The token of an attribute that is there, whatever its value."""
    return zlib.crc32(f"{_KEY}{key}".encode(errors="replace"))


def pair_token(key: str, text: str) -> int:
    """The token of an attribute with a value."""
    return zlib.crc32(f"{_PAIR}{key}\0{text}".encode(errors="replace"))


@dataclass(frozen=True, slots=True)
class Attribute:
    """What is known of an attribute; key and text are None where they are too long for completion."""

    key_token: int
    key: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class ResourceFacts:
    """What is known of a resource: its service, and the tokens of its attributes, which `Attributes` knows."""

    service: str
    tokens: list[int]


class Attributes:
    """The tokens of attributes, remembered by their encoded bytes, since the same ones come again and again.

    `tokens` and `known` are read where each call would cost too much: `tokens` by the bytes of an attribute, `known` by
    its token.
    """

    def __init__(self) -> None:
        self.tokens: dict[bytes, int] = {}
        self.known: dict[int, Attribute] = {}
        self._resources: dict[bytes, ResourceFacts] = {}

    def forget(self) -> None:
        """Make room, if there is too little. What was known by a token is not known any more."""
        if len(self.known) > _MAX_REMEMBERED:
            self.tokens.clear()
            self.known.clear()
            self._resources.clear()

    def learn(self, encoded: bytes) -> int:
        """The token of an attribute that is not remembered.

        Raises:
            google.protobuf.message.DecodeError: It is no attribute.
        """
        key, value = decode(encoded)
        text = as_text(value)
        token = pair_token(key, text)
        if token not in self.known:
            self.known[token] = Attribute(
                key_token(key),
                key if len(key) <= MAX_TEXT else None,
                text if len(key) <= MAX_TEXT and len(text) <= MAX_TEXT else None,
            )
        if len(encoded) <= _MAX_REMEMBERED_BYTES:
            self.tokens[encoded] = token
        return token

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
    if value.WhichOneof("value") in ("array_value", "kvlist_value"):
        # As deep as the span is later, of which it is a part.
        Span.FromString(Span(attributes=[attribute]).SerializeToString())
    return attribute.key, plain_value(value)
