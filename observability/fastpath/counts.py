"""How many spans were started and are live, in the metrics in which the SDK's tracers tell it.

They count each span as a measurement, at several times the cost of the span; here it is an integer, which is read when
metrics are collected. See https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.semconv._incubating.attributes.otel_attributes import (
    OTEL_SPAN_PARENT_ORIGIN,
    OTEL_SPAN_SAMPLING_RESULT,
)
from opentelemetry.semconv._incubating.metrics.otel_metrics import OTEL_SDK_SPAN_LIVE, OTEL_SDK_SPAN_STARTED

ORIGINS: Final = ("none", "local", "remote")
"""Where a parent may be; what `started` counts by, with each of the `RESULTS`."""

RESULTS: Final = ("DROP", "RECORD_AND_SAMPLE", "RECORD_ONLY")
"""What a sampler may say."""

DROPPED: Final = 0
SAMPLED: Final = 1
RECORDED: Final = 2


class SpanCounts:
    """Counts for the tracers of one provider.

    Whoever adds to a number makes no call in between, so that it needs no lock beside the GIL.

    Attributes:
        started: By origin, then by result: `started[len(RESULTS) * origin + result]`.
        ended: Those that were recorded: not sampled, sampled.
    """

    __slots__ = ("ended", "started")

    def __init__(self) -> None:
        self.started = [0] * (len(ORIGINS) * len(RESULTS))
        self.ended = [0, 0]

    def watch(self, meter_provider: MeterProvider) -> None:
        """Report them whenever metrics are collected."""
        meter = meter_provider.get_meter("opentelemetry-sdk")
        meter.create_observable_counter(
            OTEL_SDK_SPAN_STARTED, [self._observe_started], "{span}", "The number of created spans."
        )
        meter.create_observable_up_down_counter(
            OTEL_SDK_SPAN_LIVE,
            [self._observe_live],
            "{span}",
            "The number of created spans with `recording=true` for which the end operation has not been called yet.",
        )

    def _observe_started(self, _options: CallbackOptions) -> Iterable[Observation]:
        for index, number in enumerate(self.started):
            if number:
                origin, result = divmod(index, len(RESULTS))
                yield Observation(
                    number, {OTEL_SPAN_PARENT_ORIGIN: ORIGINS[origin], OTEL_SPAN_SAMPLING_RESULT: RESULTS[result]}
                )

    def _observe_live(self, _options: CallbackOptions) -> Iterable[Observation]:
        for result, ended in ((SAMPLED, self.ended[1]), (RECORDED, self.ended[0])):
            started = sum(self.started[result :: len(RESULTS)])
            if started:
                yield Observation(started - ended, {OTEL_SPAN_SAMPLING_RESULT: RESULTS[result]})
