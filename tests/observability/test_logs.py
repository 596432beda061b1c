"""Standard logging, made safe and linked."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn.config
from opentelemetry.sdk._logs import LoggerProvider, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from observability.export import ScrubbingLogExporter
from observability.log_lines import JsonFormatter, Reading
from observability.logs import Export, PipelineComplaints, RootHandler, configure_logging
from observability.requests import mark_logged

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


class Recorded(io.StringIO):
    """A stream that tells what was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[str] = []

    def flush(self) -> None:
        """Note what has been written."""
        self.flushed.append(self.getvalue())


@pytest.mark.usefixtures("root")
def test_line_is_out() -> None:
    """A line is out, and whole, when the call that logs it returns."""
    stream = Recorded()
    configure_logging("orders", LoggerProvider(shutdown_on_exit=False), stream=stream)
    for number in (1, 2):
        logging.getLogger("app").info("one")
        assert stream.flushed[-1] == stream.getvalue()
        assert len(stream.getvalue().splitlines()) == number


@pytest.mark.usefixtures("root")
def test_stream_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """A stream that is closed or full breaks no request; `logging` tells of it in its own way, without arguments."""
    stream = io.StringIO()
    configure_logging("orders", LoggerProvider(shutdown_on_exit=False), stream=stream)
    stream.close()
    secret = "".join(["hun", "ter2"])  # since source lines are shown, too
    logging.getLogger("app").info("one with password=%s", secret)
    told = capsys.readouterr().err
    assert "--- Logging error ---" in told
    assert secret not in told


def test_without_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    """What is told without a record is a line like any other, and breaks no request either."""
    stream = io.StringIO()
    handler = RootHandler(stream, JsonFormatter("s"), None)
    assert handler.take_line("app", logging.WARNING, "GET %s 200", ("/",), {"url.path": "/"})
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp")
    assert line == {"level": "WARNING", "logger": "app", "message": "GET / 200", "service": "s", "url.path": "/"}
    stream.close()
    assert handler.take_line("app", logging.INFO, "GET /%s 200", ("mug",), {})
    told = capsys.readouterr().err
    assert "--- Logging error ---" in told
    assert "this log call cannot be rendered (ValueError): app:0" in told


def test_line_that_cannot_be_rendered() -> None:
    """What has no message is not taken, and nothing of it is written or exported; an extra is told as in a record."""
    stream, exported = io.StringIO(), []

    def shortcut(reading: Reading) -> bool:
        exported.append(reading)
        return True

    export = Export(LoggerProvider(shutdown_on_exit=False), shortcut)
    handler = RootHandler(stream, JsonFormatter("s"), export)
    assert not handler.take_line("app", logging.INFO, "GET %s 200", (Broken(),), {})
    assert (stream.getvalue(), exported) == ("", [])
    assert handler.take_line("app", logging.INFO, "GET / 200", (), {"a": Broken()})
    assert "this log call cannot be rendered (RuntimeError)" in stream.getvalue()
    assert len(exported) == 1


def test_record_for_the_sdk() -> None:
    """Without a shortcut what is exported has to be a record, and nothing is written without it."""
    stream = io.StringIO()
    handler = RootHandler(stream, JsonFormatter("s"), Export(LoggerProvider(shutdown_on_exit=False)))
    assert not handler.take_line("app", logging.INFO, "GET / 200", (), {})
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("root")
def test_processor_that_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that raises breaks no request; `logging` tells of it in its own way, and the line is written."""

    def fail(_record: ReadWriteLogRecord) -> None:
        raise RuntimeError("a mistake")

    processor = SimpleLogRecordProcessor(InMemoryLogRecordExporter())  # type: ignore[no-untyped-call]
    monkeypatch.setattr(processor, "on_emit", fail)
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    stream = io.StringIO()
    configure_logging("orders", provider, stream=stream)
    logging.getLogger("app").info("one")
    assert "RuntimeError: a mistake" in capsys.readouterr().err
    assert '"message": "one"' in stream.getvalue()


@pytest.mark.usefixtures("root")
def test_end_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `logging` does when Python ends starts no thread, which Python may refuse by then."""
    export = Export(LoggerProvider(shutdown_on_exit=False))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    export.flush()


def test_stream_of_ascii() -> None:
    """A stream that cannot hold a line's characters holds their escapes."""
    written = io.BytesIO()
    configure_logging(
        "orders", LoggerProvider(shutdown_on_exit=False), stream=io.TextIOWrapper(written, encoding="ascii")
    )
    logging.getLogger("app").info("grün 🦉")
    assert json.loads(written.getvalue())["message"] == "grün 🦉"


def test_filter(root: logging.Logger) -> None:
    """A filter that a program adds to the handler is asked, and decides for both places."""
    stream, exporter = io.StringIO(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # as above
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    configure_logging("orders", provider, stream=stream)
    root.handlers[0].addFilter(lambda record: record.getMessage() != "held back")
    logging.getLogger("app").info("held back")
    logging.getLogger("app").info("shown")
    assert [one.log_record.body for one in exporter.get_finished_logs()] == ["shown"]
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["shown"]


def test_silent(root: logging.Logger) -> None:
    """Without a stream records are still exported, and the pipeline's complaints are not kept for later."""
    stream, exporter = io.StringIO(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # as above
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    configure_logging("orders", provider, stream=stream)
    (handler,) = root.handlers
    assert isinstance(handler, RootHandler)
    handler.stream = None
    logging.getLogger("opentelemetry.exporter").error("cannot connect")
    logging.getLogger("app").info("exported")
    assert [one.log_record.body for one in exporter.get_finished_logs()] == ["exported"]
    assert stream.getvalue() == ""


def test_disabled(monkeypatch: pytest.MonkeyPatch, root: logging.Logger) -> None:
    """Where the SDK is disabled lines are written all the same, and nothing is made for it."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    stream = io.StringIO()
    configure_logging("orders", LoggerProvider(shutdown_on_exit=False), stream=stream)
    monkeypatch.setattr(Export, "take", lambda *_: pytest.fail("made for nobody"))
    logging.getLogger("app").info("written")
    assert json.loads(stream.getvalue())["message"] == "written"
    assert len(root.handlers) == 1


def test_log_call_within_a_log_call(root: logging.Logger) -> None:
    """What an argument logs while it is rendered is logged, before the line that it is part of."""

    class Talkative:
        def __str__(self) -> str:
            logging.getLogger("app").info("inner")
            return "outer"

    stream, exporter = io.StringIO(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # as above
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    configure_logging("orders", provider, stream=stream)
    logging.getLogger("app").info("%s", Talkative())
    lines = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert lines[:2] == ["inner", "outer"]
    first, *_ = exporter.get_finished_logs()
    assert first.log_record.body == "inner"
    assert len(root.handlers) == 1


def test_server_repeats_nothing() -> None:
    """Of uvicorn's reports only those go on of what the kit has not told, whatever they say of an exception."""
    stream = io.StringIO()
    handler = RootHandler(stream, JsonFormatter("s"), None)
    error = ValueError("x")
    for logged in (False, True):
        if logged:
            mark_logged(error)
        for exc_info in (None, False, (ValueError, error, None)):
            handler.handle(
                logging.LogRecord("uvicorn.error", 40, "a.py", 1, "failed", (), exc_info)  # type: ignore[arg-type]
            )
    assert len(stream.getvalue().splitlines()) == 5


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


def test_complaint_that_cannot_be_rendered() -> None:
    """A complaint with a mistake in its call raises nothing either."""
    stream = io.StringIO()
    handler = RootHandler(stream, JsonFormatter("s"), None)
    handler.handle(logging.LogRecord("opentelemetry.exporter", 40, "a.py", 1, "no %s %s", ("collector",), None))
    assert "this log call cannot be rendered (TypeError): a.py:1" in stream.getvalue()


def test_own_records_are_not_held_back() -> None:
    """The limit is for the pipeline only, not for loggers of like names."""
    complaints = PipelineComplaints()
    assert all(complaints.filter(_record("x")) for _ in range(3))
    record = logging.LogRecord("opentelemetryx", logging.ERROR, "", 1, "mine", (), None)
    assert complaints.filter(record)
    assert complaints.filter(record)
