"""Measurements that cost next to nothing where they are taken, and are added up when metrics are collected.

The SDK's way of one measurement validates, copies and hashes its attributes, asks each reader for its views, and offers
an exemplar: 8 microseconds and more. A `Series` is one instrument with one set of attributes, for which all that has
been done once: it notes the amount, and adds up what was noted to the SDK's own aggregations before they are collected.
So views, temporality, start times and exemplars are the SDK's; only a counter offers the last exemplar, and not one by
lot.

The aggregations are private parts of the SDK, and it has no other door to them. Whether they are what is expected here
is tried out once, on a provider made for that; where they are not, and for what is not covered (aggregations other than
sums and explicit buckets, reservoirs and exemplar filters other than the defaults), the SDK's public way is taken.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cache
from time import time_ns
from typing import Any, Final, TypeAlias

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, UpDownCounter
from opentelemetry.sdk.metrics import (
    AlignedHistogramBucketExemplarReservoir,
    AlwaysOffExemplarFilter,
    MeterProvider,
    SimpleFixedSizeExemplarReservoir,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics import Histogram as SdkHistogram
from opentelemetry.sdk.metrics import UpDownCounter as SdkUpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.util.types import AttributeValue

MAX_SERIES: Final = 2000
"""Series of one instrument that are prepared; more go the SDK's own way."""

MAX_NOTED: Final = 256
"""Amounts that one series notes before it adds them up by itself."""

_Instrument: TypeAlias = Histogram | Counter | UpDownCounter
_Attributes: TypeAlias = Mapping[str, AttributeValue]
_Add: TypeAlias = Callable[[Any, Sequence[float]], None]


class PreparedInstrument:
    """A histogram or counter whose measurements are prepared. Threads may share it, and its series."""

    def __init__(self, instrument: _Instrument, *, prepare: bool | None = None) -> None:
        """Prepare an instrument.

        Args:
            instrument: Of the SDK, or of the API, which does nothing.
            prepare: Whether the SDK is known to be as expected; by default that is tried out.
        """
        self._instrument = instrument
        self._prepared: list[Series] = []
        self._by_key: dict[Hashable, Series] = {}
        self._preparing = threading.Lock()
        self._covered = prepare if prepare is not None else _sdk_is_as_expected()
        consumer = getattr(instrument, "_measurement_consumer", None)
        if consumer is None:
            self._covered = False
        elif self._covered:
            consumer.register_asynchronous_instrument(self)

    @classmethod
    def of(cls, instrument: _Instrument) -> PreparedInstrument:
        """The one of an instrument, made when it is first asked for: a meter gives all who ask the same instrument."""
        prepared: PreparedInstrument | None = vars(instrument).get("_clearspan_prepared")
        if prepared is None:
            prepared = vars(instrument)["_clearspan_prepared"] = cls(instrument)
        return prepared

    def series(self, attributes: _Attributes) -> Series:
        """What is measured with these attributes. Ask once and keep it: at most `MAX_SERIES` of them are prepared."""
        with self._preparing:
            covered = self._covered and len(self._prepared) < MAX_SERIES
            series = Series(self._instrument, attributes, covered=covered)
            if covered:
                self._prepared.append(series)
        return series

    def record(
        self,
        amount: float,
        key: Hashable,
        make_attributes: Callable[[], _Attributes],
        span_context: SpanContext | None = None,
    ) -> None:
        """Record an amount, or add it to a counter.

        Args:
            amount: Finite, and not negative unless the instrument counts up and down.
            key: What tells one set of attributes from another.
            make_attributes: Makes them when a key is new.
            span_context: Of the span that it was measured in, for exemplars.
        """
        series = self._by_key.get(key)
        if series is None:
            series = self.series(make_attributes())
            if len(self._by_key) < MAX_SERIES:
                self._by_key[key] = series
        series.record(amount, span_context)

    def callback(self, _options: CallbackOptions) -> Iterable[Any]:
        """Add up what was noted: the SDK calls its asynchronous instruments so, before it collects the others."""
        for series in tuple(self._prepared):
            series.add_up()
        return ()


class Series:
    """One instrument with one set of attributes.

    Attributes:
        record: Takes an amount, and the context of the span that it was measured in or None, for exemplars.
    """

    __slots__ = (
        "_adding",
        "_aggregations",
        "_attributes",
        "_bounds",
        "_exemplars",
        "_instrument",
        "_noted",
        "_sampled",
        "_storages",
        "record",
    )

    record: Callable[[float, SpanContext | None], None]

    def __init__(self, instrument: _Instrument, attributes: _Attributes, *, covered: bool) -> None:
        self._instrument: Any = instrument
        self._attributes = dict(attributes)
        self._noted: list[float] = []
        self._exemplars: dict[int, tuple[float, int, SpanContext]] = {}
        self._aggregations: Sequence[tuple[_Add, Any]] = ()
        self._storages: object = None
        self._bounds: Sequence[float] = ()
        self._sampled = 0
        self._adding = threading.Lock()  # guards `_noted` being taken from, and all that `_find` sets
        self.record = self._begin if covered else self._record_publicly

    def add_up(self) -> None:
        """Add what was noted to the SDK's aggregations."""
        with self._adding:
            # Other threads may append to the list meanwhile, behind what is taken.
            amounts = self._noted[: len(self._noted)]
            del self._noted[: len(amounts)]
            exemplars, self._exemplars = self._exemplars, {}
            if not amounts or not self._instrument._is_enabled():
                return
            if self._storages is not self._instrument._measurement_consumer._reader_storages and not self._find():
                # A reader has come: the SDK makes what is missing.
                for amount in amounts:
                    self._record_publicly(amount, None)
                return
            for add, aggregation in self._aggregations:
                add(aggregation, amounts)
                for amount, time, span_context in list(exemplars.values()):
                    aggregation._reservoir.offer(amount, time, self._attributes, _context(span_context))

    def _record_publicly(self, amount: float, span_context: SpanContext | None) -> None:
        record = self._instrument.record if isinstance(self._instrument, Histogram) else self._instrument.add
        record(amount, self._attributes, _context(span_context))

    def _begin(self, amount: float, span_context: SpanContext | None) -> None:
        """Let the SDK make the aggregations, whose time begins now, and find them."""
        self._record_publicly(amount, span_context)
        with self._adding:
            self.record = self._note if self._find() else self._record_publicly

    def _note(self, amount: float, span_context: SpanContext | None) -> None:
        noted = self._noted
        noted.append(amount)
        if span_context is not None and span_context.trace_flags & self._sampled:
            # The last one of each bucket stays, as in the SDK's reservoir of a histogram.
            self._exemplars[bisect_left(self._bounds, amount)] = (amount, time_ns(), span_context)
        if len(noted) >= MAX_NOTED:
            self.add_up()

    def _find(self) -> bool:
        """Find the aggregations of all readers and views; False where there is one that is not covered."""
        consumer = self._instrument._measurement_consumer
        storages = consumer._reader_storages
        exemplar_filter = type(consumer._sdk_config.exemplar_filter)
        if exemplar_filter not in (TraceBasedExemplarFilter, AlwaysOffExemplarFilter):
            return False
        aggregations = []
        bounds = set()
        for storage in storages.values():
            for match in storage._get_or_init_view_instrument_match(self._instrument):
                aggregation = _aggregation(match, self._attributes)
                add = _ADD.get(type(aggregation).__name__)
                if add is None or type(aggregation._reservoir) not in _RESERVOIRS:
                    return False
                aggregations.append((add, aggregation))
                bounds.add(getattr(aggregation, "_boundaries", ()))
        if len(bounds) > 1:
            return False
        self._bounds = bounds.pop() if bounds else ()
        self._sampled = int(exemplar_filter is TraceBasedExemplarFilter)
        self._aggregations = aggregations
        self._storages = storages
        return True


def _aggregation(match: Any, attributes: _Attributes) -> Any:
    """What a view's match adds up for these attributes; None where it has nothing of its own for them."""
    kept = match._view._attribute_keys
    wanted = {name: (type(value), value) for name, value in attributes.items() if kept is None or name in kept}
    for aggregation in reversed(tuple(match._attributes_aggregation.values())):  # the newest is most often the one
        if {name: (type(value), value) for name, value in aggregation._attributes.items()} == wanted:
            return aggregation
    return None


def _add_to_sum(aggregation: Any, amounts: Sequence[float]) -> None:
    total = sum(amounts)
    with aggregation._lock:
        aggregation._value = total if aggregation._value is None else aggregation._value + total


def _add_to_buckets(aggregation: Any, amounts: Sequence[float]) -> None:
    total, least, greatest = sum(amounts), min(amounts), max(amounts)
    boundaries = aggregation._boundaries
    with aggregation._lock:
        counts = aggregation._value
        if counts is None:
            counts = aggregation._value = aggregation._get_empty_bucket_counts()
        for amount in amounts:
            counts[bisect_left(boundaries, amount)] += 1
        aggregation._sum += total
        if aggregation._record_min_max:
            aggregation._min = min(aggregation._min, least)
            aggregation._max = max(aggregation._max, greatest)


_ADD: dict[str, _Add] = {
    "_SumAggregation": _add_to_sum,
    "_ExplicitBucketHistogramAggregation": _add_to_buckets,
    "_DropAggregation": lambda _aggregation, _amounts: None,
}
_RESERVOIRS = (AlignedHistogramBucketExemplarReservoir, SimpleFixedSizeExemplarReservoir)


def _context(span_context: SpanContext | None) -> Context:
    return Context() if span_context is None else set_span_in_context(NonRecordingSpan(span_context), Context())


@cache
def _sdk_is_as_expected() -> bool:
    """Whether what is noted comes out of this SDK, in each interval, as if it had been recorded."""
    try:
        return _try_out() == [([2, 1], 3.5, [7]), 1, ([0, 1], 2.5, []), 2]
    except Exception:  # noqa: BLE001 - whatever another SDK's parts do
        return False


def _try_out() -> list[Any]:
    delta = AggregationTemporality.DELTA
    reader = InMemoryMetricReader(preferred_temporality={SdkHistogram: delta, SdkUpDownCounter: delta})
    meter = MeterProvider([reader], exemplar_filter=TraceBasedExemplarFilter(), shutdown_on_exit=False).get_meter("try")
    histogram = meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1.0])
    counter = meter.create_up_down_counter("c")
    durations = PreparedInstrument(histogram, prepare=True).series({"a": 1})
    active = PreparedInstrument(counter, prepare=True).series({"a": 1})
    sampled = SpanContext(7, 7, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    seen: list[Any] = []
    for amounts, changes in (((0.5, 1.0, 2.0), (1, 1, -1)), ((2.5,), (1, 1))):
        for amount in amounts:
            durations.record(amount, sampled if amount == 2.0 else None)
        for change in changes:
            active.record(change, None)
        data: Any = reader.get_metrics_data()
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            (point,) = metric.data.data_points
            if metric.name == "h":
                exemplars = [exemplar.trace_id for exemplar in point.exemplars]
                seen.append((list(point.bucket_counts), point.sum, exemplars))
            else:
                seen.append(point.value)
    return seen
