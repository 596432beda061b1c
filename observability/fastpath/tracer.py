"""The SDK's tracer provider and tracer, with spans that cost a fraction.

What they do is what the SDK does: the same parents, ids, decisions of samplers, limits and processors. All that would
come out the same for each span is found out once, when a tracer is made.

| Differs on purpose | and why |
|---|---|
| The stack of an exception that left a block begins where the block is. | The SDK's block is two generators. |
| `otel.sdk.span.started` and `otel.sdk.span.live` have no exemplars. | They are read when metrics are collected. |
| An interval without spans is a point of 0 with temporality `delta`; `lowmemory` means cumulative. | As above. |
| `span.attributes` is a copy, and does not follow the span. | The SDK's mapping costs as much as the whole span. |
| What is set by one thread while another ends the span may be lost without a warning. | A lock takes as long. |
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util._decorator import _AgnosticContextManager
from opentelemetry.util.types import Attributes

from observability.fastpath.counts import RECORDED, RESULTS, SAMPLED, SpanCounts
from observability.fastpath.current import CurrentSpan
from observability.fastpath.origin import Origins
from observability.fastpath.processors import EncodingSpanProcessor
from observability.fastpath.span import Common, LeanSpan, Processors

_ID_BITS: Final = 0xFFFF_FFFF_FFFF_FFFF
"""Of a trace id, those that samplers by ratio look at."""

_FLAGS: Final = tuple(TraceFlags(bits) for bits in range(4))
_SAMPLED_FLAG: Final = TraceFlags.SAMPLED
_RANDOM_FLAG: Final = TraceFlags.RANDOM_TRACE_ID

_RESULT: Final = {Decision.DROP: 0, Decision.RECORD_AND_SAMPLE: SAMPLED, Decision.RECORD_ONLY: RECORDED}
_PARENTLESS, _LOCAL, _REMOTE = (len(RESULTS) * origin for origin in range(3))

_new_span = object.__new__
_new_tuple = tuple.__new__


class LeanTracer(Tracer):
    """Makes lean spans."""

    def __init__(self, tracer: Tracer, processors: Processors, counts: SpanCounts) -> None:
        """Take the place of one of the SDK's.

        Args:
            tracer: That one.
            processors: See the spans.
            counts: Count them.
        """
        self._counts = counts
        self._processors = processors
        self._started = counts.started
        (self._span_key,) = set_span_in_context(INVALID_SPAN, Context())
        self._ids_are_random = type(tracer.id_generator) is RandomIdGenerator
        self._bounds = _bounds(tracer.sampler)
        # The rest is known to the tracer alone.
        super().__init__(
            tracer.sampler,
            tracer.resource,
            processors,
            tracer.id_generator,
            tracer.instrumentation_info,
            tracer._span_limits,  # noqa: SLF001
            tracer._instrumentation_scope,  # noqa: SLF001
            meter_provider=NoOpMeterProvider(),
            _tracer_config=tracer._tracer_config,  # noqa: SLF001
        )
        self._share(tracer.resource)

    def _share(self, resource: Resource) -> None:
        self.common = Common(
            resource=resource,
            scope=self._instrumentation_scope,
            info=self.instrumentation_info,
            origin=Origins().of(resource, self._instrumentation_scope),
            limits=self._span_limits,
            processors=self._processors,
            counts=self._counts,
        )

    def _set_resource(self, resource: Resource) -> None:
        super()._set_resource(resource)
        self._share(resource)

    def start_span(  # noqa: PLR0912, PLR0917 - a call costs more than a branch; the signature is the API's
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        current = (get_current() if context is None else context).get(self._span_key)
        parent: SpanContext | None
        if current is None:
            parent = INVALID_SPAN_CONTEXT
        elif type(current) is LeanSpan or type(current) is NonRecordingSpan:
            parent = current.get_span_context()
        else:
            parent = get_current_span(context).get_span_context()
        if parent is not None and not isinstance(parent, SpanContext):
            raise TypeError("parent_span_context must be a SpanContext or None.")
        if not self._tracer_config.is_enabled:
            return NonRecordingSpan(parent)

        state: TraceState
        if parent is not None and parent[5]:
            trace_id, _, remote, flags, state, _ = parent
            random = flags & _RANDOM_FLAG
            origin = _REMOTE if remote else _LOCAL
            bound = self._bounds[(3 if remote else 1) + (flags & _SAMPLED_FLAG)]
        else:
            parent, state = None, DEFAULT_TRACE_STATE
            trace_id = self.id_generator.generate_trace_id()
            random = _RANDOM_FLAG if self.id_generator.is_trace_id_random() else 0
            origin = _PARENTLESS
            bound = self._bounds[0]

        if bound is not None:
            result = SAMPLED if trace_id & _ID_BITS < bound else 0
            sampled = result
        else:
            decided = self.sampler.should_sample(context, trace_id, name, kind, attributes, links or ())
            result = _RESULT[decided.decision]
            sampled = 1 if result == SAMPLED else 0
            attributes, state = decided.attributes.copy(), decided.trace_state or DEFAULT_TRACE_STATE

        span_id = self.id_generator.generate_span_id()
        made: SpanContext
        if self._ids_are_random:
            # As its constructor does, which takes three times as long.
            made = _new_tuple(SpanContext, (trace_id, span_id, False, _FLAGS[sampled | random], state, True))
        else:
            made = SpanContext(trace_id, span_id, False, _FLAGS[sampled | random], state)
        self._started[origin + result] += 1
        if not result:
            return NonRecordingSpan(made)
        # Past the SDK's __new__, which takes as long as all the rest of making an object.
        span = _new_span(LeanSpan)
        LeanSpan.__init__(span, self.common, name, made, parent, kind, attributes, start_time)
        if self._processors.alone is None or links or not record_exception or not set_status_on_exception:
            span.begin(
                links or (),
                context,
                record_exception=record_exception,
                set_status_on_exception=set_status_on_exception,
            )
        return span

    def start_as_current_span(  # noqa: PLR0917 - the signature is the API's
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> _AgnosticContextManager[trace.Span]:
        return CurrentSpan(
            self,
            (name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception),
            end_on_exit=end_on_exit,
        )


class LeanProcessors(Processors):
    """Lets an `EncodingSpanProcessor` that is the only one have ended spans as they are, without a copy of each."""

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        super().add_span_processor(span_processor)
        only = self._span_processors == (span_processor,)
        self.alone = span_processor.on_lean_end if only and type(span_processor) is EncodingSpanProcessor else None


class LeanTracerProvider(TracerProvider):
    """The SDK's provider, of lean tracers."""

    def __init__(
        self,
        *,
        resource: Resource,
        meter_provider: MeterProvider,
        sampler: Sampler | None = None,
        id_generator: IdGenerator | None = None,
        span_limits: SpanLimits | None = None,
    ) -> None:
        """Begin without processors. Nothing is closed when the process ends, unless somebody does it.

        Args:
            resource: Of all spans.
            meter_provider: For the metrics of started and live spans, unless
                `OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED` is not true.
            sampler: Defaults to `OTEL_TRACES_SAMPLER`, else to the parent's decision and all roots.
            id_generator: Defaults to random ids.
            span_limits: Defaults to those of the `OTEL_` variables.

        Raises:
            ValueError: A variable has a limit that is no number.
        """
        self._processors = LeanProcessors()  # type: ignore[no-untyped-call]  # the SDK has no annotation here
        super().__init__(
            sampler=sampler,
            resource=resource,
            shutdown_on_exit=False,
            active_span_processor=self._processors,
            id_generator=id_generator,
            span_limits=span_limits,
            meter_provider=NoOpMeterProvider(),  # for what the SDK's tracers count themselves
        )
        self._counts = SpanCounts()
        if os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() == "true":
            self._counts.watch(meter_provider)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        tracer = super().get_tracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        if type(tracer) is not Tracer:  # it is lean already, or the SDK is disabled
            return tracer
        # The SDK keeps the tracers that it has made, tells them when the resource or their configuration change, and
        # gives them to whoever asks next; so a lean one stands among them.
        with self._tracers_lock:
            scope = tracer._instrumentation_scope  # noqa: SLF001
            made = self._tracers[scope]
            if type(made) is Tracer:
                made = self._tracers[scope] = LeanTracer(made, self._processors, self._counts)
            return made


def _bounds(sampler: Sampler) -> tuple[int | None, ...]:
    """Below which number the last 64 bits of a trace id have to be for a span to be sampled.

    Five times: without a parent, with a local one that is not sampled, with one that is, and with remote ones likewise.
    None says that the sampler has to be asked.
    """
    if type(sampler) not in (ParentBased, ParentBasedTraceIdRatio):
        return (_bound(sampler),) * 5
    # They tell it in no other way. What is not there, or is something else, is asked.
    return tuple(
        _bound(getattr(sampler, name, None))
        for name in (
            "_root",
            "_local_parent_not_sampled",
            "_local_parent_sampled",
            "_remote_parent_not_sampled",
            "_remote_parent_sampled",
        )
    )


def _bound(sampler: Sampler | None) -> int | None:
    if type(sampler) is StaticSampler:
        decision = getattr(sampler, "_decision", None)
        return 0 if decision is Decision.DROP else 1 << 64 if decision is Decision.RECORD_AND_SAMPLE else None
    return sampler.bound if type(sampler) is TraceIdRatioBased else None
