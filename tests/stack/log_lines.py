"""Log lines of a running Loki, asked for as Grafana asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx

LIMIT = 5000
"""More lines Loki gives to nobody."""


@dataclass(frozen=True)
class Line:
    """A log line, with its labels and its structured metadata, which LogQL takes alike."""

    text: str
    labels: Mapping[str, str]


def lines(loki: str, expression: str) -> list[Line]:
    """The lines of the last hour that an expression finds.

    Args:
        loki: The URL of a running Loki.
        expression: LogQL that chooses lines.
    """
    answer = httpx.get(
        f"{loki}/loki/api/v1/query_range",
        params={"query": expression, "since": "1h", "limit": LIMIT},
        timeout=30,
        trust_env=False,
    )
    assert answer.is_success, f"{expression}: {answer.text}"
    data = answer.json()["data"]
    assert data["resultType"] == "streams", expression
    return [Line(text, stream["stream"]) for stream in data["result"] for _, text in stream["values"]]
