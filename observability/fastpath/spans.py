"""Ended spans as OTLP's Span messages, their secrets cut out.

Fields and their numbers are those of opentelemetry/proto/trace/v1/trace.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import DEFAULT_TRACE_STATE, Link, SpanKind, Status, StatusCode

from observability.fastpath.attributes import MAX_REMEMBERED_CHARACTERS, Attributes, copied, remember
from observability.fastpath.span import NO_STATUS, Content, LeanSpan
from observability.fastpath.wire import count, field, text, varint
from observability.scrub import scrub_text

_KINDS: Final = {
    # By id, since to hash a member of an enumeration takes as long as all the rest of a look-up.
    id(SpanKind.INTERNAL): b"\x30\x01",
    id(SpanKind.SERVER): b"\x30\x02",
    id(SpanKind.CLIENT): b"\x30\x03",
    id(SpanKind.PRODUCER): b"\x30\x04",
    id(SpanKind.CONSUMER): b"\x30\x05",
}
_IDS: Final = 0x0A10 << 208 | 0x1208 << 64
"""The tags and lengths of a trace id and a span id, as a number with room for both, which is made bytes in one step."""

_UNSET: Final = StatusCode.UNSET
_NO_STATUS: Final = b"\x7a\x00"

# Whether the parent, or what is linked to, is of another process; that this is known is told too.
_LOCAL, _REMOTE = 0x100, 0x300

_times = Struct("<BQBQ").pack
_time = Struct("<BQ").pack
_flags = Struct("<I").pack
_SPAN_LOCAL, _SPAN_REMOTE = b"\x85\x01" + _flags(_LOCAL), b"\x85\x01" + _flags(_REMOTE)
_LINK_LOCAL, _LINK_REMOTE = b"\x35" + _flags(_LOCAL), b"\x35" + _flags(_REMOTE)


class SpanEncoder:
    """Encodes spans. Threads may share one."""

    def __init__(self) -> None:
        self._attributes = Attributes(b"\x4a")
        self._event_attributes = Attributes(b"\x1a")
        self._link_attributes = Attributes(b"\x22")
        self._names: dict[int, dict[str, bytes]] = {kind: {} for kind in _KINDS}

    def encode(self, span: ReadableSpan) -> bytes:
        """The span's message.

        A lone surrogate in a name or a text becomes a question mark.

        Raises:
            struct.error, OverflowError: A time or an id is beyond what OTLP has a form for.
            ValueError: The span has no id.
        """
        context = span.context
        if context is None:
            raise ValueError("a span without a context has no id")
        return self._encode(
            (
                context,
                span.parent,
                span.kind,
                span.name,
                span.start_time,
                span.end_time,
                copied(span.attributes),
                span.dropped_attributes,
                span.events,
                span.dropped_events,
                span.links,
                span.dropped_links,
                span.status,
            )
        )

    def encode_lean(self, span: LeanSpan) -> bytes:
        """As `encode` does."""
        return self._encode(span.content())

    def _encode(self, content: Content) -> bytes:
        (
            context,
            parent,
            kind,
            name,
            start_time,
            end_time,
            attributes,
            dropped_attributes,
            events,
            dropped_events,
            links,
            dropped_links,
            status,
        ) = content
        trace_id, span_id, _, _, trace_state, valid = context
        cut: list[str] = []
        parts = [
            (_IDS | trace_id << 80 | span_id).to_bytes(28, "big")
            if valid  # so that neither reaches into the other's place
            else b"\x0a\x10%b\x12\x08%b" % (trace_id.to_bytes(16, "big"), span_id.to_bytes(8, "big")),
            _times(0x39, start_time or 0, 0x41, end_time or 0),
        ]
        if trace_state is not DEFAULT_TRACE_STATE and trace_state:
            parts.append(field(b"\x1a", text(trace_state.to_header())))
        if parent is not None:
            parts.append(b"\x22\x08" + parent.span_id.to_bytes(8, "big"))
        first = len(parts)
        self._attributes.add(attributes, parts, cut)
        if dropped_attributes:
            count(b"\x50", dropped_attributes, parts)
        if events:
            self._events(events, parts, cut)
        if dropped_events:
            count(b"\x60", dropped_events, parts)
        if links:
            self._links(links, parts, cut)
        if dropped_links:
            count(b"\x70", dropped_links, parts)
        parts += (
            _SPAN_REMOTE if parent is not None and parent.is_remote else _SPAN_LOCAL,
            self._names[id(kind)].get(name) or self._name(kind, name, cut),
            _NO_STATUS if status is NO_STATUS else _status(status, cut),
        )
        if cut:
            self._attributes.tell(cut, attributes, parts, first)
        return b"".join(parts)

    def _name(self, kind: SpanKind, name: str, cut: list[str]) -> bytes:
        """The fields of kind and name."""
        scrubbed, found = scrub_text(name)
        encoded = _KINDS[id(kind)] + field(b"\x2a", text(scrubbed))
        if found:
            cut.append("name")
        elif len(name) <= MAX_REMEMBERED_CHARACTERS:
            remember(self._names[id(kind)], name, encoded)
        return encoded

    def _events(self, events: Sequence[Event], parts: list[bytes], cut: list[str]) -> None:
        for index, event in enumerate(events):
            inner = [_time(0x09, event.timestamp)]
            self._event_attributes.add(event.attributes or {}, inner, cut, f"events[{index}].attributes")
            count(b"\x20", event.dropped_attributes, inner)
            name, found = scrub_text(event.name)
            if found:
                cut.append(f"events[{index}].name")
            inner.append(field(b"\x12", text(name)))
            parts.append(field(b"\x5a", b"".join(inner)))

    def _links(self, links: Sequence[Link], parts: list[bytes], cut: list[str]) -> None:
        for index, link in enumerate(links):
            trace_id, span_id, remote, _, _, _ = link.context
            inner = [b"\x0a\x10%b\x12\x08%b" % (trace_id.to_bytes(16, "big"), span_id.to_bytes(8, "big"))]
            self._link_attributes.add(link.attributes or {}, inner, cut, f"links[{index}].attributes")
            count(b"\x28", link.dropped_attributes, inner)
            inner.append(_LINK_REMOTE if remote else _LINK_LOCAL)
            parts.append(field(b"\x6a", b"".join(inner)))


def _status(status: Status, cut: list[str]) -> bytes:
    if status.status_code is _UNSET and status.description is None:
        return _NO_STATUS
    inner = b"\x18" + varint(status.status_code.value)
    if status.description:
        description, found = scrub_text(status.description)
        if found:
            cut.append("status.description")
        inner += field(b"\x12", text(description))
    return field(b"\x7a", inner)
