"""What the store keeps and gives back."""

from __future__ import annotations

from dataclasses import dataclass

from observability.viewer.store.calls import Operation

ROW_BYTES = 128


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """One span: what is searched for, and its encoded protobuf messages.

    Ids are bytes, that of no parent is empty; times are nanoseconds.
    """

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    service: str
    name: str
    kind: int
    error: bool
    start_ns: int
    end_ns: int
    span: bytes
    resource: bytes
    scope: bytes

    @property
    def size(self) -> int:
        """Bytes of its messages, and about what it takes beside them."""
        return len(self.span) + len(self.resource) + len(self.scope) + ROW_BYTES


@dataclass(frozen=True, slots=True)
class StoredLog:
    """One log record; its ids are empty if it belongs to no trace or to no span."""

    trace_id: bytes
    span_id: bytes
    time_ns: int
    service: str
    record: bytes
    resource: bytes = b""
    scope: bytes = b""


@dataclass(frozen=True, slots=True)
class Root:
    """What a list shows of a trace's root."""

    span_id: bytes
    service: str
    name: str
    kind: int
    error: bool
    start_ns: int
    end_ns: int
    http_status: int | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A trace in one row. Its root is its earliest span without a parent or, if all have one, its earliest."""

    trace_id: bytes
    start_ns: int
    end_ns: int
    spans: int
    errors: int
    root: Root
    services: list[tuple[str, int, int]]
    """Name, spans and errors of each service, in the order in which they came into the trace."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found within its time."""

    traces: list[Summary]
    """Newest first, by the start of the trace."""
    complete: bool
    """Whether it looked at all that it had to, for as many traces as were asked for."""
    searched_to_ns: int
    """Among traces that began after this it looked at all; 0 if it is complete."""


@dataclass(frozen=True, slots=True)
class FoundLogs:
    """What a search for log records found within its time."""

    logs: list[StoredLog]
    """Newest first."""
    complete: bool
    """Whether it looked at all that it had to, for as many records as were asked for."""
    searched_to_ns: int
    """Among records of times after this it looked at all; 0 if it is complete."""


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """A span of another trace; `operation` is None if it is not known."""

    trace_id: bytes
    span_id: bytes
    stored: bool
    """Whether the trace is kept."""
    operation: Operation | None


@dataclass(frozen=True, slots=True)
class Link:
    """A span of another trace that links to one of this trace."""

    end: LinkEnd
    linked_span_id: bytes
