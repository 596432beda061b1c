from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
    Summary,
    SummaryDataPoint,
)

from observability.viewer.store import Store, metrics
from observability.viewer.store.metrics import Instrument
from tests.observability.viewer.samples import noise, span_id, text, trace_id

DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
FOREVER = 2**63 - 1


def _request(*found: Metric, service: str = "orders") -> bytes:
    message = ExportMetricsServiceRequest()
    resource_metrics = message.resource_metrics.add()
    resource_metrics.resource.attributes.append(text("service.name", service))
    resource_metrics.scope_metrics.add().metrics.extend(found)
    encoded: bytes = message.SerializeToString()
    return encoded


def _gauge(time_ns: int, value: int = 1, *, name: str = "queue", sku: str = "mug") -> bytes:
    point = NumberDataPoint(time_unix_nano=time_ns, as_int=value, attributes=[text("sku", sku)])
    return _request(Metric(name=name, gauge=Gauge(data_points=[point])))


def test_instruments(store: Store) -> None:
    """What is measured is told as it was last, by service and name."""
    store.add_metrics(_gauge(1))
    for unit in ("1", "s"):
        total = Sum(is_monotonic=True, aggregation_temporality=DELTA, data_points=[NumberDataPoint()])
        store.add_metrics(_request(Metric(name="done", unit=unit, description="all", sum=total), service="app"))
    assert store.instruments() == [
        Instrument("app", "done", "s", "all", "sum", monotonic=True, delta=True),
        Instrument("orders", "queue", "", "", "gauge", monotonic=False, delta=False),
    ]


def test_series(store: Store) -> None:
    """Points are told by their attributes, whose order does not matter, within the time, the later of two at once."""
    two = [text("b", "1"), text("a", "2")]
    for attributes, time_ns, value in ((two, 5, 1), (two[::-1], 7, 2), ([], 6, 3), (two, 7, 4), (two, 9, 5)):
        point = NumberDataPoint(time_unix_nano=time_ns, as_int=value, attributes=attributes)
        store.add_metrics(_request(Metric(name="queue", gauge=Gauge(data_points=[point]))))
    one, other = store.points("orders", "queue", 5, 8)
    assert one.attributes == {"a": "2", "b": "1"}
    assert [(point.time_ns, point.value) for point in one.points] == [(5, 1), (7, 4)]
    assert [(point.time_ns, point.value) for point in other.points] == [(6, 3)]
    assert store.points("orders", "never", 0, FOREVER) == store.points("app", "queue", 0, FOREVER) == []


def test_distributions(store: Store) -> None:
    """Histograms have bounds and counts, an exponential one too; a summary has quantiles; exemplars are kept."""
    exemplar = Exemplar(time_unix_nano=3, as_double=0.5, trace_id=trace_id(1), span_id=span_id(2))
    plain = HistogramDataPoint(count=3, sum=4.5, explicit_bounds=[1, 2], bucket_counts=[1, 1, 1], exemplars=[exemplar])
    exponential = ExponentialHistogramDataPoint(
        count=6,
        scale=0,
        zero_count=1,
        positive=ExponentialHistogramDataPoint.Buckets(offset=1, bucket_counts=[2, 1]),
        negative=ExponentialHistogramDataPoint.Buckets(offset=0, bucket_counts=[1, 1]),
    )
    quantile = SummaryDataPoint.ValueAtQuantile(quantile=0.5, value=7)
    store.add_metrics(
        _request(
            Metric(name="plain", histogram=Histogram(data_points=[plain])),
            Metric(name="exponential", exponential_histogram=ExponentialHistogram(data_points=[exponential])),
            Metric(
                name="summary", summary=Summary(data_points=[SummaryDataPoint(count=2, quantile_values=[quantile])])
            ),
        )
    )

    def point(name: str) -> metrics.Point:
        return store.points("orders", name, 0, FOREVER)[0].points[0]

    assert (point("plain").count, point("plain").sum) == (3, 4.5)
    assert (point("plain").bounds, point("plain").counts) == ([1, 2], [1, 1, 1])
    assert point("plain").exemplars == [metrics.Exemplar(3, 0.5, trace_id(1), span_id(2))]
    # Above -4 up to -2, above that up to -1, ...
    assert point("exponential").bounds == [-4, -2, -1, 0, 2, 4, 8]
    assert point("exponential").counts == [0, 1, 1, 1, 0, 2, 1, 0]
    assert point("summary").quantiles == [(0.5, 7)]


def test_points_per_series(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A series keeps its newest points."""
    monkeypatch.setattr(metrics, "MAX_POINTS_PER_SERIES", 3)
    for time_ns in (5, 1, 9, 7, 8):
        store.add_metrics(_gauge(time_ns))
    assert [point.time_ns for point in store.points("orders", "queue", 0, FOREVER)[0].points] == [7, 8, 9]


def test_number_of_series(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many series those go that had no point for the longest time, and instruments without any."""
    monkeypatch.setattr(metrics, "MAX_SERIES", 2)
    store.add_metrics(_gauge(1, name="old"))
    for time_ns, sku in ((2, "mug"), (3, "anvil"), (4, "mug"), (5, "rope")):
        store.add_metrics(_gauge(time_ns, sku=sku))
    assert [one.attributes["sku"] for one in store.points("orders", "queue", 0, FOREVER)] == ["mug", "rope"]
    assert [one.name for one in store.instruments()] == ["queue"]


def test_bytes(store: Store) -> None:
    """Metrics take no more than their share of the file, and a huge point is refused and counted."""
    for number in range(300):
        point = NumberDataPoint(time_unix_nano=number, attributes=[noise(200)])
        assert not store.add_metrics(_request(Metric(name=f"metric {number}" * 20, gauge=Gauge(data_points=[point]))))
    for number in range(3000):
        point = NumberDataPoint(time_unix_nano=number + 1000, attributes=[text("number", str(number))])
        store.add_metrics(_request(Metric(name="queue", gauge=Gauge(data_points=[point]))))
    with store._database.reading() as connection:
        assert connection.execute("SELECT sum(bytes) FROM series").fetchone()[0] <= 2**21 // 8
    huge = NumberDataPoint(attributes=[noise(50_000)])
    refused = store.add_metrics(_request(Metric(name="huge", gauge=Gauge(data_points=[huge]))))
    assert refused.total() == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(
    scale=st.integers(-(2**31), 2**31 - 1),
    offset=st.integers(-(2**31), 2**31 - 1),
    counts=st.lists(st.integers(0, 2**64 - 1), max_size=5),
    threshold=st.floats(),
)
def test_any_exponential_histogram(store: Store, scale: int, offset: int, counts: list[int], threshold: float) -> None:
    """Whatever scale and offset come, they can be shown."""
    buckets = ExponentialHistogramDataPoint.Buckets(offset=offset, bucket_counts=counts)
    point = ExponentialHistogramDataPoint(
        scale=scale, positive=buckets, negative=buckets, zero_threshold=threshold, time_unix_nano=2**64 - 1
    )
    store.add_metrics(_request(Metric(name="any", exponential_histogram=ExponentialHistogram(data_points=[point]))))
    for series in store.points("orders", "any", 0, FOREVER):
        for one in series.points:
            assert len(one.counts) == len(one.bounds) + 1
            json.dumps({key: value for key, value in asdict(one).items() if key != "exemplars"}, allow_nan=False)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes(store: Store, body: bytes) -> None:
    """Whatever bytes come, they are kept or said to be no message."""
    with suppress(DecodeError):
        store.add_metrics(body)
