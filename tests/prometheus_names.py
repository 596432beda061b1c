"""How Prometheus names what comes by OTLP, with the translation strategy UnderscoreEscapingWithSuffixes.

https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#otlp-metric-points-to-prometheus, as
github.com/prometheus/otlptranslator does it: words of the name, its unit if it is not among them, a suffix of its kind.
"""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["counter", "up_down_counter", "gauge", "histogram"]

_UNITS = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "1": "", "%": "percent"}
"""Of the units that the translator knows, those that are in use here."""


def series_names(name: str, unit: str, kind: Kind) -> list[str]:
    """The names of a metric's series."""
    words = [word for word in re.split(r"[^a-zA-Z0-9:]", name) if word]
    assert "/" not in unit, "a rate as a unit: translate it here first"
    suffix = "" if "{" in unit else _UNITS.get(unit, re.sub(r"\W", "", unit))
    if suffix and suffix not in words:
        words.append(suffix)
    if kind == "counter":
        words = [word for word in words if word != "total"] + ["total"]
    if kind == "gauge" and unit == "1":
        words = [word for word in words if word != "ratio"] + ["ratio"]
    series = "_".join(words)
    return [f"{series}_bucket", f"{series}_count", f"{series}_sum"] if kind == "histogram" else [series]


def label_name(attribute: str) -> str:
    """The label of an attribute."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", attribute)
