"""OTLP in JSON: turned into the protobuf bytes that it stands for.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding. protobuf's own reader of JSON is not used: it takes
ids for base64, text for empty messages, and fails on names that are no Unicode.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from observability.viewer.refusals import BrokenError, TooLargeError

MAX_VALUES = 2_000_000
"""Of one body. JSON is first read into Python's objects, of which each takes up to 100 bytes."""
MAX_DEPTH = 100
"""Of messages in messages, as in protobuf."""

_ID_DIGITS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}
_HEX = re.compile(r"[0-9a-fA-F]+", re.ASCII)
# JavaScript cuts its strings between the two halves of a character, and protobuf knows no half of one.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_FLOATING = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)


def to_protobuf(body: bytes, message: Message) -> bytes:
    """Encode a body in JSON as the message that it stands for; an id that is none becomes an empty one.

    Args:
        body: JSON in UTF-8.
        message: An empty message of the type that it stands for.

    Raises:
        TooLargeError: It has more than `MAX_VALUES` values.
        BrokenError: It is no such message.
    """
    # Each value but the first follows one of these. What stands inside of strings counts too, which is close enough.
    if sum(map(body.count, (b",", b":", b"["))) > MAX_VALUES:
        raise TooLargeError(f"at most {MAX_VALUES} values")
    try:
        _fill(message, json.loads(body.decode()), depth=1)
        encoded: bytes = message.SerializeToString()
    # A depth beyond Python's is a recursion error; a number beyond its field's, or what is no UTF-8, a value error.
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        raise BrokenError("this is no OTLP message of this signal") from error
    return encoded


def from_protobuf(message: Message) -> bytes:
    """A message without ids, such as an answer, in JSON."""
    return json.dumps(MessageToDict(message), separators=(",", ":")).encode()


def _fill(message: Message, found: object, *, depth: int) -> None:
    """Set what of a JSON object the message knows.

    Raises:
        TypeError, ValueError: A value is none of its field.
    """
    if not isinstance(found, dict) or depth > MAX_DEPTH:
        raise ValueError("no object, or too deep")
    fields = _fields(message.DESCRIPTOR)
    for name, value in found.items():
        field = fields.get(name)
        if field is None or value is None:
            continue  # a newer sender's, or the default
        if not field.is_repeated:
            if field.message_type is None:
                setattr(message, field.name, _scalar(field, value))
            else:
                inner = getattr(message, field.name)
                inner.SetInParent()  # there, also if it turns out to be empty
                _fill(inner, value, depth=depth + 1)
        elif not isinstance(value, list):
            raise ValueError("no list")
        elif field.message_type is None:
            getattr(message, field.name).extend([_scalar(field, one) for one in value])
        else:
            items = getattr(message, field.name)
            for one in value:
                _fill(items.add(), one, depth=depth + 1)


@cache
def _fields(descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
    return {field.json_name: field for field in descriptor.fields}


def _scalar(field: FieldDescriptor, value: object) -> object:
    """A value as its field takes it; most of what is none the field itself refuses."""
    if field.json_name in _ID_DIGITS:
        return _id(value, _ID_DIGITS[field.json_name])
    if isinstance(value, bool) != (field.cpp_type == FieldDescriptor.CPPTYPE_BOOL):
        raise ValueError("a truth value for something else, or the other way round")
    if isinstance(value, str):
        return _from_text(field, value)
    if isinstance(value, float) and field.cpp_type not in _FLOATING and value.is_integer():
        return int(value)  # 1.7e18
    return value


def _from_text(field: FieldDescriptor, text: str) -> object:
    if field.type == FieldDescriptor.TYPE_STRING:
        return text if text.isascii() else _HALF_CHARACTER.sub("\ufffd", text)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b64decode(text, validate=True)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return text  # its name, which the specification has not, and senders have
    return float(text) if field.cpp_type in _FLOATING else int(text)


def _id(value: object, digits: int) -> bytes:
    if isinstance(value, str) and len(value) == digits and _HEX.fullmatch(value):
        return bytes.fromhex(value)
    return b""
