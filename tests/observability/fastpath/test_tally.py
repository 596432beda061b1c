"""What is counted past the SDK."""

from __future__ import annotations

import threading

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, Sum

from observability.fastpath.destination import Signal
from observability.fastpath.tally import Tally


def _created(reader: InMemoryMetricReader) -> list[Metric]:
    data = reader.get_metrics_data()
    assert data is not None
    return [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "otel.sdk.log.created" and scope.scope.name == "opentelemetry-sdk"
    ]


def _value(metrics: list[Metric]) -> tuple[int | float, bool]:
    (metric,) = metrics
    assert (metric.unit, isinstance(metric.data, Sum)) == ("{log_record}", True)
    assert isinstance(metric.data, Sum)
    (point,) = metric.data.data_points
    assert not point.attributes
    return point.value, metric.data.is_monotonic


def test_created(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log records that came past the SDK are in its own counter when it is read, with those that it made itself."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    meter_provider = MeterProvider(readers, shutdown_on_exit=False)
    provider = LoggerProvider(meter_provider=meter_provider, shutdown_on_exit=False)
    tally = Tally(Signal.LOGS, "http://localhost:4318", meter_provider, capacity=1)
    tally.watch(lambda: 0, None)

    def create() -> None:
        for _ in range(1000):
            tally.created()

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    provider.get_logger("l").emit(LogRecord(body="x"))
    for thread in threads:
        thread.join()
    for _ in range(2):
        assert [_value(_created(reader)) for reader in readers] == [(4001, True)] * 2
    tally.created()
    assert [_value(_created(reader)) for reader in readers] == [(4002, True)] * 2


def test_nothing_created() -> None:
    """Where there was none, nothing is told; nor where the SDK does not report on itself."""
    reader = InMemoryMetricReader()
    meter_provider = MeterProvider([reader], shutdown_on_exit=False)
    Tally(Signal.LOGS, "http://localhost:4318", meter_provider, capacity=1).watch(lambda: 0, None)
    assert _created(reader) == []
    quiet = Tally(Signal.LOGS, "http://localhost:4318", NoOpMeterProvider(), capacity=1)
    quiet.watch(lambda: 0, None)
    quiet.created()
    assert _created(reader) == []
