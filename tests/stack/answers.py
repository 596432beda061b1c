"""Asking a running Prometheus, as Grafana and its rules do."""

from __future__ import annotations

import time
from collections.abc import Iterable

import httpx

PATIENCE_S = 150.0
"""How long data may take: a service's report, then the collector's batch, then the slowest group of rules."""


def without_data(prometheus: str, expressions: Iterable[str], *, expected: Iterable[str] = ()) -> set[str]:
    """The expressions that have no data, when all but the expected ones have, or after PATIENCE_S.

    Args:
        prometheus: The URL of a running Prometheus.
        expressions: PromQL.
        expected: Those of them that are not waited for.
    """
    waiting, patient_until = set(expressions), time.monotonic() + PATIENCE_S
    expected = set(expected)
    with httpx.Client(base_url=prometheus, trust_env=False, timeout=30) as client:
        while True:
            waiting = {expression for expression in waiting if not _has_data(client, expression)}
            if waiting <= expected or time.monotonic() > patient_until:
                return waiting
            time.sleep(1)


def _has_data(client: httpx.Client, expression: str) -> bool:
    answer = client.get("/api/v1/query", params={"query": expression})
    assert answer.is_success, f"{expression}: {answer.text}"
    return bool(answer.json()["data"]["result"])
