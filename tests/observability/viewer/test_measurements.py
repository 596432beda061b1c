from __future__ import annotations

import json
import math

from observability.viewer.measurements import instrument_json, series_json
from observability.viewer.store.metrics import Exemplar, Instrument, Point, Series
from tests.observability.viewer.samples import span_id, trace_id


def test_instrument() -> None:
    """What a service measures, as it told it."""
    told = instrument_json(
        Instrument("orders", "queue", "{item}", "Items that wait.", "sum", monotonic=False, delta=True)
    )
    assert (told["unit"], told["type"], told["monotonic"], told["delta"]) == ("{item}", "sum", False, True)


def test_series() -> None:
    """A point with its exemplar, whose trace can be opened; numbers that JSON lacks are left out."""
    point = Point(
        2000,
        1000,
        None,
        3,
        math.inf,
        [1.0, math.inf],
        [1, 2, 0],
        [(0.5, math.nan)],
        [Exemplar(1500, 0.5, trace_id(1), span_id(2))],
    )
    told = series_json(Series({"route": "/"}, [point]))
    assert json.loads(json.dumps(told, allow_nan=False)) == {
        "attributes": {"route": "/"},
        "points": [
            {
                "time": 2,
                "start": 1,
                "value": None,
                "count": 3,
                "sum": None,
                "bounds": [1.0, None],
                "counts": [1, 2, 0],
                "quantiles": [[0.5, None]],
                "exemplars": [{"time": 1, "value": 0.5, "traceID": trace_id(1).hex(), "spanID": span_id(2).hex()}],
            }
        ],
    }
