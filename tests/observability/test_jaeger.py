"""Traces of Jaeger's API as spans."""

from __future__ import annotations

from typing import Any

import pytest

from observability.jaeger import spans_of

PARENT, LINKED, TRACE = "a" * 16, "b" * 16, "1" * 32


def _trace(*references: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "spans": [
            {
                "traceID": TRACE,
                "spanID": "c" * 16,
                "operationName": "process order.placed",
                "references": [{"refType": kind, "traceID": trace, "spanID": span} for kind, trace, span in references],
                "startTime": 1,
                "tags": [],
                "processID": "p1",
            }
        ],
        "processes": {"p1": {"serviceName": "shipping", "tags": []}},
    }


@pytest.mark.parametrize(
    ("references", "parent"),
    [
        ([], None),
        ([("CHILD_OF", TRACE, PARENT)], PARENT),
        ([("FOLLOWS_FROM", TRACE, LINKED), ("CHILD_OF", TRACE, PARENT)], PARENT),
        # Jaeger tells a parent that is linked to once, as the link.
        ([("FOLLOWS_FROM", TRACE, PARENT)], PARENT),
        ([("FOLLOWS_FROM", "2" * 32, LINKED)], None),
    ],
)
def test_parent(references: list[tuple[str, str, str]], parent: str | None) -> None:
    """A span's parent is what Jaeger takes for it."""
    (span,) = spans_of(_trace(*references))
    assert span.parent_id == (int(parent, 16) if parent else None)
