"""The three OpenTelemetry providers of one service: built, flushed and closed together.

With `observability.export` this is the kit's only door to the SDK: everything else speaks the OpenTelemetry API and is
handed a `Telemetry`.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self, TypeVar

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    ConsoleLogRecordExporter,
    LogRecordExporter,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler

from observability.export import ScrubbingLogExporter, ScrubbingSpanExporter
from observability.logs import Shortcut, configure_logging
from observability.scrub import MAX_TEXT, scrub_attributes
from observability.unfinished import UnfinishedSpans

if TYPE_CHECKING:
    from observability.fastpath.processors import EncodingLogProcessor, EncodingSpanProcessor

CLOSE_TIMEOUT_S = 5.0

_STABLE_CONVENTIONS = ("http", "database")

_Exporter = TypeVar("_Exporter")
_Word = TypeVar("_Word", bound=str)

logger = logging.getLogger(__name__)


class TelemetryError(Exception):
    """Telemetry cannot be set up as asked; the message says which variable or call to change."""


class Telemetry:
    """The tracer, meter and logger provider of one service.

    Build it with `from_environment` in a program and with `build` in a test. It belongs to one service; several may
    live in one process, as they do in tests.

    Attributes:
        tracer_provider: Makes the service's tracers.
        meter_provider: Makes the service's meters.
        logger_provider: Makes the service's OpenTelemetry loggers.
        fast: Whether requests and calls may take the fast path (`observability.fastpath`) where it covers them.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider,
        meter_provider: MeterProvider,
        logger_provider: LoggerProvider,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
        sent_all: Sequence[Callable[[], bool]] = (),
        *,
        fast: bool = True,
    ) -> None:
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.logger_provider = logger_provider
        self.fast = fast
        self._close_timeout_s = close_timeout_s
        self._sent_all = sent_all
        self._closing = threading.Lock()
        self._closed: bool | None = None

    @property
    def service_name(self) -> str:
        """The resource's `service.name`."""
        return str(self.tracer_provider.resource.attributes["service.name"])

    @classmethod
    def from_environment(cls, service_name: str) -> Self:
        """Build what the standard `OTEL_*` variables ask for and make it the process's global telemetry.

        Defaults are the specification's, except that OTLP goes over http/protobuf (the Python SDK defaults to gRPC),
        that the HTTP and database semantic conventions are the stable ones, that the SDK reports on itself, and that a
        string attribute has at most 16 Ki characters, so that the queues are bounded in bytes too.
        The root logger is configured too (`CLEARSPAN_LOG_FORMAT` json or pretty, `CLEARSPAN_LOG_LEVEL`), and
        `CLEARSPAN_CLOSE_TIMEOUT` bounds `close`, in seconds. What goes to OTLP over http/protobuf takes the fast path
        (`observability.fastpath`) unless `CLEARSPAN_FASTPATH=off`. With `CLEARSPAN_UNFINISHED_SPANS=true` the receiver
        of logs is told of spans that still run (`observability.unfinished`): for where that is Clearspan's viewer.
        See https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.

        Args:
            service_name: `service.name`, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` names one.

        Raises:
            TelemetryError: A variable has a value that is not supported, or the process has SDK providers already.
        """
        _refuse_foreign_providers()
        _choose_stable_conventions()
        os.environ.setdefault("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
        os.environ.setdefault("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", str(MAX_TEXT))
        try:
            return cls._from_environment(service_name)
        except ValueError as error:
            raise TelemetryError(f"telemetry cannot be set up; look at the OTEL_ variables: {error}") from error

    @classmethod
    def _from_environment(cls, service_name: str) -> Self:
        resource = _resource(service_name)
        close_timeout_s = _seconds("CLEARSPAN_CLOSE_TIMEOUT", CLOSE_TIMEOUT_S)
        readers = [PeriodicExportingMetricReader(make()) for _, make in _exporters("metrics", _METRIC_EXPORTERS)]
        meter_provider = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
        fast = _choice("CLEARSPAN_FASTPATH", "on", "off") != "off"
        tracer_provider = (_lean_spans(resource, meter_provider) if fast else None) or TracerProvider(
            resource=resource, shutdown_on_exit=False, meter_provider=meter_provider
        )
        sent_all: list[Callable[[], bool]] = []
        for name, make_span_exporter in _exporters("traces", _SPAN_EXPORTERS):
            span_processor = _fast_spans(meter_provider, close_timeout_s) if fast and name == "otlp" else None
            if span_processor is not None:
                sent_all.append(span_processor.sent_all)
            tracer_provider.add_span_processor(
                span_processor
                or BatchSpanProcessor(ScrubbingSpanExporter(make_span_exporter()), meter_provider=meter_provider)
            )
        if _choice("CLEARSPAN_UNFINISHED_SPANS", "true", "false") == "true" and "otlp" in _exporter_names("traces"):
            # Behind the others: what has ended is sent first at the end.
            tracer_provider.add_span_processor(UnfinishedSpans(ScrubbingLogExporter(_otlp_log_exporter())))
        logger_provider = LoggerProvider(resource=resource, shutdown_on_exit=False, meter_provider=meter_provider)
        for name, make_log_exporter in _exporters("logs", _LOG_EXPORTERS):
            log_processor = _fast_logs(meter_provider, close_timeout_s) if fast and name == "otlp" else None
            if log_processor is not None:
                sent_all.append(log_processor.sent_all)
            logger_provider.add_log_record_processor(
                log_processor
                or BatchLogRecordProcessor(ScrubbingLogExporter(make_log_exporter()), meter_provider=meter_provider)
            )
        trace.set_tracer_provider(tracer_provider)
        metrics.set_meter_provider(meter_provider)
        _logs.set_logger_provider(logger_provider)
        telemetry = cls(tracer_provider, meter_provider, logger_provider, close_timeout_s, sent_all, fast=fast)
        configure_logging(
            telemetry.service_name,
            logger_provider,
            format=_choice("CLEARSPAN_LOG_FORMAT", "json", "pretty"),
            level=_choice("CLEARSPAN_LOG_LEVEL", "INFO", "DEBUG", "WARNING", "ERROR") or "INFO",
            shortcut=_shortcut(logger_provider) if fast else None,
        )
        return telemetry

    @classmethod
    def build(
        cls,
        service_name: str,
        *,
        span_processors: Iterable[SpanProcessor] = (),
        metric_readers: Sequence[MetricReader] = (),
        log_processors: Iterable[LogRecordProcessor] = (),
        sampler: Sampler | None = None,
        id_generator: IdGenerator | None = None,
        fast: bool = True,
    ) -> Self:
        """Build providers from given parts, without touching the process's globals.

        Args:
            service_name: The resource's `service.name`.
            span_processors: Where ended spans go.
            metric_readers: Who collects metrics.
            log_processors: Where log records go.
            sampler: Defaults to `OTEL_TRACES_SAMPLER`, else to the parent's decision and all roots.
            id_generator: Defaults to random ids.
            fast: Whether requests and calls may take the fast path.
        """
        _choose_stable_conventions()
        resource = Resource({"service.name": service_name, "service.instance.id": str(uuid.uuid4())})
        meter_provider = MeterProvider(metric_readers=metric_readers, resource=resource, shutdown_on_exit=False)
        tracer_provider = TracerProvider(
            sampler=sampler,
            resource=resource,
            shutdown_on_exit=False,
            id_generator=id_generator,
            meter_provider=meter_provider,
        )
        for span_processor in span_processors:
            tracer_provider.add_span_processor(span_processor)
        logger_provider = LoggerProvider(resource=resource, shutdown_on_exit=False, meter_provider=meter_provider)
        for log_processor in log_processors:
            logger_provider.add_log_record_processor(log_processor)
        return cls(tracer_provider, meter_provider, logger_provider, fast=fast)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Export what is buffered. Blocks, so never call it on a request's path.

        Args:
            timeout_s: Bound for all three signals together, in seconds.

        Returns:
            Whether all three were done in time.
        """
        return _all_within(
            timeout_s,
            [
                self.tracer_provider.force_flush,
                self.meter_provider.force_flush,
                self.logger_provider.force_flush,
            ],
        )

    def close(self, timeout_s: float | None = None) -> bool:
        """Flush and shut down all three signals; blocks at most `timeout_s`. Closing again does nothing.

        The SDK's own shutdown waits up to 30 s a signal for an exporter that retries (opentelemetry-python#4638);
        here the three run side by side and are left behind, as daemon threads, when the time is over.

        Args:
            timeout_s: Bound for all three signals together, in seconds; by default the one it was made with, 5.

        Returns:
            Whether all three were done in time.
        """
        timeout_s = timeout_s if timeout_s is not None else self._close_timeout_s
        with self._closing:
            if self._closed is None:
                self._closed = _all_within(
                    timeout_s,
                    [self.tracer_provider.shutdown, self.meter_provider.shutdown, self.logger_provider.shutdown],
                ) and all(sent_all() for sent_all in self._sent_all)
            return self._closed


def _refuse_foreign_providers() -> None:
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        raise TelemetryError(
            "this process already has OpenTelemetry providers (opentelemetry-instrument, or a second set-up), which "
            "would export everything twice: remove one of the two"
        )


def _choose_stable_conventions() -> None:
    """Ask the contrib instrumentors for the stable HTTP and database conventions; `.../dup` of a user stays."""
    chosen = [item.strip() for item in os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",") if item.strip()]
    missing = [name for name in _STABLE_CONVENTIONS if not {name, f"{name}/dup"} & set(chosen)]
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = ",".join(chosen + missing)


def _resource(service_name: str) -> Resource:
    # Resource.create reads OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and OTEL_EXPERIMENTAL_RESOURCE_DETECTORS.
    resource = Resource.create()
    own: dict[str, str] = {}
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        own["service.name"] = service_name
    if "service.instance.id" not in resource.attributes:
        own["service.instance.id"] = str(uuid.uuid4())
    # A detector may have put the command line with its arguments here.
    return Resource(scrub_attributes(resource.merge(Resource(own)).attributes)[0])


def _choice(variable: str, *allowed: _Word) -> _Word | None:
    value = os.environ.get(variable)
    if not value:
        return None
    for word in allowed:
        if value == word:
            return word
    raise TelemetryError(f"{variable}={value!r} is not supported: use {', '.join(allowed)}")


def _seconds(variable: str, default: float) -> float:
    try:
        seconds = float(os.environ.get(variable) or default)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise TelemetryError(f"{variable}={os.environ[variable]!r} is not supported: use a number of seconds")
    return seconds


def _otlp_over_http(signal: str) -> bool:
    protocol = (
        os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    ).strip()
    if protocol not in ("http/protobuf", "grpc"):
        raise TelemetryError(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol!r} is not supported: use http/protobuf or grpc")
    return protocol == "http/protobuf"


# The OTLP exporters are imported when one is asked for: gRPC costs more to import than all the rest of the SDK.


def _otlp_span_exporter() -> SpanExporter:
    if _otlp_over_http("traces"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter

    return GrpcSpanExporter()


def _otlp_metric_exporter() -> MetricExporter:
    if _otlp_over_http("metrics"):
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter()
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter

    return GrpcMetricExporter()


def _otlp_log_exporter() -> LogRecordExporter:
    if _otlp_over_http("logs"):
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

        return OTLPLogExporter()
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter

    return GrpcLogExporter()


_SPAN_EXPORTERS: dict[str, Callable[[], SpanExporter]] = {"otlp": _otlp_span_exporter, "console": ConsoleSpanExporter}
_METRIC_EXPORTERS: dict[str, Callable[[], MetricExporter]] = {
    "otlp": _otlp_metric_exporter,
    "console": ConsoleMetricExporter,
}
_LOG_EXPORTERS: dict[str, Callable[[], LogRecordExporter]] = {
    "otlp": _otlp_log_exporter,
    "console": ConsoleLogRecordExporter,
}


def _exporter_names(signal: str) -> list[str]:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    names = [name.strip() for name in (os.environ.get(f"OTEL_{signal.upper()}_EXPORTER") or "otlp").split(",")]
    return [] if names == ["none"] else names


def _exporters(signal: str, known: Mapping[str, Callable[[], _Exporter]]) -> list[tuple[str, Callable[[], _Exporter]]]:
    names = _exporter_names(signal)
    unknown = [name for name in names if name not in known]
    if unknown:
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        raise TelemetryError(f"{variable}={unknown[0]!r} is not supported: use {', '.join(known)} or none")
    return [(name, known[name]) for name in names]


# The fast path and requests, which it sends with, are imported when they are asked for too.


def _lean_spans(resource: Resource, meter_provider: MeterProvider) -> TracerProvider | None:
    """A provider of spans that cost a fraction; None where the SDK is not what they rely on."""
    from observability.fastpath.compatibility import lean_spans_fit
    from observability.fastpath.tracer import LeanTracerProvider

    if not lean_spans_fit():
        return None
    return LeanTracerProvider(resource=resource, meter_provider=meter_provider)


def _fast_spans(meter_provider: MeterProvider, close_timeout_s: float) -> EncodingSpanProcessor | None:
    """What encodes spans as they end; None where it does not cover what the variables ask for."""
    if not _otlp_over_http("traces"):
        return None
    from observability.fastpath.destination import Signal
    from observability.fastpath.environment import sender_from_environment
    from observability.fastpath.processors import EncodingSpanProcessor

    sender = sender_from_environment(Signal.TRACES, meter_provider, close_timeout_s=close_timeout_s)
    return EncodingSpanProcessor(sender) if sender is not None else None


def _fast_logs(meter_provider: MeterProvider, close_timeout_s: float) -> EncodingLogProcessor | None:
    """What encodes log records as they are emitted; None where it does not cover what the variables ask for."""
    if not _otlp_over_http("logs"):
        return None
    from observability.fastpath.destination import Signal
    from observability.fastpath.environment import sender_from_environment
    from observability.fastpath.processors import EncodingLogProcessor

    sender = sender_from_environment(Signal.LOGS, meter_provider, close_timeout_s=close_timeout_s)
    return EncodingLogProcessor(sender) if sender is not None else None


def _shortcut(logger_provider: LoggerProvider) -> Shortcut | None:
    """What exports plain log records past the provider; None where somebody else gets them, too."""
    if "otlp" not in _exporter_names("logs") or not _otlp_over_http("logs"):
        return None
    try:
        from observability.fastpath.records import Records
    except ImportError:  # it knows parts of the SDK that another version may have elsewhere
        return None
    records = Records.of(logger_provider)
    return records.add if records is not None else None


def _all_within(timeout_s: float, calls: Sequence[Callable[[], object]]) -> bool:
    """Run the calls side by side; True when each has returned, without an error, before the time was over."""
    done = [False] * len(calls)

    def run(index: int) -> None:
        try:
            done[index] = calls[index]() is not False
        except Exception:
            logger.exception("telemetry could not be flushed")

    deadline = time.monotonic() + timeout_s
    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return all(done)
