"""Log records as OTLP's LogRecord messages, their secrets cut out.

Fields and their numbers are those of opentelemetry/proto/logs/v1/logs.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any, Final

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import ReadWriteLogRecord

from observability.fastpath.attributes import MAX_REMEMBERED_CHARACTERS, Attributes, any_value, copied, remember
from observability.fastpath.wire import ONE_BYTE_LENGTH, count, field, text
from observability.scrub import scrub_attributes, scrub_text

# What stands before a text, by its length.
_SHORT_BODIES: Final = tuple(b"\x2a%c\x0a%c" % (length + 2, length) for length in range(ONE_BYTE_LENGTH - 1))

_times = Struct("<BQBQ").pack
_flags = Struct("<BI").pack


class LogEncoder:
    """Encodes log records. Threads may share one.

    Attributes:
        attributes: Encodes those of a record.
    """

    def __init__(self) -> None:
        self.attributes = Attributes(b"\x32")
        self._severities: dict[tuple[SeverityNumber | None, str | None], bytes] = {}

    def encode(self, emitted: ReadWriteLogRecord) -> bytes:
        """The record's message.

        A lone surrogate in the body becomes a question mark.

        Raises:
            struct.error: A time is beyond what OTLP has a form for.
            ValueError, TypeError: OTLP has no form for the body.
        """
        record = emitted.log_record
        cut: list[str] = []
        parts = [
            _times(0x09, record.timestamp or 0, 0x59, record.observed_timestamp or 0),
            self.severity(record.severity_number, record.severity_text),
        ]
        if record.trace_id:
            parts.append(b"\x4a\x10" + record.trace_id.to_bytes(16, "big"))
        if record.span_id:
            parts.append(b"\x52\x08" + record.span_id.to_bytes(8, "big"))
        if record.trace_flags:
            parts.append(_flags(0x45, record.trace_flags))
        attributes = copied(record.attributes)
        first = len(parts)
        self.attributes.add(attributes, parts, cut)
        count(b"\x38", emitted.dropped_attributes, parts)
        parts.append(_body(record.body, cut))
        if record.event_name:
            parts.append(field(b"\x62", text(record.event_name)))
        self.attributes.tell(cut, attributes, parts, first)
        return b"".join(parts)

    def severity(self, number: SeverityNumber | None, name: str | None) -> bytes:
        """The fields of a severity's number and name."""
        known = self._severities.get((number, name))
        if known is not None:
            return known
        parts: list[bytes] = []
        count(b"\x10", number.value if number is not None else 0, parts)
        if name:
            parts.append(field(b"\x1a", text(name)))
        encoded = b"".join(parts)
        if name is None or len(name) <= MAX_REMEMBERED_CHARACTERS:
            remember(self._severities, (number, name), encoded)
        return encoded


def body_of(message: str) -> bytes:
    """The field of a body that is a text without secrets."""
    encoded = message.encode(errors="replace")
    if len(encoded) < len(_SHORT_BODIES):
        return _SHORT_BODIES[len(encoded)] + encoded
    return field(b"\x2a", field(b"\x0a", encoded))


def _body(body: Any, cut: list[str]) -> bytes:  # noqa: ANN401 - whatever was logged
    if isinstance(body, str):
        body, found = scrub_text(body)
        if found:
            cut.append("body")
        return body_of(body)
    if isinstance(body, Mapping):
        body, paths = scrub_attributes(body, at="body")
        cut += paths
    return field(b"\x2a", any_value(body))
