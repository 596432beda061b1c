"""The last step before a span or a log record leaves the process: secrets are cut out of it.

This runs in the exporter's own thread, so that a request never pays for it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, Status

from observability.scrub import scrub_attributes, scrub_text
from observability.telemetry import SCRUBBED

_Item = TypeVar("_Item")


class ScrubbingSpanExporter(SpanExporter):
    """Hands spans on to another exporter with secrets cut out and the cuts named in `clearspan.scrubbed`."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export the cleaned spans; what needs no cut is passed on as it is."""
        return self._exporter.export([_clean_span(span) for span in spans])

    def shutdown(self) -> None:
        """Shut the wrapped exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the wrapped exporter."""
        return self._exporter.force_flush(timeout_millis)


class ScrubbingLogExporter(LogRecordExporter):
    """Hands log records on to another exporter with secrets cut out and the cuts named in `clearspan.scrubbed`."""

    def __init__(self, exporter: LogRecordExporter) -> None:
        self._exporter = exporter

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Export the cleaned records; what needs no cut is passed on as it is."""
        return self._exporter.export([_clean_record(record) for record in batch])

    def shutdown(self) -> None:
        """Shut the wrapped exporter down."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK has no annotation here

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the wrapped exporter."""
        return self._exporter.force_flush(timeout_millis)


def _clean_span(span: ReadableSpan) -> ReadableSpan:
    attributes, cut = scrub_attributes(span.attributes or {})
    events: list[Event] = []
    for index, event in enumerate(span.events):
        event_attributes, event_cut = scrub_attributes(event.attributes or {}, at=f"events[{index}].attributes")
        event_name, name_cut = scrub_text(event.name)
        if name_cut:
            event_cut.append(f"events[{index}].name")
        cut += event_cut
        events.append(
            Event(event_name, _bounded(event_attributes, event.dropped_attributes), event.timestamp)
            if event_cut
            else event
        )
    links: list[Link] = []
    for index, link in enumerate(span.links):
        link_attributes, link_cut = scrub_attributes(link.attributes or {}, at=f"links[{index}].attributes")
        cut += link_cut
        links.append(Link(link.context, _bounded(link_attributes, link.dropped_attributes)) if link_cut else link)
    name, name_cut = scrub_text(span.name)
    if name_cut:
        cut.append("name")
    status = span.status
    if status.description:
        description, description_cut = scrub_text(status.description)
        if description_cut:
            cut.append("status.description")
            status = Status(status.status_code, description)
    if not cut:
        return span
    return ReadableSpan(
        name=name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_bounded({**attributes, SCRUBBED: cut}, span.dropped_attributes),
        events=_counted(events, span.dropped_events),
        links=_counted(links, span.dropped_links),
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _clean_record(record: ReadableLogRecord) -> ReadableLogRecord:
    original = record.log_record
    attributes, cut = scrub_attributes(original.attributes or {})
    body = original.body
    if isinstance(body, str):
        body, body_cut = scrub_text(body)
        if body_cut:
            cut.append("body")
    elif isinstance(body, Mapping):
        body, body_cuts = scrub_attributes(body, at="body")
        cut += body_cuts
    if not cut:
        return record
    cleaned = copy.copy(original)
    cleaned.body = body
    cleaned.attributes = _bounded({**attributes, SCRUBBED: cut}, record.dropped_attributes)
    return dataclasses.replace(record, log_record=cleaned)


def _counted(items: Sequence[_Item], dropped: int) -> Sequence[_Item]:
    """A span's events or links, with the count of those that the SDK's limits had already dropped."""
    counted = BoundedList[_Item](None)
    counted.extend(items)
    counted.dropped = dropped
    return counted


def _bounded(attributes: Mapping[str, Any], dropped: int) -> BoundedAttributes:
    """Attributes that keep the count of what the SDK's limits had already dropped."""
    bounded = BoundedAttributes(attributes=dict(attributes), immutable=False, extended_attributes=True)
    bounded.dropped = dropped
    return bounded
