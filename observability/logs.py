"""Standard `logging`, made safe and linked: one line a record on stdout, and the same records over OTLP.

Each record carries the ids of the current span and the route of the current request. Text from strangers cannot forge a
second line or move a terminal's cursor: control, bidirectional and line-separator characters are written as escapes.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider
from opentelemetry.instrumentation.logging.handler import LoggingHandler

from observability.requests import current_route
from observability.scrub import scrub_attributes, scrub_text

LogFormat = Literal["json", "pretty"]

ROUTE = "http.route"

# What exporting telemetry logs about itself. Were it exported, each failure would be the cause of the next one.
_PIPELINE_LOGGERS = ("opentelemetry", "urllib3", "requests", "grpc", "observability.providers")

_COMPLAINT_INTERVAL_S = 60.0

# C0 and C1 controls, DEL, marks and overrides of writing direction, line and paragraph separators, BOM, surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

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
    console = logging.StreamHandler(stream)
    console.setFormatter(
        JsonFormatter(service_name) if chosen == "json" else PrettyFormatter(service_name, colour=stream.isatty())
    )
    console.addFilter(_add_route)
    console.addFilter(_unhandled_once)
    console.addFilter(PipelineComplaints())
    export = LoggingHandler(logger_provider=logger_provider)
    export.addFilter(_add_route)
    export.addFilter(_unhandled_once)
    export.addFilter(_not_pipeline)
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(console)
    root.addHandler(export)
    root.setLevel(level)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # says at each start that there is nothing to do
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # `observability.server` tells of start and stop
    # An httpx line for each call repeats what the client span says, with the URL unscrubbed in its arguments.
    logging.getLogger("httpx").setLevel(logging.WARNING)


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
        line.update({key: value for key, value in _extras(record).items() if key not in line})
        if stack := _stack(self, record):
            line["exception"] = stack
        return escape(json.dumps(line, ensure_ascii=False, default=str))


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
            for key, value in _extras(record).items()
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
    """Lets the telemetry pipeline's own complaints through once a minute, with the number of those held back."""

    def __init__(self) -> None:
        super().__init__()
        self._next_at = 0.0
        self._held_back = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        if _not_pipeline(record):
            return True
        if record.levelno < logging.WARNING:
            return False
        now = time.monotonic()
        if now < self._next_at:
            self._held_back += 1
            return False
        self._next_at = now + _COMPLAINT_INTERVAL_S
        message = record.getMessage()
        if self._held_back:
            message = f"{message} ({self._held_back} more like this in the last minute)"
        record.msg, record.args = message, ()
        record.exc_info = record.exc_text = None
        self._held_back = 0
        return True


def escape(text: str) -> str:
    r"""Write each character that could forge a line or steer a terminal as its `\uXXXX` escape."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _not_pipeline(record: logging.LogRecord) -> bool:
    return not any(record.name == name or record.name.startswith(f"{name}.") for name in _PIPELINE_LOGGERS)


def _unhandled_once(record: logging.LogRecord) -> bool:
    # The request's own line has the stack already, together with its trace.
    return not (record.name == "uvicorn.error" and str(record.msg).startswith("Exception in ASGI application"))


def _add_route(record: logging.LogRecord) -> bool:
    if (route := current_route()) is not None:
        vars(record).setdefault(ROUTE, route)
    return True


def _extras(record: logging.LogRecord) -> Mapping[str, Any]:
    extras = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    return scrub_attributes(extras)[0] if extras else extras


def _stack(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    stack_info = formatter.formatStack(record.stack_info) if record.stack_info else ""
    stack = "\n".join(part for part in (record.exc_text, stack_info) if part)
    return scrub_text(stack)[0] if stack else ""
