"""Standard `logging`, made safe and linked: one line a record on stdout, and the same records over OTLP.

Each record carries the ids of the current span and the route of the current request. How a line looks stands in
`observability.log_lines`.
"""

from __future__ import annotations

import copy
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TextIO

from opentelemetry._logs import LoggerProvider, NoOpLogger, get_logger
from opentelemetry.instrumentation.logging.handler import LoggingHandler

from observability.fastpath.attributes import remember
from observability.log_lines import (
    ROUTE,
    STANDARD,
    JsonFormatter,
    PrettyFormatter,
    Reading,
    escape_beyond_ascii,
    read,
    read_line,
)
from observability.requests import was_logged

LogFormat = Literal["json", "pretty"]

Source = Literal["service", "server", "pipeline"]
"""Who logs, as far as it decides where a record goes; uvicorn may repeat what the kit has told."""

Shortcut = Callable[[Reading], bool]

# What exporting telemetry logs about itself. Were it exported, each failure would be the cause of the next one.
_EXPORTER_LOGGERS = (
    "opentelemetry.exporter",
    "opentelemetry.sdk._shared_internal",
    "observability.fastpath",
    "urllib3",
    "requests",
    "grpc",
)
_PIPELINE_LOGGERS = ("opentelemetry", "observability.providers", *_EXPORTER_LOGGERS)

_COMPLAINT_INTERVAL_S = 60.0


def configure_logging(
    service_name: str,
    logger_provider: LoggerProvider,
    *,
    format: LogFormat | None = None,  # noqa: A002 - what logging itself calls it
    level: int | str = logging.INFO,
    stream: TextIO | None = None,
    shortcut: Shortcut | None = None,
) -> None:
    """Send the root logger's records to stdout and to OpenTelemetry, in place of the handlers that it has.

    Args:
        service_name: Named in each line.
        logger_provider: Where the same records go as OpenTelemetry log records.
        format: JSON for machines or coloured text for people; by default text on a terminal and JSON elsewhere.
        level: The least level that is logged.
        stream: Defaults to stdout.
        shortcut: Exports a record in the provider's place, or says that it does not cover it.
    """
    stream = stream if stream is not None else sys.stdout
    chosen = format or ("pretty" if stream.isatty() else "json")
    layout = JsonFormatter(service_name) if chosen == "json" else PrettyFormatter(service_name, colour=stream.isatty())
    exported = not isinstance(get_logger(__name__, logger_provider=logger_provider), NoOpLogger)
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(RootHandler(stream, layout, Export(logger_provider, shortcut) if exported else None))
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        # The uvicorn command has given these handlers of its own by now, which neither scrub nor escape.
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # each request has its own line, with its trace
    logging.getLogger("alembic").setLevel(logging.WARNING)  # says at each start that there is nothing to do
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # `observability.server` tells of start and stop
    # An httpx line for each call repeats what the client span says, with the URL unscrubbed in its arguments.
    logging.getLogger("httpx").setLevel(logging.WARNING)


class RootHandler(logging.Handler):
    """Reads each record once, and gives it to a stream and to OpenTelemetry.

    One that cannot be rendered is told in its place, without its arguments: a mistake in a log call must not become one
    of the request that made it.

    Attributes:
        stream: Where lines are written; None writes none.
    """

    def __init__(self, stream: TextIO | None, layout: JsonFormatter | PrettyFormatter, export: Export | None) -> None:
        super().__init__()
        self.stream = stream
        self._layout = layout
        self._export = export
        self._complaints = PipelineComplaints()
        self._sources: dict[str, Source] = {}

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record. Only its writing is locked: what it holds may take long to render, or log itself."""
        if self.filters:
            return bool(super().handle(record))
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Give a record to all that it is for."""
        source = self._sources.get(record.name) or self._source(record.name)
        try:
            if source != "service" and not self._is_wanted(record, source):
                return
            reading = read(record)
        except Exception as error:  # noqa: BLE001 - whatever the arguments raise
            record = _unrenderable(record, error)
            reading = read(record)
        if self.stream is not None:
            self._write(self.stream, reading)
        if self._export is not None and source != "pipeline":
            self._export.take(reading, record)

    def take_line(
        self, logger: str, level: int, message: str, arguments: tuple[object, ...], extras: dict[str, Any]
    ) -> bool:
        """Take what the service logs now, without a record of `logging`; see `observability.line`.

        Args:
            logger: The logger's name.
            level: Its severity.
            message: With places for the arguments.
            arguments: What stands there.
            extras: Texts and numbers, to which the route is added.

        Returns:
            Whether it is taken. Where it has no message, or has to be exported the SDK's way, that takes a record.
        """
        export = self._export
        if export is not None and export.shortcut is None:
            return False
        try:
            reading = read_line(logger, level, message % arguments, extras)
        except Exception:  # noqa: BLE001 - whatever the arguments raise
            return False
        if export is not None and not export.take_short(reading):
            return False
        if self.stream is not None:
            self._write(self.stream, reading)
        return True

    def _write(self, stream: TextIO, reading: Reading) -> None:
        try:
            line = self._layout.line(reading)
        except Exception as error:  # noqa: BLE001 - whatever the extras raise
            line = self._layout.format(_unrenderable(_record_of(reading), error))
        with self.lock:  # type: ignore[union-attr]  # each handler has one, which is a new one in a forked process
            try:
                try:
                    stream.write(line + "\n")
                except UnicodeEncodeError:  # nothing is written yet
                    stream.write(escape_beyond_ascii(line) + "\n")
                stream.flush()
            except (OSError, ValueError) as error:
                self.handleError(_unrenderable(_record_of(reading), error))  # which shows arguments as they are

    def _source(self, name: str) -> Source:
        source: Source = "server" if name == "uvicorn.error" else "service"
        if _is_under(name, _PIPELINE_LOGGERS):
            source = "pipeline"
        remember(self._sources, name, source)
        return source

    def _is_wanted(self, record: logging.LogRecord, source: Source) -> bool:
        if source == "pipeline":
            return self.stream is not None and self._complaints.filter(record)
        return _unhandled_once(record)


class Export(LoggingHandler):
    """Hands each record to OpenTelemetry; one that cannot be rendered is told in its place, without its arguments.

    Attributes:
        shortcut: Exports what a record says in the provider's place, or says that it does not cover it.
    """

    def __init__(self, logger_provider: LoggerProvider, shortcut: Shortcut | None = None) -> None:
        super().__init__(logger_provider=logger_provider)
        self.shortcut = shortcut

    def take(self, reading: Reading, record: logging.LogRecord) -> None:
        """Hand a record on that was read already, by the shortcut if that covers it."""
        if self.take_short(reading):
            return
        if ROUTE in reading.extras:
            vars(record).setdefault(ROUTE, reading.extras[ROUTE])
        self.emit(record)

    def take_short(self, reading: Reading) -> bool:
        """Hand on what a record says by the shortcut, if that covers it."""
        if self.shortcut is None:
            return False
        try:
            return self.shortcut(reading)
        except Exception:  # noqa: BLE001 - the SDK's way, which it takes then, tells of it
            return False

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on, the SDK's way."""
        try:
            super().emit(_plain(record))
        except Exception as error:  # noqa: BLE001 - whatever the arguments raise, or a processor
            told = _unrenderable(record, error)
            try:
                super().emit(told)
            except Exception:  # noqa: BLE001 - it was a processor
                self.handleError(told)

    def flush(self) -> None:
        """Nothing: `Telemetry` flushes. Contrib's starts a thread, also at the end of Python, which may refuse that."""


class PipelineComplaints(logging.Filter):
    """Lets the telemetry pipeline's own complaints through once a minute, with the number of those held back.

    All exporters count as one complainant, since it is one collector that is down; every other logger counts by itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next_at: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        if _not_pipeline(record):
            return True
        if record.levelno < logging.WARNING:
            return False
        complainant = "exporter" if _is_under(record.name, _EXPORTER_LOGGERS) else record.name
        now = time.monotonic()
        if now < self._next_at.get(complainant, 0.0):
            self._held_back[complainant] = self._held_back.get(complainant, 0) + 1
            return False
        self._next_at[complainant] = now + _COMPLAINT_INTERVAL_S
        message = record.getMessage()
        if held_back := self._held_back.pop(complainant, 0):
            message = f"{message} ({held_back} more like this in the last minute)"
        record.msg, record.args = message, ()
        record.exc_info = record.exc_text = None
        return True


def _not_pipeline(record: logging.LogRecord) -> bool:
    return not _is_under(record.name, _PIPELINE_LOGGERS)


def _is_under(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


def _unhandled_once(record: logging.LogRecord) -> bool:
    """Drop uvicorn's report of an exception whose stack the kit has logged already.

    Of one that a lifespan raised there is only the text of the stack, and `observability.instrument` has logged it.
    """
    if record.name != "uvicorn.error":
        return True
    if record.exc_info:
        return not was_logged(record.exc_info[1])
    return not str(record.msg).startswith("Traceback (most recent call last)")


def _record_of(reading: Reading) -> logging.LogRecord:
    if reading.record is not None:
        return reading.record
    return logging.makeLogRecord({"name": reading.logger, "pathname": reading.logger, "created": reading.created})


def _unrenderable(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    where = f"{record.pathname}:{record.lineno}"
    message = f"this log call cannot be rendered ({type(error).__name__}): {where}"
    told = logging.LogRecord(record.name, logging.ERROR, record.pathname, record.lineno, message, (), None)
    told.created = record.created
    return told


def _plain(record: logging.LogRecord) -> logging.LogRecord:
    """The record with its objects as text: the SDK takes none, and complains of each."""
    objects = {key: str(value) for key, value in vars(record).items() if key not in STANDARD and _is_object(value)}
    if not objects:
        return record
    plain = copy.copy(record)
    vars(plain).update(objects)
    return plain


def _is_object(value: object) -> bool:
    return value is not None and not isinstance(value, (str, bool, int, float, bytes, Mapping, Sequence))
