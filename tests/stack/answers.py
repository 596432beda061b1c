"""Asking a running Prometheus or Loki until it has data, as Grafana and the rules do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import httpx

from tests.stack.log_lines import lines

PATIENCE_S = 150.0
"""How long data may take: a service's report, then the collector's batch, then the slowest group of rules."""


def without_data(prometheus: str, expressions: Iterable[str], *, expected: Iterable[str] = ()) -> set[str]:
    """The expressions that have no data, when all but the expected ones have, or after PATIENCE_S.

    Args:
        prometheus: The URL of a running Prometheus.
        expressions: PromQL.
        expected: Those of them that are not waited for.
    """
    with httpx.Client(base_url=prometheus, trust_env=False, timeout=30) as client:
        return _empty(lambda expression: _has_data(client, expression), expressions, expected)


def without_lines(loki: str, expressions: Iterable[str], *, expected: Iterable[str] = ()) -> set[str]:
    """The same of Loki's log lines.

    Args:
        loki: The URL of a running Loki.
        expressions: LogQL that chooses lines.
        expected: Those of them that are not waited for.
    """
    return _empty(lambda expression: bool(lines(loki, expression)), expressions, expected)


def _empty(has_data: Callable[[str], bool], expressions: Iterable[str], expected: Iterable[str]) -> set[str]:
    waiting, patient_until = set(expressions), time.monotonic() + PATIENCE_S
    expected = set(expected)
    while True:
        waiting = {expression for expression in waiting if not has_data(expression)}
        if waiting <= expected or time.monotonic() > patient_until:
            return waiting
        time.sleep(1)


def _has_data(client: httpx.Client, expression: str) -> bool:
    answer = client.get("/api/v1/query", params={"query": expression})
    assert answer.is_success, f"{expression}: {answer.text}"
    return bool(answer.json()["data"]["result"])
