"""Instruments and their charts in a real Chromium."""

from __future__ import annotations

import time

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
    Summary,
    SummaryDataPoint,
)
from playwright.sync_api import Page, expect

from tests.browser.conftest import Viewer
from tests.observability.viewer.samples import gauge_request, span_id, text, trace_id

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
SECOND_NS = 10**9


def _request(metric: Metric) -> ExportMetricsServiceRequest:
    message = gauge_request("unused", 0)
    message.resource_metrics[0].scope_metrics[0].metrics[0].CopyFrom(metric)
    return message


def _ago(seconds: int) -> int:
    return time.time_ns() - seconds * SECOND_NS


def test_empty(viewer: Viewer, page: Page) -> None:
    """Without metrics the page says how to send some; an instrument appears by itself."""
    page.goto(f"{viewer.url}/metrics")
    expect(page.locator("#empty")).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={viewer.otlp_url}")
    viewer.send("metrics", gauge_request("queue.length", 3))
    expect(page.locator("#list a")).to_have_text(["queue.length"], timeout=10_000)
    expect(page.locator("#description")).to_have_text("How long it is. · gauge")


def test_counter(viewer: Viewer, page: Page) -> None:
    """A counter is drawn as its rate a second, each series as a line, also where its process began anew."""
    points = [
        NumberDataPoint(start_time_unix_nano=start, time_unix_nano=at, as_int=value, attributes=[text("kind", kind)])
        for kind, factor in (("read", 2), ("write", 1))
        for start, at, value in (
            (_ago(100), _ago(60), 0),
            (_ago(100), _ago(50), 100 * factor),
            (_ago(45), _ago(40), 20 * factor),
        )
    ]
    data = Sum(is_monotonic=True, aggregation_temporality=CUMULATIVE, data_points=points)
    viewer.send("metrics", _request(Metric(name="disk.io", unit="By", sum=data)))
    page.goto(f"{viewer.url}/metrics?service=orders&name=disk.io")
    expect(page.locator("#chart .series")).to_have_count(2)
    expect(page.locator("#legend li")).to_have_text(["4 B/skind=read", "2 B/skind=write"])


def test_histogram(viewer: Viewer, page: Page) -> None:
    """A histogram is a heat map; an exemplar's dot leads to its span."""
    points = [
        HistogramDataPoint(
            start_time_unix_nano=_ago(100),
            time_unix_nano=at,
            count=sum(counts),
            bucket_counts=counts,
            explicit_bounds=[0.1, 1],
            exemplars=[
                Exemplar(time_unix_nano=at, as_double=0.5, trace_id=trace_id(1), span_id=span_id(2)),
                Exemplar(time_unix_nano=at, as_double=0.4),
            ],
        )
        for at, counts in ((_ago(60), [0, 0, 0]), (_ago(50), [8, 2, 0]))
    ]
    data = Histogram(aggregation_temporality=CUMULATIVE, data_points=points)
    viewer.send("metrics", _request(Metric(name="lag", unit="s", histogram=data)))
    page.goto(f"{viewer.url}/metrics?last=5m")
    expect(page.locator("#chart .cell")).to_have_count(2)
    expect(page.locator("#legend")).to_contain_text("10 measurements; p50 62.5 ms, p95 775 ms")
    expect(page.locator("#chart .exemplar").first).to_have_attribute(
        "href", f"/trace/{trace_id(1).hex()}?span={span_id(2).hex()}"
    )


def test_summary(viewer: Viewer, page: Page) -> None:
    """The quantiles of a summary are lines."""
    quantiles = [SummaryDataPoint.ValueAtQuantile(quantile=share, value=share * 2) for share in (0.5, 1.0)]
    point = SummaryDataPoint(time_unix_nano=_ago(20), count=3, quantile_values=quantiles)
    viewer.send("metrics", _request(Metric(name="lag", unit="s", summary=Summary(data_points=[point]))))
    page.goto(f"{viewer.url}/metrics")
    expect(page.locator("#legend li")).to_have_text(["2 sall quantile 1", "1 sall quantile 0.5"])


def test_choosing(viewer: Viewer, page: Page) -> None:
    """Instruments are found by part of their name; the chosen one is part of the URL."""
    for name in ("queue.length", "queue.age", "memory"):
        viewer.send("metrics", gauge_request(name, 1))
    page.goto(f"{viewer.url}/metrics")
    expect(page.locator("#list a")).to_have_count(3)
    page.locator("#part").fill("QUEUE")
    expect(page.locator("#list a")).to_have_text(["queue.age", "queue.length"])
    page.locator("#list a").last.click()
    expect(page.locator("#name")).to_have_text("queue.length orders")
    expect(page).to_have_url(f"{viewer.url}/metrics?service=orders&name=queue.length")
    page.go_back()
    expect(page.locator("#name")).to_have_text("memory orders")


@pytest.mark.parametrize("width", [1280, 400])
def test_widths(viewer: Viewer, page: Page, width: int) -> None:
    """Names without end do not widen the page."""
    page.set_viewport_size({"width": width, "height": 800})
    viewer.send("metrics", gauge_request("W" * 250, 1))
    page.goto(f"{viewer.url}/metrics")
    expect(page.locator("#chart .plot")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
