"""What is measured through prepared instruments is what the SDK's own way would have told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeter
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Counter,
    ExemplarFilter,
    Histogram,
    MeterProvider,
    TraceBasedExemplarFilter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    SumAggregation,
    View,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from observability.fastpath import instruments
from observability.fastpath.instruments import MAX_NOTED, PreparedInstrument

_SAMPLED = SpanContext(5, 6, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
_UNSAMPLED = SpanContext(7, 8, is_remote=False)
_DELTA: dict[type, AggregationTemporality] = {
    Counter: AggregationTemporality.DELTA,
    Histogram: AggregationTemporality.DELTA,
    UpDownCounter: AggregationTemporality.CUMULATIVE,
}

_Record = Callable[[float, dict[str, Any], SpanContext | None], None]


class _Meters:
    """Two providers that are set up alike: one is measured through prepared instruments, one through the SDK."""

    def __init__(
        self,
        kind: str,
        *,
        views: Sequence[View] = (),
        temporality: dict[type, AggregationTemporality] | None = None,
        exemplar_filter: ExemplarFilter | None = None,
    ) -> None:
        self.readers: list[list[InMemoryMetricReader]] = []
        self.providers: list[MeterProvider] = []
        self._records: list[_Record] = []
        for prepared in (True, False):
            reader = InMemoryMetricReader(preferred_temporality=temporality)
            provider = MeterProvider(
                [reader],
                views=views,
                exemplar_filter=exemplar_filter or TraceBasedExemplarFilter(),
                shutdown_on_exit=False,
            )
            instrument: Any = getattr(provider.get_meter("m"), f"create_{kind}")("measured", unit="s")
            self.readers.append([reader])
            self.providers.append(provider)
            self._records.append(_prepared(PreparedInstrument(instrument)) if prepared else _public(instrument))

    def record(self, amount: float, attributes: dict[str, Any], span_context: SpanContext | None = None) -> None:
        for record in self._records:
            record(amount, attributes, span_context)

    def add_reader(self) -> None:
        for readers, provider in zip(self.readers, self.providers, strict=True):
            readers.append(InMemoryMetricReader())
            provider.add_metric_reader(readers[-1])

    def agree(self) -> list[Any]:
        """Collect both, and give what they told, which has to be the same."""
        fast, official = ([_points(reader) for reader in readers] for readers in self.readers)
        assert fast == official
        return [point for points in official for point in points]


def _prepared(instrument: PreparedInstrument) -> _Record:
    def record(amount: float, attributes: dict[str, Any], span_context: SpanContext | None) -> None:
        instrument.record(amount, repr(attributes), lambda: attributes, span_context)

    return record


def _public(instrument: Any) -> _Record:
    take = instrument.record if hasattr(instrument, "record") else instrument.add

    def record(amount: float, attributes: dict[str, Any], span_context: SpanContext | None) -> None:
        context = set_span_in_context(NonRecordingSpan(span_context)) if span_context is not None else None
        take(amount, attributes, context)

    return record


def _points(reader: InMemoryMetricReader) -> list[Any]:
    data = reader.get_metrics_data()
    told = []
    for resource in data.resource_metrics if data is not None else ():
        for metric in resource.scope_metrics[0].metrics:
            about = (metric.name, metric.unit, getattr(metric.data, "aggregation_temporality", None))
            for point in metric.data.data_points:
                figures = {
                    name: getattr(point, name, None)
                    for name in ("count", "sum", "bucket_counts", "explicit_bounds", "min", "max", "value", "positive")
                }
                exemplars = [
                    (exemplar.value, exemplar.trace_id, exemplar.span_id, exemplar.filtered_attributes)
                    for exemplar in point.exemplars
                ]
                told.append((about, dict(point.attributes or {}), figures, exemplars))
    return told


@pytest.mark.parametrize("temporality", [None, _DELTA], ids=["cumulative", "delta"])
@pytest.mark.parametrize("kind", ["histogram", "counter", "up_down_counter"])
def test_same_as_the_sdk(kind: str, temporality: dict[type, AggregationTemporality] | None) -> None:
    """Figures, attributes and temporality are the SDK's, in every interval, also in one in which nothing came."""
    meters = _Meters(kind, temporality=temporality)
    for interval in ((1.0, 5.0, 7.0), (), (2.0,), (0.0, 10_001.0)):
        for amount in interval:
            for route in ("/", "/orders"):
                meters.record(amount, {"http.route": route, "http.response.status_code": 200})
        assert len(meters.agree()) in (0, 2)


@given(st.lists(st.tuples(st.integers(0, 20_000), st.sampled_from(["a", "b"]), st.booleans()), max_size=40))
def test_any_measurements(measurements: list[tuple[int, str, bool]]) -> None:
    """Whatever is measured, the last sampled exemplar of each bucket included, is what the SDK would tell."""
    meters = _Meters("histogram")
    for amount, name, sampled in measurements:
        meters.record(amount, {"name": name}, _SAMPLED if sampled else _UNSAMPLED)
    meters.agree()


@pytest.mark.parametrize(
    "views",
    [
        [View(instrument_name="measured", attribute_keys={"kept"})],
        [View(instrument_name="measured", name="renamed"), View(instrument_name="measured", name="twice")],
        [View(instrument_name="measured", aggregation=DropAggregation())],
        [View(instrument_name="measured", aggregation=SumAggregation())],
        [View(instrument_name="measured", aggregation=ExplicitBucketHistogramAggregation([1, 2]))],
        [
            View(instrument_name="measured", name="one", aggregation=ExplicitBucketHistogramAggregation([1, 2])),
            View(instrument_name="measured", name="two", aggregation=ExplicitBucketHistogramAggregation([3])),
        ],
        [View(instrument_name="measured", aggregation=ExponentialBucketHistogramAggregation())],
    ],
    ids=["attributes", "names", "drop", "sum", "buckets", "different-buckets", "exponential"],
)
def test_views(views: list[View]) -> None:
    """Views apply as they do to the SDK's own measurements."""
    meters = _Meters("histogram", views=views)
    for amount in (1, 3, 2):
        meters.record(amount, {"kept": True, "dropped": amount})
        meters.record(amount, {"kept": 1, "dropped": 1})
    meters.agree()
    meters.record(1, {"kept": True, "dropped": 1})
    meters.agree()


@pytest.mark.parametrize("exemplar_filter", [AlwaysOnExemplarFilter(), AlwaysOffExemplarFilter()])
def test_exemplar_filters(exemplar_filter: ExemplarFilter) -> None:
    """The exemplar filter decides, as it does for the SDK's own measurements."""
    meters = _Meters("histogram", exemplar_filter=exemplar_filter)
    for amount in (1, 30):
        for span_context in (_SAMPLED, _UNSAMPLED, None):
            meters.record(amount, {}, span_context)
    ((_, _, _, exemplars),) = meters.agree()
    assert len(exemplars) == (2 if isinstance(exemplar_filter, AlwaysOnExemplarFilter) else 0)


def test_exemplars() -> None:
    """An exemplar names the span, and what a view took from the attributes."""
    meters = _Meters("histogram", views=[View(instrument_name="measured", attribute_keys={"kept"})])
    for _ in range(2):
        meters.record(1, {"kept": 1, "dropped": 2}, _SAMPLED)
    ((_, attributes, _, exemplars),) = meters.agree()
    assert attributes == {"kept": 1}
    assert exemplars == [(1, 5, 6, {"dropped": 2})]


def test_later_reader() -> None:
    """A reader that comes later gets what is measured from then on."""
    meters = _Meters("histogram")
    for _ in range(2):
        meters.record(1, {"a": 1})
    meters.agree()
    meters.add_reader()
    for _ in range(3):
        meters.record(1, {"a": 1})
    meters.agree()
    meters.record(2, {"a": 1})
    assert [figures["count"] for _, _, figures, _ in meters.agree()] == [6, 4]


def test_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is noted is bounded, and so are the series that are prepared; the SDK measures the others."""
    monkeypatch.setattr(instruments, "MAX_SERIES", 3)
    meters = _Meters("counter")
    for number in range(10):
        for _ in range(MAX_NOTED + 2):
            meters.record(1, {"number": number})
    assert len(meters.agree()) == 10
    prepared = PreparedInstrument(meters.providers[0].get_meter("n").create_counter("other"))
    series = [prepared.series({"number": number}) for number in range(10)]
    for each in series:
        for _ in range(MAX_NOTED):
            each.record(1, None)
    assert [len(each._noted) for each in series] == [MAX_NOTED - 1] * 3 + [0] * 7


def test_threads() -> None:
    """Nothing is lost when threads measure while others collect."""
    reader = InMemoryMetricReader(preferred_temporality=_DELTA)
    counter = MeterProvider([reader], shutdown_on_exit=False).get_meter("m").create_counter("measured")
    series = PreparedInstrument(counter).series({})

    def measure() -> None:
        for _ in range(20_000):
            series.record(1, None)

    threads = [threading.Thread(target=measure) for _ in range(3)]
    for thread in threads:
        thread.start()
    total = 0
    while any(thread.is_alive() for thread in threads):
        total += sum(figures["value"] for _, _, figures, _ in _points(reader))
    total += sum(figures["value"] for _, _, figures, _ in _points(reader))
    assert total == 60_000


def test_one_for_each_instrument() -> None:
    """Who asks a meter for the same instrument measures with the same series."""
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("m")
    first, second = (PreparedInstrument.of(meter.create_counter("measured")) for _ in range(2))
    assert first is second
    assert PreparedInstrument.of(meter.create_counter("other")) is not first


def test_foreign_instruments() -> None:
    """An instrument that is not the SDK's is used as it is."""
    prepared = PreparedInstrument(NoOpMeter("m").create_histogram("measured"))
    prepared.record(1, "key", dict)
    assert prepared._prepared == []


def test_other_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the SDK's parts are not what is expected, its public way is taken."""
    assert instruments._sdk_is_as_expected()
    monkeypatch.setattr(instruments, "_ADD", {**instruments._ADD, "_SumAggregation": lambda *_: None})
    instruments._sdk_is_as_expected.cache_clear()
    try:
        assert not instruments._sdk_is_as_expected()
        meters = _Meters("counter")
        for _ in range(3):
            meters.record(1, {})
        meters.agree()
    finally:
        instruments._sdk_is_as_expected.cache_clear()
