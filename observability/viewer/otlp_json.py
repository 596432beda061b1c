"""OTLP in JSON: turned into the protobuf bytes that it stands for.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: protobuf's own JSON, but ids are hex.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import Any, NoReturn

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message

from observability.viewer.refusals import BrokenError, TooLargeError

MAX_VALUES = 2_000_000
"""Of one body. JSON is first read into Python's objects, of which each takes up to 100 bytes."""

_ID_DIGITS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}
# JavaScript cuts its strings between the two halves of a character, and protobuf knows no half of one.
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


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
        found = json.loads(body.decode(), object_hook=_with_base64_ids, parse_constant=_refuse)
        if not isinstance(found, dict):
            raise BrokenError("this is no JSON object")
        ParseDict(found, message, ignore_unknown_fields=True)
        encoded: bytes = message.SerializeToString()
    # A depth beyond Python's is a recursion error. Bytes that are no UTF-8 and numbers without end are value errors.
    except (ParseError, RecursionError, ValueError) as error:
        raise BrokenError("this is no OTLP message of this signal") from error
    return encoded


def from_protobuf(message: Message) -> bytes:
    """A message, such as an answer, in JSON."""
    return json.dumps(MessageToDict(message), separators=(",", ":")).encode()


def _with_base64_ids(found: dict[str, Any]) -> dict[str, Any]:
    for name, value in found.items():
        if name in _ID_DIGITS:
            found[name] = _base64(value, _ID_DIGITS[name])
        elif isinstance(value, str) and not value.isascii():
            found[name] = _HALF_CHARACTER.sub("\ufffd", value)
    return found


def _base64(value: object, digits: int) -> str:
    # `fromhex` would skip spaces between digits.
    if not isinstance(value, str) or len(value) != digits or not value.isalnum():
        return ""
    try:
        return b64encode(bytes.fromhex(value)).decode()
    except ValueError:
        return ""


def _refuse(_constant: str) -> NoReturn:
    raise ValueError("not JSON")
