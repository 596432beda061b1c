"""Which queries have no data in a healthy pipeline, and why: by what stands in them."""

from __future__ import annotations

import re

NEVER = {
    r"clearspan_client_hedges_total": "no dependency of the shop asks for hedges",
    r"clearspan_cache_evictions_total": "memory has room for more kinds of goods than there are",
    r"clearspan_event_dead_letters_total|service:dead_letters": "no event of the shop is refused for good",
    r"otelcol_exporter_enqueue_failed_": "a queue on the disk never fills here",
    r"otelcol_processor_tail_sampling_traces_dropped_too_large": "no trace of the shop has 4 MiB",
    r"otel_sdk_processor_\w+_processed_total\{error_type": "no queue of an SDK overflows here",
}
"""A query with data is struck from this list."""

SOMETIMES = {
    r"clearspan_bulkhead_wait_seconds": "calls wait for a place only under load",
    r"clearspan_cache_store_errors_total": "Redis, if there is one, fails only if somebody stops it",
    r"messaging_client_sent_messages_total\{.*error_type!=": "NATS refuses no event unless somebody stops it",
    r"otelcol_exporter_send_failed_": "a receiver refuses for good only if it is no receiver",
    r"otel_sdk_exporter_\w+_exported_total\{error_type!=": "the collector is away only if somebody stops it",
    r'telemetry:lost:increase5m\{where="(sdk|collector)"': "nothing is lost while all is well",
}
"""A query may have data, if other tests have made such trouble before."""


def never(expression: str) -> bool:
    """Whether an expression must have no data."""
    return any(re.search(pattern, expression) for pattern in NEVER) and "or vector(0)" not in expression


def sometimes(expression: str) -> bool:
    """Whether an expression may have no data."""
    return any(re.search(pattern, expression) for pattern in SOMETIMES)
