"""Senders as the standard variables ask for them.

`OTEL_BSP_*` for spans and `OTEL_BLRP_*` for log records: `SCHEDULE_DELAY` and `MAX_EXPORT_BATCH_SIZE` mean what they
mean to the SDK, and so does `MAX_QUEUE_SIZE` where it is set, beside the bound in bytes. `EXPORT_TIMEOUT` means
nothing, as it does to the SDK. `OTEL_EXPORTER_OTLP_TIMEOUT` bounds one request, and not all attempts together.
`CLEARSPAN_SPOOL` names a folder where requests wait that the receiver does not take.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from opentelemetry.metrics import MeterProvider, NoOpMeterProvider

from observability.fastpath.destination import Destination, Signal
from observability.fastpath.sender import Sender
from observability.fastpath.spool import MAX_SPOOL_BYTES, Spool
from observability.fastpath.tally import Tally

MAX_ENTRIES: Final = 65_536
"""How many are held unless a variable says how many; by then the bound in bytes is reached almost always."""

MAX_BATCH: Final = 512
DELAY_MS: Final = {Signal.TRACES: 5000, Signal.LOGS: 1000}

SENDING_SHARE: Final = 0.8
"""Of the time to end: what was not sent by then is told within the rest."""

_PREFIX = {Signal.TRACES: "OTEL_BSP", Signal.LOGS: "OTEL_BLRP"}

_logger = logging.getLogger(__name__)


def sender_from_environment(signal: Signal, meter_provider: MeterProvider, *, close_timeout_s: float) -> Sender | None:
    """Start a sender, or give None where the variables ask for what it does not cover (see `Destination`).

    Args:
        signal: What it sends.
        meter_provider: For its own metrics, unless `OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED` is not true.
        close_timeout_s: How long it may take to end, in seconds.

    Raises:
        ValueError: Variables contradict each other, or have a number that is not above zero.
    """
    destination = Destination.from_environment(signal)
    if destination is None:
        return None
    prefix = _PREFIX[signal]
    max_entries = _number(f"{prefix}_MAX_QUEUE_SIZE", MAX_ENTRIES)
    max_batch = _number(f"{prefix}_MAX_EXPORT_BATCH_SIZE", MAX_BATCH)
    delay_ms = _number(f"{prefix}_SCHEDULE_DELAY", DELAY_MS[signal])
    if max_batch > max_entries:
        raise ValueError(f"{prefix}_MAX_EXPORT_BATCH_SIZE must not be greater than {prefix}_MAX_QUEUE_SIZE")
    reports = os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() == "true"
    return Sender(
        destination,
        Tally(signal, destination.url, meter_provider if reports else NoOpMeterProvider(), capacity=max_entries),
        delay_s=delay_ms / 1000,
        max_batch=max_batch,
        max_entries=max_entries,
        close_timeout_s=SENDING_SHARE * close_timeout_s,
        spool=_spool(signal),
    )


def _spool(signal: Signal) -> Spool | None:
    folder = os.environ.get("CLEARSPAN_SPOOL")
    if not folder:
        return None
    max_bytes = _number("CLEARSPAN_SPOOL_MAX_BYTES", MAX_SPOOL_BYTES)
    try:
        return Spool(Path(folder) / signal.value, max_bytes=max_bytes)
    except OSError as error:
        raise ValueError(f"CLEARSPAN_SPOOL={folder!r} cannot be written to: {error.strerror}") from error


def _number(variable: str, default: int) -> int:
    try:
        number = int(os.environ.get(variable, default))
    except ValueError:
        _logger.warning("%s is no number: %s is used", variable, default)
        return default
    if number <= 0:
        raise ValueError(f"{variable} must be above zero")
    return number
