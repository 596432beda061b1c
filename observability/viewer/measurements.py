"""Instruments and their points, as the page of metrics draws them. Times are microseconds since 1970."""

from __future__ import annotations

import math
from typing import Any

from observability.viewer.store.metrics import Instrument, Point, Series


def instrument_json(instrument: Instrument) -> dict[str, Any]:
    """What a service measures."""
    return {
        "service": instrument.service,
        "name": instrument.name,
        "unit": instrument.unit,
        "description": instrument.description,
        "type": instrument.type,
        "monotonic": instrument.monotonic,
        "delta": instrument.delta,
    }


def series_json(series: Series) -> dict[str, Any]:
    """One line of a chart."""
    return {"attributes": series.attributes, "points": [_point_json(point) for point in series.points]}


def _point_json(point: Point) -> dict[str, Any]:
    return {
        "time": point.time_ns // 1000,
        "start": point.start_ns // 1000,
        "value": _number(point.value),
        "count": point.count,
        "sum": _number(point.sum),
        "bounds": [_number(bound) for bound in point.bounds],
        "counts": point.counts,
        "quantiles": [[_number(share), _number(value)] for share, value in point.quantiles],
        "exemplars": [
            {
                "time": one.time_ns // 1000,
                "value": _number(one.value),
                "traceID": one.trace_id.hex(),
                "spanID": one.span_id.hex(),
            }
            for one in point.exemplars
        ],
    }


def _number(value: float | None) -> float | None:
    """JSON has no infinity and no NaN."""
    return value if value is not None and math.isfinite(value) else None
