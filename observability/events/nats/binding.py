"""An event as a message of NATS, in the binary mode of the CloudEvents binding.

https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md, from version 1.0.3 on. It
differs from HTTP's in one thing: the type of the data is an attribute like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from observability.events.event import Event, from_message, to_message

MESSAGE_ID: Final = "Nats-Msg-Id"
"""JetStream's name for what it tells messages apart by."""

ONLY_FOR: Final = "clearspan-consumer"
"""Header of an event that is for one consumer alone, since it died there; the others leave it out."""

_HTTP, _NATS = "content-type", "ce-datacontenttype"


def to_nats(event: Event) -> tuple[dict[str, str], bytes]:
    """The headers and the body of an event."""
    headers, body = to_message(event)
    headers[_NATS] = headers.pop(_HTTP)
    headers[MESSAGE_ID] = f"{headers['ce-source']} {headers['ce-id']}"
    return headers, body


def from_nats(headers: Mapping[str, str], body: bytes) -> Event:
    """The event in a message.

    Raises:
        NotAnEventError: It holds none, one in structured mode, or one that this kit does not take.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    content_type = unquote(headers.get(_NATS, ""))
    return from_message(headers | {_HTTP: content_type}, body)


def size(headers: Mapping[str, str], body: bytes) -> int:
    """The bytes of a message as the server counts them, who closes the connection of one who sends too many."""
    return (
        len(b"NATS/1.0\r\n\r\n")
        + sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())
        + len(body)
    )
