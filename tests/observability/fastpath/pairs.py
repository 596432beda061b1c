"""The same done with the SDK's spans and with lean ones, to be compared."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import get_current_span

from observability.fastpath.buffer import Entry
from observability.fastpath.origin import Origin, request
from observability.fastpath.processors import EncodingSpanProcessor
from observability.fastpath.sender import Sender
from observability.fastpath.tracer import LeanTracerProvider

_FRAME = re.compile(r' *File "[^"]*(?:opentelemetry|fastpath/current\.py)[^\n]*\n(?: {4,}[^\n]*\n)+')


class KeptBytes(Sender):
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.entries: list[tuple[Origin, bytes]] = []
        self.errors: list[str] = []

    def add(self, origin: Origin, body: bytes) -> None:
        """Keep an entry."""
        self.entries.append((origin, body))

    def add_later(self, encode: Callable[[Any], Entry], item: Any) -> None:
        """Encode it at once."""
        try:
            self.add(*encode(item))
        except Exception as error:  # noqa: BLE001 - as the real one does
            self.drop(error)

    def drop(self, error: BaseException) -> None:
        """Keep an error."""
        self.errors.append(f"{type(error).__name__}: {error}")

    def decoded(self) -> str:
        """What a receiver gets, as text, which also compares numbers that are none."""
        return without_own_frames(str(ExportTraceServiceRequest.FromString(request(self.entries))))


class KeptSpans(SpanProcessor):
    """Keeps what is told of spans as they start and as they end."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: ReadableSpan, parent_context: Context | None = None) -> None:
        """Keep what a span is at its start, and whose child."""
        parent = get_current_span(parent_context).get_span_context() if parent_context is not None else None
        self.told.append(("start", what_is(span), parent))

    def _on_ending(self, span: ReadableSpan) -> None:
        self.told.append(("ending", what_is(span)))

    def on_end(self, span: ReadableSpan) -> None:
        """Keep what a span is at its end."""
        self.told.append(("end", what_is(span)))
        self.ended.append(span)


class Counted(IdGenerator):
    """Ids one after the other."""

    def __init__(self, first: int = 0) -> None:
        self._last = first

    def generate_span_id(self) -> int:
        """The next one."""
        self._last += 1
        return self._last

    def generate_trace_id(self) -> int:
        """The next one too, and spread over all ratios."""
        return (self.generate_span_id() * 0x9E37_79B9_7F4A_7C15) & 0xFFFF_FFFF_FFFF_FFFF | 1 << 100


def both_providers(
    *,
    limits: SpanLimits | None = None,
    sampler: Sampler | None = None,
    ids: Callable[[], IdGenerator] = Counted,
    meter_providers: Sequence[MeterProvider] = (NoOpMeterProvider(), NoOpMeterProvider()),
) -> tuple[TracerProvider, TracerProvider]:
    """One of the SDK and a lean one, alike."""
    resource = Resource({"service.name": "s"})
    return TracerProvider(
        sampler=sampler,
        resource=resource,
        shutdown_on_exit=False,
        id_generator=ids(),
        span_limits=limits,
        meter_provider=meter_providers[0],
    ), LeanTracerProvider(
        sampler=sampler,
        resource=resource,
        id_generator=ids(),
        span_limits=limits,
        meter_provider=meter_providers[1],
    )


def told_by(provider: TracerProvider, play: Callable[[TracerProvider], object], *, alone: bool) -> list[object]:
    """All that is to be seen of what is done with a provider: what it returns or raises, spans, bytes and warnings.

    Args:
        provider: Has no processors yet.
        play: Does it.
        alone: Whether spans are encoded only, with no other processor beside.
    """
    sender, kept = KeptBytes(), KeptSpans()
    provider.add_span_processor(EncodingSpanProcessor(sender))
    if not alone:
        provider.add_span_processor(kept)
    with _warnings() as warnings:
        try:
            outcome = play(provider)
        except Exception as error:  # noqa: BLE001 - it is compared
            outcome = type(error)
    return [outcome, kept.told, sender.decoded(), sender.errors, warnings]


def what_is(span: ReadableSpan) -> object:
    """All that a span tells; times are given, but for those of events of exceptions that escape."""
    try:
        told = without_own_frames(json.dumps(json.loads(span.to_json()), indent=1))
    except (TypeError, OverflowError, ValueError) as error:  # JSON has no form for bytes, nor for some times
        told = type(error).__name__
    return (
        told,
        span.name,
        span.context,
        span.parent,
        span.kind,
        repr(dict(span.attributes or {})),
        [
            (event.name, event.timestamp, without_own_frames(repr(event.attributes)), event.dropped_attributes)
            for event in span.events
        ],
        [(link.context, repr(link.attributes), link.dropped_attributes) for link in span.links],
        (span.dropped_attributes, span.dropped_events, span.dropped_links),
        (span.status.status_code, span.status.description),
        (span.start_time, span.end_time),
        (span.resource, span.instrumentation_scope),
    )


def without_own_frames(text: str) -> str:
    """Without the frames that a traceback has of OpenTelemetry's generators or of the kit's block."""
    plain = text.replace("\\n", "\n").replace('\\"', '"').replace("\\'", "'")
    return _FRAME.sub("", plain)


@contextmanager
def _warnings() -> Iterator[list[tuple[str, str]]]:
    found: list[tuple[str, str]] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append((record.name, record.getMessage()))

    logger = logging.getLogger("opentelemetry")
    handler = Keeping()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def difference(play: Callable[[TracerProvider], object], *, alone: bool, **options: Any) -> str:
    """Where lean spans first tell something else than the SDK's of the same that is done; nothing if they do not."""
    sdk, lean = both_providers(**options)
    return _first_difference(told_by(sdk, play, alone=alone), told_by(lean, play, alone=alone), at="")


def _first_difference(expected: object, found: object, at: str) -> str:
    lists = type(expected) is type(found) and type(expected) in (list, tuple)
    if lists and isinstance(expected, Sequence) and isinstance(found, Sequence) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return next(filter(None, (_first_difference(one, other, f"{at}/{index}") for index, (one, other) in pairs)), "")
    return "" if expected == found else f"{at}: not {expected!r} but {found!r}"
