"""A span that costs little to make, to fill and to end, and that is one of the SDK's to whoever looks at it.

Attributes are in a plain dictionary; lists of events and links, and a lock, are made when there is something for them;
whatever is not plain is left to the SDK's own code. What has no lock relies on the GIL, which CPython hands on at calls
and at jumps backwards only: between two of them one thread is alone. Without a GIL there are no lean spans
(`observability.fastpath.compatibility`).
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from types import MappingProxyType, NoneType
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanLimits, SynchronousMultiSpanProcessor
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationInfo, InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import AnyValue

from observability.fastpath.counts import SpanCounts
from observability.fastpath.origin import Origin

_PLAIN: Final = frozenset({bool, int, float, bytes, NoneType})
"""Types whose values are taken as they are; so is a text that is not too long."""

_UNSET: Final = StatusCode.UNSET

MAX_KEYS: Final = 1024
"""Keys that a tracer remembers as valid, about; of others it finds out each time."""

_NONE: Final = ()

NO_STATUS: Final = Status(_UNSET)
"""That of all lean spans whose status was never set."""

Content = tuple[
    SpanContext,
    SpanContext | None,
    SpanKind,
    str,
    int | None,
    int | None,
    Mapping[str, AnyValue],
    int,
    Sequence[Event],
    int,
    Sequence[Link],
    int,
    Status,
]
"""Context, parent, kind, name, start, end; attributes, events, links, with how many of each were dropped; status."""

# Warnings are the SDK's own, under its names.
_logger = logging.getLogger("opentelemetry.sdk.trace")
_attributes_logger = logging.getLogger("opentelemetry.attributes")


class Processors(SynchronousMultiSpanProcessor):
    """Those of one provider.

    Attributes:
        alone: Takes an ended span that is sampled, as it is; there is one while no other processor has to see any.
    """

    alone: Callable[[LeanSpan], None] | None = None


class Common:
    """What the spans of one tracer have in common."""

    __slots__ = (
        "counts",
        "info",
        "keys",
        "limits",
        "max_attributes",
        "max_length",
        "origin",
        "processors",
        "resource",
        "scope",
    )

    def __init__(
        self,
        *,
        resource: Resource,
        scope: InstrumentationScope,
        info: InstrumentationInfo,
        origin: Origin,
        limits: SpanLimits,
        processors: Processors,
        counts: SpanCounts,
    ) -> None:
        self.resource = resource
        self.scope = scope
        self.info = info
        self.origin = origin
        self.limits = limits
        self.processors = processors
        self.counts = counts
        self.max_attributes = sys.maxsize if limits.max_span_attributes is None else limits.max_span_attributes
        length = limits.max_span_attribute_length
        self.max_length = sys.maxsize if length is None else length
        self.keys: set[str] = set()

    def plain(self, attributes: dict[str, AnyValue]) -> bool:
        """Whether all may be taken as they are."""
        longest = self.max_length
        for value in attributes.values():
            if type(value) is str:
                if len(value) > longest:
                    return False
            elif type(value) not in _PLAIN:
                return False
        keys = self.keys
        if keys.issuperset(attributes):
            return True
        if not all(type(key) is str and key for key in attributes):
            return False
        if len(keys) < MAX_KEYS:
            keys.update(attributes)
        return True


class _Lock:
    """A lock that is made when a span needs one first, which most never do."""

    def __get__(self, span: LeanSpan, _owner: type[LeanSpan]) -> threading.Lock:
        return vars(span).setdefault("_lock", threading.Lock())  # type: ignore[no-any-return]  # one for all threads


class LeanSpan(Span):
    """A recording span, made by a `LeanTracer`."""

    # The names are those that the SDK's own methods use. Most spans leave these as they are, at no cost.
    _context: SpanContext
    _end_time: int | None = None
    _events: Any = _NONE
    _links: Any = _NONE
    _status = NO_STATUS
    _dropped = 0
    _record_exception = True
    _set_status_on_exception = True
    _lock = _Lock()

    def __init__(  # noqa: PLR0917 - by position, since that is how Python calls fastest
        self,
        common: Common,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Mapping[str, AnyValue] | None,
        start_time: int | None,
    ) -> None:
        self.common = common
        self._limits = common.limits
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._attributes: dict[str, AnyValue]
        if not attributes:
            self._attributes = {}
        elif type(attributes) is dict and len(attributes) <= common.max_attributes and common.plain(attributes):
            self._attributes = attributes.copy()
        else:
            self._attributes = {}
            self._take(attributes)
        self._start_time = time_ns() if start_time is None else start_time

    def begin(
        self,
        links: Sequence[Link],
        context: Context | None,
        *,
        record_exception: bool,
        set_status_on_exception: bool,
    ) -> None:
        """Take what few spans have, and tell the processors of the start."""
        if links:
            self._links = self._new_links(links)
        if not record_exception:
            self._record_exception = False
        if not set_status_on_exception:
            self._set_status_on_exception = False
        self.common.processors.on_start(self, parent_context=context)

    def get_span_context(self) -> SpanContext:
        return self._context

    @property
    def attributes(self) -> Mapping[str, AnyValue]:
        """As they are now: a copy, since another thread may write to them."""
        return MappingProxyType(self._attributes.copy())

    @property
    def dropped_attributes(self) -> int:
        return self._dropped

    @property
    def resource(self) -> Resource:
        return self.common.resource

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        return self.common.scope

    @property
    def instrumentation_info(self) -> InstrumentationInfo:
        return self.common.info

    def set_attribute(self, key: str, value: AnyValue) -> None:
        if self._end_time is not None:
            _logger.warning("Setting attribute on ended span.")
            return
        plain = len(value) <= self.common.max_length if type(value) is str else type(value) in _PLAIN
        if plain and type(key) is str and key:
            attributes = self._attributes
            if key in attributes:
                attributes.pop(key, None)
            elif len(attributes) >= self.common.max_attributes:
                self._put(key, value)
                return
            attributes[key] = value
        else:
            self._clean(key, value)

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        if self._end_time is not None:
            _logger.warning("Setting attribute on ended span.")
        else:
            self._take(attributes)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        # Instrumentations set this for all that went well; it changes nothing.
        if (status.status_code if isinstance(status, Status) else status) is _UNSET and self._end_time is None:
            return
        super().set_status(status, description)

    def update_name(self, name: str) -> None:
        if self._end_time is None:
            self._name = name
        else:
            super().update_name(name)  # which complains

    def end(self, end_time: int | None = None) -> None:
        now = time_ns() if end_time is None else end_time
        # No call stands between looking and writing: of two threads one ends the span.
        if self._end_time is not None:
            _logger.warning("Calling end() on an ended span.")
            return
        self._end_time = now
        common = self.common
        sampled = self._context[3] & 1
        common.counts.ended[sampled] += 1
        processors = common.processors
        alone = processors.alone  # asked once, since another processor may come meanwhile
        if alone is None:
            processors._on_ending(self)  # noqa: SLF001 - of the SDK, as its own spans call it
            processors.on_end(self._readable_span())
        elif sampled:
            alone(self)

    def content(self) -> Content:
        """All that is told of it when it has ended."""
        events, links = self._events, self._links
        return (
            self._context,
            self._parent,
            self._kind,
            self._name,
            self._start_time,
            self._end_time,
            self._attributes.copy(),
            self._dropped,
            events,
            0 if events is _NONE else events.dropped,
            links,
            0 if links is _NONE else links.dropped,
            self._status,
        )

    def _readable_span(self) -> ReadableSpan:
        limits = self.common.limits
        attributes = BoundedAttributes(None, self._attributes.copy())
        attributes.maxlen, attributes.max_value_len = limits.max_span_attributes, limits.max_span_attribute_length
        attributes.dropped = self._dropped
        return ReadableSpan(
            name=self._name,
            context=self._context,
            parent=self._parent,
            resource=self.common.resource,
            attributes=attributes,
            events=self._events,
            links=self._links,
            kind=self._kind,
            instrumentation_info=self.common.info,
            status=self._status,
            start_time=self._start_time,
            end_time=self._end_time,
            instrumentation_scope=self.common.scope,
        )

    def _add_event(self, event: Event) -> None:
        if self._events is _NONE:
            vars(self).setdefault("_events", BoundedList(self._limits.max_events))
        super()._add_event(event)

    def _add_link(self, link: Link) -> None:
        if self._links is _NONE:
            vars(self).setdefault("_links", BoundedList(self._limits.max_links))
        super()._add_link(link)

    def _take(self, attributes: Mapping[str, AnyValue]) -> None:
        """Set many."""
        common = self.common
        if type(attributes) is dict and common.plain(attributes):
            if not self._attributes and len(attributes) <= common.max_attributes:
                self._attributes.update(attributes)
            else:
                for key, value in attributes.items():
                    self._put(key, value)
            return
        number = len(attributes)
        if common.max_attributes == 0:
            self._dropped += number
            return
        cleaned = BoundedAttributes(None, attributes, max_value_len=common.limits.max_span_attribute_length)
        self._dropped += cleaned.dropped
        for key, value in cleaned.items():
            self._put(key, value)

    def _clean(self, key: str, value: AnyValue) -> None:
        """Set one that may be none, or has to be cut or copied."""
        if self.common.max_attributes == 0:
            self._dropped += 1
            return
        cleaned = BoundedAttributes(immutable=False, max_value_len=self.common.limits.max_span_attribute_length)
        cleaned[key] = value
        self._dropped += cleaned.dropped
        for name, own in cleaned.items():
            self._put(name, own)

    def _put(self, key: str, value: AnyValue) -> None:
        """Set one that is clean; the oldest makes room for it."""
        attributes = self._attributes
        attributes.pop(key, None)
        most = self.common.max_attributes
        if len(attributes) >= most:
            if most:
                _attributes_logger.warning(
                    "Attributes dict is full. Dropping the oldest key-value pair from attributes to make space for the "
                    "new key-value pair."
                )
                attributes.pop(next(iter(attributes.copy())), None)
            self._dropped += 1
            if not most:
                return
        attributes[key] = value
