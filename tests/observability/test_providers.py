"""The three providers: built from the environment, flushed and closed within one bound."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from observability.providers import Telemetry, TelemetryError

TELL_ALL = """
import logging
from observability import Telemetry
telemetry = Telemetry.from_environment("s")
telemetry.meter_provider.get_meter("m").create_counter("c").add(1)
with telemetry.tracer_provider.get_tracer("t").start_as_current_span("work"):
    logging.getLogger("app").info("working")
print(telemetry.close())
"""


def _in_new_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Providers made from the environment are global for good, so each of these tests has a process of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "CLEARSPAN_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def collector() -> Iterator[socket.socket]:
    """A listening socket that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener


def test_resource_from_environment() -> None:
    """OTEL_SERVICE_NAME wins over the name in the code, and each process has an instance id of its own."""
    code = """
import json
from observability import Telemetry
attributes = dict(Telemetry.from_environment("coded").tracer_provider.resource.attributes)
print(json.dumps({key: attributes[key] for key in ("service.name", "service.instance.id")}))
"""
    silent = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    coded = json.loads(_in_new_process(code, **silent).stdout)
    named = json.loads(_in_new_process(code, OTEL_SERVICE_NAME="named", **silent).stdout)
    assert (coded["service.name"], named["service.name"]) == ("coded", "named")
    assert coded["service.instance.id"] != named["service.instance.id"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("CLEARSPAN_LOG_FORMAT", "xml"),
        ("CLEARSPAN_CLOSE_TIMEOUT", "soon"),
        ("CLEARSPAN_CLOSE_TIMEOUT", "-1"),
        ("CLEARSPAN_CLOSE_TIMEOUT", "inf"),
        ("CLEARSPAN_UNFINISHED_SPANS", "yes"),
    ],
)
def test_unsupported_value(variable: str, value: str) -> None:
    """A value that is not supported is refused with the variable's name and what to use."""
    code = """
from observability import Telemetry, TelemetryError
try:
    Telemetry.from_environment("s")
except TelemetryError as error:
    print(error)
"""
    assert _in_new_process(code, **{variable: value}).stdout.startswith(f"{variable}={value!r} is not supported: use ")


@pytest.mark.parametrize(
    ("variable", "value"), [("OTEL_BSP_MAX_QUEUE_SIZE", "10"), ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "many")]
)
def test_value_that_the_sdk_refuses(variable: str, value: str) -> None:
    """What the SDK itself refuses ends in the same error, which says where to look."""
    code = """
from observability import Telemetry, TelemetryError
try:
    Telemetry.from_environment("s")
except TelemetryError as error:
    print(error)
"""
    assert "look at the OTEL_ variables: " in _in_new_process(code, **{variable: value}).stdout


def test_foreign_providers() -> None:
    """A second set-up in one process is refused, since everything would be exported twice."""
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
from observability import Telemetry, TelemetryError
try:
    Telemetry.from_environment("s")
except TelemetryError as error:
    print(error)
"""
    assert "already has OpenTelemetry providers" in _in_new_process(code).stdout
    assert issubclass(TelemetryError, Exception)


def test_close_with_hanging_collector(collector: socket.socket) -> None:
    """A collector that never answers holds shutdown no longer than the bound for all three signals together."""
    code = """
import logging, time
from observability import Telemetry
telemetry = Telemetry.from_environment("s")
telemetry.meter_provider.get_meter("m").create_counter("c").add(1)
with telemetry.tracer_provider.get_tracer("t").start_as_current_span("work"):
    logging.getLogger("app").info("working")
started = time.monotonic()
print(telemetry.close(), time.monotonic() - started < 3.0, telemetry.close())
"""
    endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}"
    result = _in_new_process(code, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, CLEARSPAN_CLOSE_TIMEOUT="0.5")
    assert (result.stdout.splitlines()[-1], result.returncode) == ("False True False", 0)


def test_drops_are_counted(collector: socket.socket) -> None:
    """Spans that found the queue full are counted with the reason, in the telemetry of the telemetry."""
    code = """
from observability import Telemetry
telemetry = Telemetry.from_environment("s")
tracer = telemetry.tracer_provider.get_tracer("t")
for _ in range(1000):
    tracer.start_span("work").end()
telemetry.meter_provider.force_flush()
"""
    result = _in_new_process(
        code,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.getsockname()[1]}",
        OTEL_METRICS_EXPORTER="console",
        OTEL_LOGS_EXPORTER="none",
        OTEL_BSP_MAX_QUEUE_SIZE="10",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="5",
    )
    exported, _ = json.JSONDecoder().raw_decode(result.stdout[result.stdout.index("{\n") :])
    values = {
        (metric["name"], point["attributes"].get("error.type")): point["value"]
        for resource in exported["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
        for point in metric["data"]["data_points"]
    }
    assert values["otel.sdk.span.started", None] == 1000
    assert values["otel.sdk.processor.span.queue.capacity", None] == 10
    # What was not dropped is in the queue or in the exporter's hands, which hold no more than 10 and 5.
    assert values["otel.sdk.processor.span.processed", "queue_full"] >= 985


def test_export_over_grpc() -> None:
    """The standard variable sends all three signals over gRPC."""
    received: set[str] = set()

    class Receiver(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            def export(_request: bytes, _context: grpc.ServicerContext) -> bytes:
                received.add(str(details.method).rpartition(".")[2])
                return b""

            return grpc.unary_unary_rpc_method_handler(export)

    server = grpc.server(ThreadPoolExecutor(3), handlers=[Receiver()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    result = _in_new_process(
        TELL_ALL, OTEL_EXPORTER_OTLP_PROTOCOL="grpc", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}"
    )
    server.stop(None).wait()
    assert result.stdout.splitlines()[-1] == "True", result.stderr
    assert received == {"TraceService/Export", "MetricsService/Export", "LogsService/Export"}


def test_fork() -> None:
    """What a forked child tells is sent too: its exporters' threads are started anew."""
    code = """
import os
from observability import Telemetry
telemetry = Telemetry.from_environment("s")
tracer = telemetry.tracer_provider.get_tracer("t")
tracer.start_span("parent").end()
if child := os.fork():
    os.waitpid(child, 0)
    print(telemetry.close())
else:
    tracer.start_span("child").end()
    telemetry.flush()
    os._exit(0)
"""
    result = _in_new_process(
        code, OTEL_TRACES_EXPORTER="console", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER="none"
    )
    assert result.stdout.splitlines()[-1] == "True", result.stderr
    assert result.stdout.count('"name": "child"') == 1


def test_disabled() -> None:
    """OTEL_SDK_DISABLED leaves the service as it is and exports nothing."""
    result = _in_new_process(TELL_ALL, OTEL_SDK_DISABLED="true")
    assert [json.loads(line)["message"] for line in result.stdout.splitlines()[:-1]] == ["working"]
    assert (result.stdout.splitlines()[-1], result.stderr) == ("True", "")


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, False),
        ({"CLEARSPAN_UNFINISHED_SPANS": "false"}, False),
        ({"CLEARSPAN_UNFINISHED_SPANS": "true"}, True),
        ({"CLEARSPAN_UNFINISHED_SPANS": "true", "OTEL_SDK_DISABLED": "true"}, False),
        ({"CLEARSPAN_UNFINISHED_SPANS": "true", "OTEL_TRACES_EXPORTER": "console"}, False),
    ],
)
def test_unfinished_spans_are_told_where_it_is_asked_for(environment: dict[str, str], told: bool) -> None:
    """No receiver gets notices of unfinished spans unless a variable says so, and it gets the spans too."""
    code = """
from observability import Telemetry
from observability.unfinished import UnfinishedSpans
processors = Telemetry.from_environment("s").tracer_provider._active_span_processor._span_processors
print([type(one) for one in processors].count(UnfinishedSpans))
"""
    assert _in_new_process(code, **environment).stdout == f"{int(told)}\n"


def test_close_runs_once() -> None:
    """Closing twice, from two threads, shuts down once and tells both how it went."""
    telemetry = Telemetry.build("s")
    outcomes: list[bool] = []
    threads = [threading.Thread(target=lambda: outcomes.append(telemetry.close())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert outcomes == [True, True]
