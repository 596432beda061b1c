"""Standard `logging`, made safe and linked: one line a record on stdout, and the same records over OTLP.

Each record carries the ids of the current span and the route of the current request. Text from strangers cannot forge a
second line or move a terminal's cursor: control, bidirectional and line-separator characters are written as escapes.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.instrumentation.logging.handler import LoggingHandler

from observability.requests import current_route, was_logged
from observability.scrub import scrub_attributes, scrub_text
from observability.telemetry import SCRUBBED

LogFormat = Literal["json", "pretty"]

ROUTE = "http.route"

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

# C0 and C1 controls, DEL, marks and overrides of writing direction, line and paragraph separators, BOM, surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

_NO_JSON = ("NaN", "Infinity")  # what json.dumps writes for numbers that JSON does not have

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_REQUEST_ATTRIBUTES = ("http.", "url.")

_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


def configure_logging(
    service_name: str,
    logger_provider: LoggerProvider,
    *,
    format: LogFormat | None = None,  # noqa: A002 - what logging itself calls it
    level: int | str = logging.INFO,
    stream: TextIO | None = None,
) -> None:
    """Send the root logger's records to stdout and to OpenTelemetry, in place of the handlers that it has.

    Args:
        service_name: Named in each line.
        logger_provider: Where the same records go as OpenTelemetry log records.
        format: JSON for machines or coloured text for people; by default text on a terminal and JSON elsewhere.
        level: The least level that is logged.
        stream: Defaults to stdout.
    """
    stream = stream if stream is not None else sys.stdout
    chosen = format or ("pretty" if stream.isatty() else "json")
    console = Console(stream)
    console.setFormatter(
        JsonFormatter(service_name) if chosen == "json" else PrettyFormatter(service_name, colour=stream.isatty())
    )
    console.addFilter(_add_route)
    console.addFilter(_unhandled_once)
    console.addFilter(PipelineComplaints())
    export = Export(logger_provider=logger_provider)
    export.addFilter(_add_route)
    export.addFilter(_unhandled_once)
    export.addFilter(_not_pipeline)
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(console)
    root.addHandler(export)
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


class Console(logging.StreamHandler[TextIO]):
    """Writes each record; one that cannot be rendered is told in its place, without its arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. A mistake in a log call must not become one of the request that made it."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - whatever the arguments raise
            line = self.format(_unrenderable(record, error))
        try:
            self.stream.write(line + self.terminator)
            self.flush()
        except (OSError, ValueError):
            self.handleError(record)


class Export(LoggingHandler):
    """Hands each record to OpenTelemetry; one that cannot be rendered is told in its place, without its arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on; see `Console.emit`."""
        try:
            super().emit(_plain(record))
        except Exception as error:  # noqa: BLE001 - whatever the arguments raise
            super().emit(_unrenderable(record, error))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, logger, message, service, ids of trace and span, and the extras."""

    def __init__(self, service_name: str) -> None:
        super().__init__()
        self._service_name = service_name

    def format(self, record: logging.LogRecord) -> str:
        """Render a record as one line of JSON, without its secrets."""
        line: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": scrub_text(record.getMessage())[0],
            "service": self._service_name,
        }
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = trace.format_trace_id(context.trace_id)
            line["span_id"] = trace.format_span_id(context.span_id)
        extras, cut = _extras(record)
        line.update({key: value for key, value in extras.items() if key not in line})
        if cut:
            line[SCRUBBED] = cut
        if stack := _stack(self, record):
            line["exception"] = stack
        text = json.dumps(line, ensure_ascii=False, default=str)
        if any(constant in text for constant in _NO_JSON):
            text = json.dumps(json.loads(text, parse_constant=str), ensure_ascii=False)
        return escape(text)


class PrettyFormatter(logging.Formatter):
    """A line for people: time, level, message, extras in grey, the trace's id; stacks indented below it.

    What the semantic conventions name of the request is left out: the request's own line says it in its message.
    """

    def __init__(self, service_name: str, *, colour: bool) -> None:
        super().__init__()
        self._service_name = service_name
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Render a record as one line, and a stack as indented lines below it, without its secrets."""
        clock = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = self._paint(f"{record.levelname:<7}", _COLOURS.get(record.levelname, "0"))
        parts = [self._paint(clock, "2"), level, escape(scrub_text(record.getMessage())[0])]
        extras = " ".join(
            f"{escape(key)}={escape(str(value))}"
            for key, value in _extras(record)[0].items()
            if not key.startswith(_REQUEST_ATTRIBUTES)
        )
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            extras = f"{extras} trace_id={trace.format_trace_id(context.trace_id)}".lstrip()
        if extras:
            parts.append(self._paint(extras, "2"))
        lines = [" ".join(parts)]
        lines += [f"    {escape(line)}" for line in _stack(self, record).splitlines()]
        return "\n".join(lines)

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text


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


def escape(text: str) -> str:
    r"""Write each character that could forge a line or steer a terminal as its `\uXXXX` escape."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


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
    if record.exc_info is not None:
        return not was_logged(record.exc_info[1])
    return not str(record.msg).startswith("Traceback (most recent call last)")


def _unrenderable(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    where = f"{record.pathname}:{record.lineno}"
    message = f"this log call cannot be rendered ({type(error).__name__}): {where}"
    return logging.LogRecord(record.name, logging.ERROR, record.pathname, record.lineno, message, (), None)


def _add_route(record: logging.LogRecord) -> bool:
    if (route := current_route()) is not None:
        vars(record).setdefault(ROUTE, route)
    return True


def _plain(record: logging.LogRecord) -> logging.LogRecord:
    """The record with its objects as text: the SDK takes none, and complains of each."""
    objects = {key: str(value) for key, value in vars(record).items() if key not in _STANDARD and _is_object(value)}
    if not objects:
        return record
    plain = copy.copy(record)
    vars(plain).update(objects)
    return plain


def _is_object(value: object) -> bool:
    return value is not None and not isinstance(value, (str, bool, int, float, bytes, Mapping, Sequence))


def _extras(record: logging.LogRecord) -> tuple[Mapping[str, Any], list[str]]:
    return scrub_attributes({key: value for key, value in vars(record).items() if key not in _STANDARD})


def _stack(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    stack_info = formatter.formatStack(record.stack_info) if record.stack_info else ""
    stack = "\n".join(part for part in (record.exc_text, stack_info) if part)
    return scrub_text(stack)[0] if stack else ""
