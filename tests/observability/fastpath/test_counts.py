"""Started and live spans: the same metrics as the SDK's tracers give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Counter, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, StaticSampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from tests.observability.fastpath.pairs import both_providers

SAMPLER = ParentBased(
    StaticSampler(Decision.RECORD_AND_SAMPLE),
    remote_parent_sampled=StaticSampler(Decision.RECORD_ONLY),
    remote_parent_not_sampled=StaticSampler(Decision.DROP),
)


def _told(reader: InMemoryMetricReader) -> list[dict[str, Any]]:
    data = reader.get_metrics_data()
    if data is None:
        return []
    return [
        {
            **{key: metric[key] for key in ("name", "unit", "description")},
            **{key: metric["data"][key] for key in ("aggregation_temporality", "is_monotonic")},
            "points": sorted(
                (sorted(point["attributes"].items()), point["value"]) for point in metric["data"]["data_points"]
            ),
        }
        for resource in json.loads(data.to_json())["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
        if metric["name"].startswith("otel.sdk.span.")
    ]


def _play(provider: TracerProvider) -> None:
    one, other = provider.get_tracer("a"), provider.get_tracer("b")
    for flags in (0, 1, 1):
        remote = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(flags))
        one.start_span("a", set_span_in_context(NonRecordingSpan(remote), Context()))
    root = one.start_span("b", Context())
    child = other.start_span("c", set_span_in_context(root, Context()))
    child.end()
    child.end()
    root.end()


def _both(
    preferred: Mapping[type, AggregationTemporality], sampler: Sampler = SAMPLER
) -> tuple[list[TracerProvider], list[InMemoryMetricReader]]:
    readers = [InMemoryMetricReader(dict(preferred)) for _ in range(2)]
    meter_providers = [MeterProvider([reader], shutdown_on_exit=False) for reader in readers]
    return list(both_providers(sampler=sampler, meter_providers=meter_providers)), readers


@pytest.fixture(autouse=True)
def _reporting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")


@pytest.mark.parametrize(
    "preferred", [{}, {Counter: AggregationTemporality.DELTA, ObservableCounter: AggregationTemporality.DELTA}]
)
def test_parity(preferred: Mapping[type, AggregationTemporality]) -> None:
    """Names, units, attributes and numbers are the same, cumulative and as differences."""
    providers, readers = _both(preferred)
    told = []
    for provider, reader in zip(providers, readers, strict=True):
        before = _told(reader)
        _play(provider)
        first = _told(reader)
        _play(provider)
        told.append((before, first, _told(reader)))
    assert told[0] == told[1]
    assert [metric["name"] for metric in told[1][2]] == ["otel.sdk.span.started", "otel.sdk.span.live"]


def test_what_runs_is_live() -> None:
    """A span is live until it ends, however often that is told."""
    providers, readers = _both({}, StaticSampler(Decision.RECORD_AND_SAMPLE))
    span = providers[1].get_tracer("t").start_span("a")
    running = _told(readers[1])[1]["points"]
    span.end()
    span.end()
    attributes = [["otel.span.sampling_result", "RECORD_AND_SAMPLE"]]
    assert (json.loads(json.dumps(running)), json.loads(json.dumps(_told(readers[1])[1]["points"]))) == (
        [[attributes, 1]],
        [[attributes, 0]],
    )


@pytest.mark.parametrize("enabled", ["", "false", "no"])
def test_not_asked_for(monkeypatch: pytest.MonkeyPatch, enabled: str) -> None:
    """They are told only where the SDK reports on itself."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", enabled)
    providers, readers = _both({})
    for provider in providers:
        _play(provider)
    assert [_told(reader) for reader in readers] == [[], []]
