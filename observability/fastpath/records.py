"""Records of `logging` as OTLP's LogRecord messages, without the steps between.

On the SDK's way contrib's handler makes an OpenTelemetry record of one, the SDK another one with its resource and its
limits, and `EncodingLogProcessor` bytes of that: four fifths of the time is spent on objects that nobody else sees. So
where nobody else looks at them, plain records go to the sender at once, with the same bytes. Plain is what has no
exception, no name of an event, and no value but short texts and numbers; all else takes the SDK's way.
"""

from __future__ import annotations

from math import inf
from struct import Struct
from time import time_ns
from types import NoneType
from typing import Any, Final, Self

from opentelemetry._logs import get_logger
from opentelemetry.instrumentation.log_utils import std_to_otel
from opentelemetry.sdk._logs import Logger, LoggerProvider, LogRecordLimits
from opentelemetry.sdk._logs._internal import SynchronousMultiLogRecordProcessor
from opentelemetry.semconv._incubating.attributes.event_attributes import EVENT_NAME
from opentelemetry.semconv.attributes.otel_attributes import OTEL_EVENT_NAME
from opentelemetry.trace import SpanContext

from observability.fastpath.attributes import remember
from observability.fastpath.buffer import Entry
from observability.fastpath.logs import body_of
from observability.fastpath.origin import Origin
from observability.fastpath.processors import EncodingLogProcessor
from observability.fork import call_in_child
from observability.log_lines import Reading

# Extras that contrib's handler or the SDK gives another place, or none.
_OTHERS: Final = frozenset({"", "getMessage", EVENT_NAME, OTEL_EVENT_NAME})

_TYPES: Final = frozenset({bool, int, float, NoneType})
"""Those whose values are taken as they are; so is a text that is not too long."""

_LATEST: Final = 0xFFFF_FFFF_FFFF_FFFF

_Plain = tuple[Origin, int, int, bytes, SpanContext, str, bool, dict[str, Any]]
"""Where a record is from; its time and when it was seen, in ns; its severity's fields; the rest of its `Reading`."""

_SEVERITY_TEXTS: Final = {"WARNING": "WARN", "CRITICAL": "FATAL"}

_times = Struct("<BQBQ").pack
_flags = Struct("<BI").pack


class Records:
    """Encodes plain records of one provider. Threads may share it."""

    def __init__(self, provider: LoggerProvider, processor: EncodingLogProcessor, limits: LogRecordLimits) -> None:
        """Take the place of a provider; see `of`."""
        self._provider = provider
        self._processors = provider._multi_log_record_processor  # noqa: SLF001 - asked for each record: see `of`
        self._alone = self._processors._log_record_processors  # noqa: SLF001 - the same
        self._created, self._add_later = processor.sender.created, processor.sender.add_later
        self._encoder = processor.encoder
        self._origin_of = processor.origins.of
        self._attributes = processor.encoder.attributes
        self._max_length = inf if (most := limits.max_log_record_attribute_length) is None else most
        self._max_attributes = inf if (most := limits.max_log_record_attributes) is None else most
        self._loggers: dict[str, tuple[Logger, Origin]] = {}
        self._severities: dict[tuple[int, str], bytes] = {}
        self._ids: tuple[SpanContext | None, bytes] = (None, b"")
        call_in_child(self._forget)

    @classmethod
    def of(cls, provider: LoggerProvider) -> Self | None:
        """What takes the place of a provider; None where its records go to others than one `EncodingLogProcessor`.

        The SDK tells nowhere who gets its records, which limits they have and whether a logger is disabled, so that
        private parts are asked. None too where they are not what this knows.
        """
        processors = getattr(provider, "_multi_log_record_processor", None)
        found = getattr(processors, "_log_record_processors", None)
        limits = getattr(provider, "_log_record_limits", None)
        enabled = getattr(getattr(provider.get_logger(__name__), "_logger_config", None), "is_enabled", None)
        if (
            type(provider) is LoggerProvider
            and type(processors) is SynchronousMultiLogRecordProcessor
            and isinstance(found, tuple)
            and [type(one) for one in found] == [EncodingLogProcessor]
            and isinstance(limits, LogRecordLimits)
            and isinstance(enabled, bool)
        ):
            return cls(provider, found[0], limits)
        return None

    def add(self, reading: Reading) -> bool:
        """Give a record to the sender; False if it has to take the SDK's way.

        Raises whatever the parts of the record raise, and then has given nothing to the sender.
        """
        if self._processors._log_record_processors is not self._alone:  # noqa: SLF001 - see `of`
            return False
        record = reading.record
        if record is not None and record.exc_info:
            return False
        logger, origin = self._loggers.get(reading.logger) or self._logger(reading.logger)
        extras = reading.extras
        if (
            not logger._logger_config.is_enabled  # noqa: SLF001 - see `of`
            or len(extras) > self._max_attributes
            or not _OTHERS.isdisjoint(extras)
        ):
            return False
        for key, value in extras.items():
            taken = len(value) <= self._max_length if type(value) is str else type(value) in _TYPES
            if not taken or type(key) is not str:
                return False
        time = int(reading.created * 1e9)
        if not 0 <= time <= _LATEST:
            return False
        severity = self._severities.get((reading.level, reading.level_name)) or self._severity(reading)
        self._created()
        # Without the record, whose arguments hold on to what the program had when it logged.
        plain = origin, time, time_ns(), severity, reading.context, reading.message, reading.message_cut, extras
        self._add_later(self._encode, plain)
        return True

    def _encode(self, plain: _Plain) -> Entry:
        origin, time, observed, severity, context, message, message_cut, extras = plain
        known = self._ids
        cut: list[str] = []
        parts = [
            _times(0x09, time, 0x59, observed),
            severity,
            known[1] if known[0] is context else self._ids_of(context),
            body_of(message),
        ]
        if extras:
            self._attributes.add(extras, parts, cut)
        if message_cut:
            cut.append("body")
        if cut:
            self._attributes.tell(cut, extras, parts, len(parts) - len(extras))
        return origin, b"".join(parts)

    def _forget(self) -> None:
        """In a forked process, where the SDK gives its loggers another resource."""
        self._loggers = {}

    def _logger(self, name: str) -> tuple[Logger, Origin]:
        logger = get_logger(name, logger_provider=self._provider)
        if not isinstance(logger, Logger):
            raise TypeError(f"{type(logger).__name__} is not the SDK's logger")
        found = logger, self._origin_of(logger.resource, logger.instrumentation_scope)
        remember(self._loggers, name, found)
        return found

    def _severity(self, reading: Reading) -> bytes:
        number, name = reading.level, reading.level_name
        encoded = self._encoder.severity(std_to_otel(number), _SEVERITY_TEXTS.get(name, name))
        remember(self._severities, (number, name), encoded)
        return encoded

    def _ids_of(self, context: SpanContext) -> bytes:
        ids = b""
        if context.trace_id:
            ids += b"\x4a\x10" + context.trace_id.to_bytes(16, "big")
        if context.span_id:
            ids += b"\x52\x08" + context.span_id.to_bytes(8, "big")
        if context.trace_flags:
            ids += _flags(0x45, context.trace_flags)
        self._ids = context, ids
        return ids
