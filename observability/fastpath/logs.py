"""Log records as OTLP's LogRecord messages, their secrets cut out.

Fields and their numbers are those of opentelemetry/proto/logs/v1/logs.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import ReadWriteLogRecord

from observability.fastpath.attributes import MAX_REMEMBERED_CHARACTERS, Attributes, any_value, copied, remember
from observability.fastpath.wire import count, field, text
from observability.scrub import scrub_attributes, scrub_text

_times = Struct("<BQBQ").pack
_flags = Struct("<BI").pack


class LogEncoder:
    """Encodes log records. Threads may share one."""

    def __init__(self) -> None:
        self._attributes = Attributes(b"\x32")
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
            self._severity(record.severity_number, record.severity_text),
        ]
        if record.trace_id:
            parts.append(b"\x4a\x10" + record.trace_id.to_bytes(16, "big"))
        if record.span_id:
            parts.append(b"\x52\x08" + record.span_id.to_bytes(8, "big"))
        if record.trace_flags:
            parts.append(_flags(0x45, record.trace_flags))
        attributes = copied(record.attributes)
        first = len(parts)
        self._attributes.add(attributes, parts, cut)
        count(b"\x38", emitted.dropped_attributes, parts)
        parts.append(field(b"\x2a", _body(record.body, cut)))
        if record.event_name:
            parts.append(field(b"\x62", text(record.event_name)))
        self._attributes.tell(cut, attributes, parts, first)
        return b"".join(parts)

    def _severity(self, number: SeverityNumber | None, name: str | None) -> bytes:
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


def _body(body: Any, cut: list[str]) -> bytes:  # noqa: ANN401 - whatever was logged
    if isinstance(body, str):
        body, found = scrub_text(body)
        if found:
            cut.append("body")
        return field(b"\x0a", text(body))
    if isinstance(body, Mapping):
        body, paths = scrub_attributes(body, at="body")
        cut += paths
    return any_value(body)
