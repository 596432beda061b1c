"""Standard logging, made safe and linked."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from observability import logs
from observability.logs import JsonFormatter, PipelineComplaints, PrettyFormatter, configure_logging

FORGERIES = [
    "line\nfeed",
    "carriage\rreturn",
    "esc\x1b[2J",
    "c1\x9b2J",
    "ls\u2028ps\u2029",
    "bidi\u202e\u2066",
    "nul\x00",
]


def _record(message: str, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("app", logging.INFO, "app.py", 1, message, (), None)
    vars(record).update(extra)
    return record


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_json_line() -> None:
    """A record in a span becomes one JSON object with the span's ids, the service and the extras."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("work") as span:
        line = json.loads(JsonFormatter("orders").format(_record("placed", sku="mug", message_id=7)))
    context = span.get_span_context()
    del line["timestamp"]
    assert line == {
        "level": "INFO",
        "logger": "app",
        "message": "placed",
        "service": "orders",
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "sku": "mug",
        "message_id": 7,
    }


def test_extra_does_not_replace() -> None:
    """An extra cannot take the place of a field that says where the record comes from."""
    line = json.loads(JsonFormatter("orders").format(_record("placed", service="forged", level="FORGED")))
    assert (line["service"], line["level"]) == ("orders", "INFO")


@pytest.mark.parametrize("text", FORGERIES)
@pytest.mark.parametrize("formatter", [JsonFormatter("s"), PrettyFormatter("s", colour=False)])
def test_forged_line(formatter: logging.Formatter, text: str) -> None:
    """Characters that could forge a line or steer a terminal are written as escapes, wherever they stand."""
    line = formatter.format(_record(f"hello {text}", **{"user": text, f"key{text}": 1}))
    assert logs.escape(line) == line
    assert line.isprintable()


@given(st.text())
def test_any_text_is_one_line(text: str) -> None:
    """Whatever is logged is one line that can be encoded, and JSON that reads back."""
    line = JsonFormatter("s").format(_record("%s"[:0] + text, value=text))
    assert len(line.splitlines()) == 1
    assert json.loads(line.encode())["level"] == "INFO"
    assert len(PrettyFormatter("s", colour=False).format(_record(text)).encode().splitlines()) == 1


def test_pretty_is_short() -> None:
    """The pretty form shows the program's own extras, and not what the request's line says already."""
    record = _record("GET / 200", sku="mug", **{"http.request.method": "GET", "url.path": "/"})
    assert PrettyFormatter("s", colour=False).format(record).endswith("GET / 200 sku=mug")


def test_stack_is_indented() -> None:
    """A stack in the pretty form stands indented below its line, so that its text cannot pass for a record."""
    try:
        raise ValueError("first\n12:00:00.000 INFO    forged")
    except ValueError as error:
        record = _record("failed")
        record.exc_info = (type(error), error, error.__traceback__)
    first, *rest = PrettyFormatter("s", colour=False).format(record).splitlines()
    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("formatter", [JsonFormatter("s"), PrettyFormatter("s", colour=False)])
def test_secrets(formatter: logging.Formatter) -> None:
    """A secret in the message, an extra or a stack is not written."""
    try:
        raise ValueError("postgres://user:canary@host/db")
    except ValueError as error:
        record = _record("fetching https://user:canary@host/?token=canary", password="canary")
        record.exc_info = (type(error), error, error.__traceback__)
    assert "canary" not in formatter.format(record)


def test_both_sinks(root: logging.Logger) -> None:
    """A record goes to the stream and, the same, to OpenTelemetry."""
    stream, exporter = io.StringIO(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK has no annotation
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    configure_logging("orders", provider, stream=stream)
    logging.getLogger("app").info("placed %s", "mug", extra={"quantity": 2})
    (exported,) = exporter.get_finished_logs()
    assert exported.log_record.body == "placed mug"
    assert exported.log_record.attributes == {"quantity": 2}
    assert json.loads(stream.getvalue())["quantity"] == 2
    assert len(root.handlers) == 2


@pytest.mark.usefixtures("root")
def test_pipeline_is_not_exported() -> None:
    """What the exporters log about themselves is never exported, else each failure would cause the next."""
    stream, exporter = io.StringIO(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK has no annotation
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    configure_logging("orders", provider, stream=stream)
    for name in ("opentelemetry.exporter.otlp", "urllib3.connectionpool", "opentelemetry.sdk.trace"):
        logging.getLogger(name).error("cannot connect")
    assert exporter.get_finished_logs() == ()
    assert len(stream.getvalue().splitlines()) == 1


def test_complaints_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's complaints are shown once a minute, with the number of those held back."""
    now = [0.0]
    monkeypatch.setattr("observability.logs.time.monotonic", lambda: now[0])
    complaints = PipelineComplaints()
    shown = []
    for _ in range(130):
        now[0] += 1.0
        record = logging.LogRecord("opentelemetry.exporter", logging.ERROR, "", 1, "no %s", ("collector",), None)
        if complaints.filter(record):
            shown.append(record.getMessage())
    assert shown == [
        "no collector",
        "no collector (59 more like this in the last minute)",
        "no collector (59 more like this in the last minute)",
    ]


def test_own_records_are_not_held_back() -> None:
    """The limit is for the pipeline only, not for loggers of like names."""
    complaints = PipelineComplaints()
    assert all(complaints.filter(_record("x")) for _ in range(3))
    record = logging.LogRecord("opentelemetryx", logging.ERROR, "", 1, "mine", (), None)
    assert complaints.filter(record)
    assert complaints.filter(record)
