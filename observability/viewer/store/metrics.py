"""Points of metrics: what arrived lately, in a bounded number of series of a bounded number of points."""

from __future__ import annotations

import math
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValueList
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar as ExemplarMessage

from observability.viewer.query import Value
from observability.viewer.store.fields import MAX_NAME, attribute_values, service_name

MAX_SERIES = 10_000
MAX_POINTS_PER_SERIES = 720  # an hour of one point every five seconds
MAX_POINT_BYTES = 64 * 1024

SCHEMA = """
CREATE TABLE IF NOT EXISTS instruments (
    number INTEGER PRIMARY KEY, service TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL,
    description TEXT NOT NULL, type TEXT NOT NULL, monotonic INTEGER NOT NULL, delta INTEGER NOT NULL,
    UNIQUE (service, name)
);
CREATE TABLE IF NOT EXISTS series (
    number INTEGER PRIMARY KEY, instrument INTEGER NOT NULL, kind TEXT NOT NULL, attributes BLOB NOT NULL,
    last_ns INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (instrument, kind, attributes)
);
CREATE TABLE IF NOT EXISTS points (
    series INTEGER NOT NULL, time_ns INTEGER NOT NULL, point BLOB NOT NULL, PRIMARY KEY (series, time_ns)
) WITHOUT ROWID;
"""

_MAX_TEXT = 1024
_TOO_LARGE = f"larger than {MAX_POINT_BYTES} bytes"
_MAX_NS = 2**63 - 1
_MAX_BUCKETS = 1024
_ROW_BYTES = 64
_SERIES_SHARE = 8  # of the bytes of all metrics, what one series may take, roughly
_DataPoint: TypeAlias = NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint
_MESSAGES: dict[str, type[_DataPoint]] = {
    "gauge": NumberDataPoint,
    "sum": NumberDataPoint,
    "histogram": HistogramDataPoint,
    "exponential_histogram": ExponentialHistogramDataPoint,
    "summary": SummaryDataPoint,
}


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a service measures, as it was last told; `type` is that of OTLP: gauge, sum, histogram and so on."""

    service: str
    name: str
    unit: str
    description: str
    type: str
    monotonic: bool
    delta: bool
    """Whether a point counts from the one before it, not from the process's start."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One measurement; its ids are empty if it was made outside of any span."""

    time_ns: int
    value: float
    trace_id: bytes
    span_id: bytes


@dataclass(frozen=True, slots=True)
class Point:
    """One point, whose numbers are all finite: a value, or the count, the sum and the buckets of a distribution.

    `counts` has one number more than `bounds`: the measurements up to and with each bound, and those above the last. A
    summary's quantiles are told as (share, value).
    """

    time_ns: int
    start_ns: int
    value: float | None
    count: int
    sum: float
    bounds: list[float]
    counts: list[int]
    quantiles: list[tuple[float, float]]
    exemplars: list[Exemplar]


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one set of attributes, by time."""

    attributes: dict[str, Value]
    points: list[Point]


def write_metrics(connection: sqlite3.Connection, request: ExportMetricsServiceRequest, max_bytes: int) -> Counter[str]:
    """Keep the points of a request, in the caller's transaction.

    A series keeps its newest `MAX_POINTS_PER_SERIES`; beyond `MAX_SERIES` or the bytes the series go that had no point
    for the longest time.

    Returns:
        How many points were refused, by reason.
    """
    refused = Counter[str]()
    touched: dict[int, tuple[int, int]] = {}  # time and bytes of a point
    for service, metric, kind in _metrics(request):
        data = getattr(metric, kind)
        instrument = _instrument(connection, service, metric, kind)
        for point in data.data_points:
            encoded = point.SerializeToString()
            attributes = KeyValueList(values=sorted(point.attributes, key=lambda one: one.key)).SerializeToString()
            if len(encoded) + len(attributes) > min(MAX_POINT_BYTES, max_bytes // _SERIES_SHARE):
                refused[_TOO_LARGE] += 1
                continue
            ((series,),) = connection.execute(
                "INSERT INTO series (instrument, kind, attributes) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET kind = kind RETURNING number",
                (instrument, kind, attributes),
            ).fetchall()
            time_ns = min(point.time_unix_nano, _MAX_NS)
            connection.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?)", (series, time_ns, encoded))
            touched[series] = max(touched.get(series, (0, 0)), (time_ns, len(encoded) + _ROW_BYTES))
    for series, (time_ns, size) in touched.items():
        most = min(MAX_POINTS_PER_SERIES, max_bytes // _SERIES_SHARE // size)
        _trim(connection, series, time_ns, max(1, most))
    _evict(connection, max_bytes)
    return refused


def read_instruments(connection: sqlite3.Connection) -> list[Instrument]:
    """What is measured, by service and name."""
    return [
        Instrument(service, name, unit, description, type_, bool(monotonic), bool(delta))
        for service, name, unit, description, type_, monotonic, delta in connection.execute(
            "SELECT service, name, unit, description, type, monotonic, delta FROM instruments ORDER BY service, name"
        )
    ]


def read_points(connection: sqlite3.Connection, service: str, name: str, start_ns: int, end_ns: int) -> list[Series]:
    """The points of an instrument within the time, by series."""
    series: dict[int, Series] = {}
    for number, kind, attributes, encoded in connection.execute(
        "SELECT s.number, s.kind, s.attributes, p.point FROM instruments i JOIN series s ON s.instrument = i.number"
        " JOIN points p ON p.series = s.number AND p.time_ns BETWEEN ? AND ?"
        " WHERE i.service = ? AND i.name = ? ORDER BY s.number, p.time_ns",
        (start_ns, end_ns, service, name),
    ):
        if number not in series:
            series[number] = Series(attribute_values(KeyValueList.FromString(attributes).values), [])
        series[number].points.append(_point(kind, encoded))
    return list(series.values())


def _metrics(request: ExportMetricsServiceRequest) -> Iterator[tuple[str, Metric, str]]:
    for resource_metrics in request.resource_metrics:
        service = service_name(resource_metrics.resource)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                if kind in _MESSAGES:
                    yield service, metric, kind


def _instrument(connection: sqlite3.Connection, service: str, metric: Metric, kind: str) -> int:
    data = getattr(metric, kind)
    delta = getattr(data, "aggregation_temporality", 0) == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    told = (metric.unit[:MAX_NAME], metric.description[:_MAX_TEXT], kind, getattr(data, "is_monotonic", False), delta)
    ((number,),) = connection.execute(
        "INSERT INTO instruments (service, name, unit, description, type, monotonic, delta)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET unit = excluded.unit,"
        " description = excluded.description, type = excluded.type, monotonic = excluded.monotonic,"
        " delta = excluded.delta RETURNING number",
        (service, metric.name[:MAX_NAME], *told),
    ).fetchall()
    return int(number)


def _trim(connection: sqlite3.Connection, series: int, time_ns: int, most: int) -> None:
    connection.execute(
        "DELETE FROM points WHERE series = ? AND time_ns <= (SELECT time_ns FROM points WHERE series = ?"
        " ORDER BY time_ns DESC LIMIT 1 OFFSET ?)",
        (series, series, most),
    )
    connection.execute(
        "UPDATE series SET last_ns = max(last_ns, ?),"
        " bytes = (SELECT sum(length(point)) + count(*) * ? FROM points WHERE series = number) + length(attributes)"
        " WHERE number = ?",
        (time_ns, _ROW_BYTES, series),
    )


def _evict(connection: sqlite3.Connection, max_bytes: int) -> None:
    ((count, size),) = connection.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM series").fetchall()
    if count <= MAX_SERIES and size <= max_bytes:
        return
    for number, instrument, held in connection.execute(
        "SELECT number, instrument, bytes FROM series ORDER BY last_ns, number"
    ).fetchall():
        if count <= MAX_SERIES and size <= max_bytes:
            return
        connection.execute("DELETE FROM points WHERE series = ?", (number,))
        connection.execute("DELETE FROM series WHERE number = ?", (number,))
        connection.execute(
            "DELETE FROM instruments WHERE number = ? AND NOT EXISTS (SELECT 1 FROM series WHERE instrument = ?)",
            (instrument, instrument),
        )
        count, size = count - 1, size - held


def _point(kind: str, encoded: bytes) -> Point:
    message = _MESSAGES[kind].FromString(encoded)
    value: float | None = None
    count, total = 0, 0.0
    bounds: list[float] = []
    counts: list[int] = []
    quantiles: list[tuple[float, float]] = []
    exemplars: list[Exemplar] = []
    if isinstance(message, NumberDataPoint):
        value = _finite(_number(message))
    else:
        count, total = message.count, _finite(message.sum)
    if isinstance(message, HistogramDataPoint):
        bounds, counts = (
            [_finite(one) for one in message.explicit_bounds[:_MAX_BUCKETS]],
            list(message.bucket_counts[: _MAX_BUCKETS + 1]),
        )
    elif isinstance(message, ExponentialHistogramDataPoint):
        bounds, counts = _explicit(message)
    if isinstance(message, SummaryDataPoint):
        quantiles = [(_finite(one.quantile), _finite(one.value)) for one in message.quantile_values[:_MAX_BUCKETS]]
    else:
        exemplars = [
            Exemplar(min(one.time_unix_nano, _MAX_NS), _finite(_number(one)), one.trace_id, one.span_id)
            for one in message.exemplars
        ]
    return Point(
        min(message.time_unix_nano, _MAX_NS),
        min(message.start_time_unix_nano, _MAX_NS),
        value,
        count,
        total,
        bounds,
        counts,
        quantiles,
        exemplars,
    )


def _number(message: NumberDataPoint | ExemplarMessage) -> float:
    """An integer stays one."""
    return message.as_int if message.WhichOneof("value") == "as_int" else message.as_double


def _finite(number: float) -> float:
    """A number that JSON has."""
    if math.isnan(number):
        return 0.0
    return max(-sys.float_info.max, min(number, sys.float_info.max)) if isinstance(number, float) else number


def _explicit(message: ExponentialHistogramDataPoint) -> tuple[list[float], list[int]]:
    """Bounds and counts of an exponential histogram, which counts by powers of 2 ** (2 ** -scale)."""
    bounds: list[float] = []
    counts: list[int] = []

    def bound(index: int) -> float:
        try:
            return math.pow(2.0, index * math.pow(2.0, -message.scale))
        except OverflowError:
            return sys.float_info.max

    negative, positive = message.negative, message.positive
    for index in range(min(len(negative.bucket_counts), _MAX_BUCKETS) - 1, -1, -1):
        if not bounds:
            bounds.append(-bound(negative.offset + index + 1))
            counts.append(0)
        bounds.append(-bound(negative.offset + index))
        counts.append(negative.bucket_counts[index])
    bounds.append(max(0.0, _finite(message.zero_threshold)))
    counts.append(message.zero_count)
    if positive.bucket_counts:
        bounds.append(bound(positive.offset))
        counts.append(0)
    for index, number in enumerate(positive.bucket_counts[:_MAX_BUCKETS]):
        bounds.append(bound(positive.offset + index + 1))
        counts.append(number)
    return bounds, [*counts, 0]
