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
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from observability.export import ScrubbingLogExporter
from observability.logs import PipelineComplaints, configure_logging

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
    assert len(root.handlers) == 1


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
