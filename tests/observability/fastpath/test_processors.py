"""The fast path as a service has it: whole processes that send to a real receiver."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from observability.fastpath.processors import EncodingLogProcessor, EncodingSpanProcessor
from observability.providers import Telemetry
from tests.observability.fastpath.pairs import KeptBytes
from tests.observability.fastpath.receiver import Receiver

TELL = """
import logging
from observability import Telemetry
telemetry = Telemetry.from_environment("s")
with telemetry.tracer_provider.get_tracer("t").start_as_current_span("work"):
    logging.getLogger("app").warning("password=canary")
print(telemetry.close())
"""

LOG = """
import logging
from observability import Telemetry
telemetry = Telemetry.from_environment("s")
logger = logging.getLogger("app")
with telemetry.tracer_provider.get_tracer("t").start_as_current_span("work"):
    logger.info("order %d", 17, extra={"sku": "mug", "quantity": 2, "seconds": 0.5, "password": "canary"})
    logger.warning("nested", extra={"items": [1, {"a": "b"}]})
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("failed")
telemetry.close()
"""

FORK = """
import os, threading
from observability import Telemetry
telemetry = Telemetry.from_environment("s")
tracer = telemetry.tracer_provider.get_tracer("t")
tracer.start_span("before").end()
telemetry.flush()
tracer.start_span("parent").end()
# Another thread of the parent is in the middle of adding one, which no thread of the child will ever end.
lock = telemetry.tracer_provider._active_span_processor._span_processors[0]._sender._buffer._lock
held, go_on = threading.Event(), threading.Event()
def hold():
    with lock:
        held.set()
        go_on.wait(10)
threading.Thread(target=hold, daemon=True).start()
held.wait(10)
child = os.fork()
go_on.set()
if child:
    status = os.waitpid(child, 0)[1]
    print(telemetry.close(), status)
else:
    tracer.start_span("child").end()
    os._exit(0 if telemetry.close() else 1)
"""


def _run(code: str, receiver: Receiver, **environment: str) -> list[str]:
    """What a new process prints that sends to the receiver."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "CLEARSPAN_"))}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **clean,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "60000",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("choice", ["on", "off"])
def test_whole_process(receiver: Receiver, choice: str) -> None:
    """A process sends its span and its log record, without secrets, before it ends; with the fast path and without."""
    assert _run(TELL, receiver, CLEARSPAN_FASTPATH=choice)[-1] == "True"
    sent = {headers["path"]: body for headers, body in receiver.requests}
    assert set(sent) == {"/v1/traces", "/v1/logs"}
    record = ExportLogsServiceRequest.FromString(sent["/v1/logs"]).resource_logs[0].scope_logs[0].log_records[0]
    assert record.body.string_value == "password=[REDACTED]"
    assert record.trace_id in sent["/v1/traces"]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "2"},
        {"OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT": "2"},
        {"OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "false"},
        {"OTEL_LOGS_EXPORTER": "otlp,console"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_LOGS_EXPORTER": "none"},
        {"OTEL_SDK_DISABLED": "true"},
    ],
)
def test_same_logs(receiver: Receiver, environment: dict[str, str]) -> None:
    """The fast path sends the log records, counts them and writes the lines that come without it, whatever is set."""
    told = {}
    for choice in ("on", "off"):
        receiver.requests.clear()
        lines = _run(LOG, receiver, **{"OTEL_METRICS_EXPORTER": "otlp", "CLEARSPAN_FASTPATH": choice, **environment})
        told[choice] = (*_records(receiver), [_IDS_AND_TIMES.sub("", line) for line in lines if line[:2] == '{"'])
    assert told["on"] == told["off"]
    assert sum('"logger": "app"' in line for line in told["on"][2]) == 3


_IDS_AND_TIMES = re.compile(r'"(?:timestamp|trace_id|span_id)": "[^"]*"')


def _records(receiver: Receiver) -> tuple[list[str], list[int]]:
    """The log records that were sent, without ids and times, and how many the SDK says there were."""
    sent = []
    counts = []
    for headers, body in receiver.requests:
        if headers["path"] == "/v1/logs":
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        assert record.time_unix_nano <= record.observed_time_unix_nano
                        identified = bool(record.trace_id), bool(record.span_id)
                        for name in ("time_unix_nano", "observed_time_unix_nano", "trace_id", "span_id"):
                            record.ClearField(name)
                        sent.append(f"{scope.scope} {identified} {record}")
        if headers["path"] == "/v1/metrics":
            counts += [
                point.as_int
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
                if metric.name == "otel.sdk.log.created"
                for point in metric.sum.data_points
            ]
    return sent, counts


@pytest.mark.parametrize(
    ("environment", "spans", "records"),
    [
        ({}, "EncodingSpanProcessor", "EncodingLogProcessor"),
        ({"CLEARSPAN_FASTPATH": "on"}, "EncodingSpanProcessor", "EncodingLogProcessor"),
        ({"CLEARSPAN_FASTPATH": "off"}, "BatchSpanProcessor", "BatchLogRecordProcessor"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "BatchSpanProcessor", "BatchLogRecordProcessor"),
        ({"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}, "EncodingSpanProcessor", "BatchLogRecordProcessor"),
        ({"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "zstd"}, "BatchSpanProcessor", "EncodingLogProcessor"),
        (
            {"OTEL_TRACES_EXPORTER": "console", "OTEL_LOGS_EXPORTER": "console"},
            "BatchSpanProcessor",
            "BatchLogRecordProcessor",
        ),
    ],
)
def test_choice(receiver: Receiver, environment: dict[str, str], spans: str, records: str) -> None:
    """What the fast path does not cover, or is not wanted for, takes the SDK's way."""
    code = """
from observability import Telemetry
telemetry = Telemetry.from_environment("s")
print(type(telemetry.tracer_provider).__name__)
print(type(telemetry.tracer_provider._active_span_processor._span_processors[0]).__name__)
print(type(telemetry.logger_provider._multi_log_record_processor._log_record_processors[0]).__name__)
telemetry.close()
"""
    provider = "TracerProvider" if environment.get("CLEARSPAN_FASTPATH") == "off" else "LeanTracerProvider"
    lines = [line for line in _run(code, receiver, **environment) if "Processor" in line or "Provider" in line]
    assert lines[:3] == [provider, spans, records]


def test_fork(receiver: Receiver) -> None:
    """Parent and child each send their own, once, also if a lock was held when they parted."""
    assert _run(FORK, receiver)[-1] == "True 0"
    assert sorted(receiver.names()) == ["before", "child", "parent"]
    ports = {
        name: headers["port"]
        for headers, body in receiver.requests
        for name in receiver.names()
        if name.encode() in body
    }
    assert ports["child"] != ports["before"]


def test_beside_others() -> None:
    """Another processor gets the same spans as ever."""
    exporter, sender = InMemorySpanExporter(), KeptBytes()
    telemetry = Telemetry.build("s", span_processors=[EncodingSpanProcessor(sender), SimpleSpanProcessor(exporter)])
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("a", attributes={"b": 1}):
        pass
    (span,) = exporter.get_finished_spans()
    assert (span.name, dict(span.attributes or {}), len(sender.entries)) == ("a", {"b": 1}, 1)


def test_unsampled() -> None:
    """Only what is sampled is sent."""
    sender = KeptBytes()
    telemetry = Telemetry.build("s", span_processors=[EncodingSpanProcessor(sender)], sampler=ALWAYS_OFF)
    telemetry.tracer_provider.get_tracer("t").start_span("a").end()
    assert sender.entries == []


def test_what_cannot_be_encoded() -> None:
    """It is counted, and whoever ends the span or logs the record learns nothing of it."""
    sender = KeptBytes()
    telemetry = Telemetry.build(
        "s", span_processors=[EncodingSpanProcessor(sender)], log_processors=[EncodingLogProcessor(sender)]
    )
    telemetry.tracer_provider.get_tracer("t").start_span("a", start_time=-1).end()
    telemetry.logger_provider.get_logger("l").emit(LogRecord(body=object()))  # type: ignore[call-overload]
    assert (len(sender.errors), sender.entries) == (2, [])
