"""Protobuf's wire format, as far as OTLP needs it.

See https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import struct
from typing import Final

ONE_BYTE_LENGTH: Final = 127
"""What a length of one byte can say."""

_ONE_BYTE: Final = tuple(bytes((number,)) for number in range(128))
_pack_double = struct.Struct("<d").pack


def varint(number: int) -> bytes:
    """Encode a number that is not negative."""
    if number < 0x80:
        return _ONE_BYTE[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def int64(number: int) -> bytes:
    """Encode a number that may be negative, which takes ten bytes then.

    Raises:
        ValueError: It has more than 64 bits.
    """
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{number} has more than 64 bits")
    return varint(number & 0xFFFF_FFFF_FFFF_FFFF)


def double(number: float) -> bytes:
    """Encode a floating-point number."""
    return _pack_double(number)


def field(tag: bytes, body: bytes) -> bytes:
    """A field of a text, of bytes or of a message: its tag, its length, itself."""
    return b"%b%b%b" % (tag, varint(len(body)), body)


def text(characters: str) -> bytes:
    """UTF-8; a lone surrogate, for which it has no form, becomes a question mark."""
    return characters.encode(errors="replace")


def count(tag: bytes, number: int, parts: list[bytes]) -> None:
    """Append a field of a number, unless it is 0, which goes without saying."""
    if number:
        parts.append(tag + varint(number))
