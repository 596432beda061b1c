"""Standard logging, made safe and linked."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn.config
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from observability import logs
from observability.export import ScrubbingLogExporter
from observability.logs import JsonFormatter, PipelineComplaints, PrettyFormatter, configure_logging
from observability.telemetry import SCRUBBED

FORGERIES = [
    "line\nfeed",
    "carriage\rreturn",
    "esc\x1b[2J",
    "c1\x9b2J",
    "ls\u2028ps\u2029",
    "bidi\u202e\u2066",
    "nul\x00",
]


CYCLE: list[object] = []
CYCLE.append(CYCLE)


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


class Broken:
    """An argument that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("password=canary")


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("message", "arguments", "extra"),
    [
        ("password %s %s", ("password=canary",), {}),
        ("%s", (Broken(),), {}),
        ("fine", (), {"broken": Broken()}),
        ("fine", (), {"cyclic": CYCLE}),
    ],
)
def test_broken_call(
    capsys: pytest.CaptureFixture[str], message: str, arguments: tuple[object, ...], extra: dict[str, object]
) -> None:
    """A log call that cannot be rendered raises nothing, and is told in one line without its arguments."""
    stream, exporter = io.StringIO(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # as above
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(ScrubbingLogExporter(exporter)))
    configure_logging("orders", provider, stream=stream)
    logging.getLogger("app").error(message, *arguments, extra=extra)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"].startswith("this log call cannot be rendered")
    assert "test_logs.py" in line
    assert "canary" not in line + str(exporter.get_finished_logs()) + "".join(capsys.readouterr())


@pytest.mark.usefixtures("root")
def test_object_as_extra() -> None:
    """An object is logged as its text in both places, without a complaint."""
    stream, exporter = io.StringIO(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # as above
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    configure_logging("orders", provider, stream=stream)
    logging.getLogger("app").info("reading", extra={"path": Path("a/b")})
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["path"] == "a/b"
    assert exporter.get_finished_logs()[0].log_record.attributes == {"path": "a/b"}


def test_numbers_that_json_lacks() -> None:
    """NaN and infinity are written as text, since no reader of JSON takes them otherwise."""
    line = JsonFormatter("s").format(_record("NaN it is", nan=float("nan"), inf=[float("-inf")]))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads(line, parse_constant=refuse)
    assert (read["nan"], read["inf"], read["message"]) == ("NaN", ["-Infinity"], "NaN it is")


def test_cuts_are_named() -> None:
    """A line names what was cut from its extras, by path."""
    assert json.loads(JsonFormatter("s").format(_record("x", password="canary")))[SCRUBBED] == ["attributes.password"]


@pytest.mark.usefixtures("root")
def test_uvicorn_is_taken_over() -> None:
    """The handlers that the uvicorn command has set write neither past the scrubber nor a second line a request."""
    logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)
    stream = io.StringIO()
    configure_logging("orders", LoggerProvider(shutdown_on_exit=False), stream=stream)
    logging.getLogger("uvicorn.access").info("GET /?token=canary")
    logging.getLogger("uvicorn.error").error("password=canary")
    (line,) = stream.getvalue().splitlines()
    assert "canary" not in line
    assert logging.getLogger("uvicorn").handlers == []


@pytest.mark.usefixtures("root")
def test_pipeline_is_not_exported() -> None:
    """What the exporters log about themselves is never exported, else each failure would cause the next."""
    stream, exporter = io.StringIO(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK has no annotation
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    configure_logging("orders", provider, stream=stream)
    for name in (
        "opentelemetry.exporter.otlp",
        "observability.fastpath.sender",
        "urllib3.connectionpool",
        "opentelemetry.sdk.trace",
    ):
        logging.getLogger(name).error("cannot connect")
    assert exporter.get_finished_logs() == ()
    loggers = [json.loads(line)["logger"] for line in stream.getvalue().splitlines()]
    assert loggers == ["opentelemetry.exporter.otlp", "opentelemetry.sdk.trace"]


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


def test_complaints_of_others() -> None:
    """All exporters are one complainant, and hold back no complaint of another one."""
    complaints = PipelineComplaints()
    names = ["opentelemetry.exporter.a", "urllib3.pool", "opentelemetry.sdk.x", "opentelemetry.context", "grpc"]
    shown = [name for name in names if complaints.filter(logging.LogRecord(name, logging.ERROR, "", 1, "x", (), None))]
    assert shown == ["opentelemetry.exporter.a", "opentelemetry.sdk.x", "opentelemetry.context"]


def test_own_records_are_not_held_back() -> None:
    """The limit is for the pipeline only, not for loggers of like names."""
    complaints = PipelineComplaints()
    assert all(complaints.filter(_record("x")) for _ in range(3))
    record = logging.LogRecord("opentelemetryx", logging.ERROR, "", 1, "mine", (), None)
    assert complaints.filter(record)
    assert complaints.filter(record)
