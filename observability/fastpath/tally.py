"""What becomes of spans and log records, in the metrics in which the SDK tells it of its own processors and exporters.

See https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.metrics import CallbackOptions, Counter, MeterProvider, Observation
from opentelemetry.semconv._incubating.attributes.otel_attributes import (
    OTEL_COMPONENT_NAME,
    OTEL_COMPONENT_TYPE,
    OtelComponentTypeValues,
)
from opentelemetry.semconv._incubating.metrics import otel_metrics
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT

from observability.fastpath.destination import Signal
from observability.telemetry import SPOOLED

QUEUE_FULL: Final = "queue_full"
"""Dropped, since all that the buffer may hold waits to be sent."""

ALREADY_SHUTDOWN: Final = "already_shutdown"
"""Dropped, since it came after the shutdown."""

NOT_ENCODED: Final = "not_encoded"
"""Dropped, since OTLP has no form for it."""

REJECTED: Final = "rejected"
"""Sent, and refused by the receiver, which took others of the same request."""

_PORTS = {"http": 80, "https": 443}


class Tally:
    """Counts for one processor and its exporter, which the fast path is in one.

    Attributes:
        created: To be called for each log record that came past the SDK, which counts those it makes itself. That is
            told when metrics are collected, since the SDK takes as long to count one as it takes to encode it.
    """

    def __init__(self, signal: Signal, url: str, meter_provider: MeterProvider, *, capacity: int) -> None:
        """Make the instruments, which have the names and the attributes of the SDK's own.

        Args:
            signal: What is counted.
            url: Where it is sent.
            meter_provider: Makes the meter.
            capacity: How many may wait.
        """
        self._meter = meter = meter_provider.get_meter("opentelemetry-sdk")
        address = urlsplit(url)
        if signal is Signal.TRACES:
            self._created: Counter | None = None
            self._queue_size = (
                otel_metrics.OTEL_SDK_PROCESSOR_SPAN_QUEUE_SIZE,
                "{span}",
                "The number of spans in the queue of a given instance of an SDK span processor.",
            )
            self._processed = otel_metrics.create_otel_sdk_processor_span_processed(meter)
            self._exported = otel_metrics.create_otel_sdk_exporter_span_exported(meter)
            self._inflight = otel_metrics.create_otel_sdk_exporter_span_inflight(meter)
            queue_capacity = otel_metrics.create_otel_sdk_processor_span_queue_capacity(meter)
            processor = OtelComponentTypeValues.BATCHING_SPAN_PROCESSOR.value
            exporter = OtelComponentTypeValues.OTLP_HTTP_SPAN_EXPORTER.value
        else:
            self._queue_size = (
                otel_metrics.OTEL_SDK_PROCESSOR_LOG_QUEUE_SIZE,
                "{log}",
                "The number of logs in the queue of a given instance of an SDK log processor.",
            )
            self._processed = otel_metrics.create_otel_sdk_processor_log_processed(meter)
            self._exported = otel_metrics.create_otel_sdk_exporter_log_exported(meter)
            self._inflight = otel_metrics.create_otel_sdk_exporter_log_inflight(meter)
            queue_capacity = otel_metrics.create_otel_sdk_processor_log_queue_capacity(meter)
            processor = OtelComponentTypeValues.BATCHING_LOG_PROCESSOR.value
            exporter = OtelComponentTypeValues.OTLP_HTTP_LOG_EXPORTER.value
            self._created = otel_metrics.create_otel_sdk_log_created(meter)
        self._numbers = itertools.count()
        self.created: Callable[[], object] = self._numbers.__next__
        self._looks = self._told = 0
        self._duration = otel_metrics.create_otel_sdk_exporter_operation_duration(meter)
        self._processor = {OTEL_COMPONENT_TYPE: processor, OTEL_COMPONENT_NAME: f"{processor}/fastpath"}
        self._exporter: dict[str, str | int] = {
            OTEL_COMPONENT_TYPE: exporter,
            OTEL_COMPONENT_NAME: f"{exporter}/fastpath",
            SERVER_ADDRESS: address.hostname or "",
            SERVER_PORT: address.port or _PORTS.get(address.scheme, 0),
        }
        queue_capacity.add(capacity, self._processor)

    def watch(self, waiting: Callable[[], int], spooled: Callable[[], int] | None) -> None:
        """Report how many wait in memory, and on disk where that is used, whenever metrics are collected."""

        def observe(_options: CallbackOptions) -> list[Observation]:
            self._tell_created()
            return [Observation(waiting(), self._processor)]

        name, unit, description = self._queue_size
        self._meter.create_observable_up_down_counter(name, [observe], unit, description)
        if spooled is not None:
            count = spooled

            def observe_spool(_options: CallbackOptions) -> list[Observation]:
                return [Observation(count(), self._exporter)]

            self._meter.create_observable_up_down_counter(
                SPOOLED.name, [observe_spool], SPOOLED.unit, SPOOLED.description
            )

    def dropped(self, number: int, reason: str) -> None:
        """Some never came to be sent."""
        self._processed.add(number, {**self._processor, ERROR_TYPE: reason})

    def sending(self, number: int) -> None:
        """Some are about to be sent."""
        self._processed.add(number, self._processor)
        self._inflight.add(number, self._exporter)

    def stored(self, number: int) -> None:
        """They are not sent now, but wait on disk."""
        self._inflight.add(-number, self._exporter)

    def resumed(self, number: int) -> None:
        """Those that waited on disk came to be sent."""
        self._inflight.add(number, self._exporter)

    def sent(self, number: int, rejected: int, error: str | None, seconds: float) -> None:
        """They were sent, or given up.

        Args:
            number: How many they were.
            rejected: How many of them the receiver did not want.
            error: Why they were given up.
            seconds: How long that took, with all attempts.
        """
        self._inflight.add(-number, self._exporter)
        failed = {**self._exporter, ERROR_TYPE: error} if error else self._exporter
        if number > rejected:
            self._exported.add(number - rejected, failed)
        if rejected:
            self._exported.add(rejected, {**self._exporter, ERROR_TYPE: REJECTED})
        self._duration.record(seconds, failed)

    def _tell_created(self) -> None:
        created = next(self._numbers) - self._looks
        self._looks += 1
        if self._created is not None and created > self._told:
            self._created.add(created - self._told)
            self._told = created
