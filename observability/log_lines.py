"""What a log record says, without its secrets, as a line of JSON for machines or of text for people.

Text from strangers cannot forge a second line or move a terminal's cursor: control, bidirectional and line-separator
characters are written as escapes.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring as _quoted
from json.encoder import encode_basestring_ascii as _quoted_ascii
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import SpanContext

from observability.fastpath.attributes import MAX_REMEMBERED_CHARACTERS, MAX_REMEMBERED_INT, remember
from observability.requests import current_route
from observability.scrub import is_secret, scrub_attribute, scrub_attributes, scrub_text
from observability.telemetry import SCRUBBED

ROUTE: Final = "http.route"

# C0 and C1 controls, DEL, marks and overrides of writing direction, line and paragraph separators, BOM, surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

_BEYOND_ASCII = re.compile("[^\x00-\x7f]")

_NO_JSON = ("NaN", "Infinity")  # what json writes for numbers that JSON does not have

_PLAIN = vars(logging.LogRecord("", 0, "", 0, "", (), None))
_FIELDS_OF_PLAIN, _LAST_OF_PLAIN = len(_PLAIN), list(_PLAIN)[-1]
STANDARD = frozenset(_PLAIN) | {"message", "asctime", "taskName"}
"""What records have without any extra."""

_COLOURED = "color_message"  # uvicorn's, the same message for a terminal

_ALWAYS = frozenset({"timestamp", "level", "logger", "message", "service"})
_IDS = frozenset({"trace_id", "span_id"})
_EXCEPTION = "exception"
_OWN = _ALWAYS | _IDS | {_EXCEPTION, SCRUBBED, _COLOURED}

# The API asks for the current span by this name, in three steps more.
_SPAN: Final = next(iter(trace.set_span_in_context(trace.INVALID_SPAN, Context())))

_MICROSECONDS = 1_000_000

_NOT_FOR_PEOPLE = ("http.", "url.", _COLOURED)

_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


@dataclass(slots=True)
class Reading:
    """What a log record says, found once for all that it goes to.

    Attributes:
        logger: The logger's name.
        level: Its severity.
        level_name: What that is called.
        created: When it was logged, in seconds since the epoch.
        message: Its text, without secrets.
        message_cut: Whether there were any.
        extras: What the log call added, and the route of the current request; with their secrets, if they have any.
        context: The current span's.
        record: The record itself; None where nobody has made one, and there is no more to tell.
    """

    logger: str
    level: int
    level_name: str
    created: float
    message: str
    message_cut: bool
    extras: dict[str, Any]
    context: SpanContext
    record: logging.LogRecord | None


def read(record: logging.LogRecord) -> Reading:
    """Find what a record says; raises whatever its arguments raise."""
    message = record.getMessage()
    fields = vars(record)
    # Extras stand behind what each record has, so that the last name tells of any.
    plain = len(fields) == _FIELDS_OF_PLAIN and next(reversed(fields)) == _LAST_OF_PLAIN
    extras = {} if plain else _extras(fields)
    return _reading(record.name, record.levelno, record.levelname, record.created, message, extras, record)


def read_line(logger: str, level: int, message: str, extras: dict[str, Any]) -> Reading:
    """The same for what is logged now, without a record of `logging`; the route is added to `extras`."""
    return _reading(logger, level, logging.getLevelName(level), time.time(), message, extras, None)


def _reading(  # noqa: PLR0917 - by position, since that is how Python calls fastest
    logger: str,
    level: int,
    level_name: str,
    created: float,
    message: str,
    extras: dict[str, Any],
    record: logging.LogRecord | None,
) -> Reading:
    message, cut = scrub_text(message)
    route = current_route()
    if route is not None:
        extras.setdefault(ROUTE, route)
    span = get_current().get(_SPAN)
    context = span.get_span_context() if isinstance(span, trace.Span) else trace.INVALID_SPAN_CONTEXT
    return Reading(logger, level, level_name, created, message, cut, extras, context, record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, logger, message, service, ids of trace and span, and the extras.

    What comes again is put into JSON once. What holds a secret is never remembered. Threads may share it.
    """

    def __init__(self, service_name: str) -> None:
        super().__init__()
        self._service = f', "service": {_quoted(service_name)}'
        self._encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
        self._second: tuple[int | None, str] = (None, "")
        self._ids: tuple[SpanContext | None, str] = (None, "")
        self._origins: dict[tuple[str, str], str] = {}
        self._texts: dict[tuple[str, str], str] = {}
        self._ints: dict[tuple[str, int], str] = {}

    def format(self, record: logging.LogRecord) -> str:
        """Render a record as one line of JSON, without its secrets."""
        return self.line(read(record))

    def line(self, reading: Reading) -> str:
        """The same for what was read already."""
        known = self._ids
        ids = known[1] if known[0] is reading.context else self._ids_of(reading.context)
        origin = self._origins.get((reading.level_name, reading.logger))
        if origin is None:
            origin = self._origin(reading.level_name, reading.logger)
        parts = [f"{self._time(reading.created)}{origin}{_quoted(reading.message)}{self._service}{ids}"]
        stack = _stack(self, reading.record)
        extras = reading.extras
        cut: list[str] = []
        if extras:
            contested: dict[str, Any] = {}
            if not _OWN.isdisjoint(extras):
                contested = {key: value for key, value in extras.items() if key in _OWN}
                extras = {key: value for key, value in extras.items() if key not in _OWN}
            for pair in extras.items():
                kind = type(pair[1])
                text = self._texts.get(pair) if kind is str else self._ints.get(pair) if kind is int else None
                parts.append(text or self._extra(*pair, cut))
            for key, value in contested.items():
                text = self._extra(key, value, cut)
                if (key in _IDS and not ids) or (key == _EXCEPTION and not stack):
                    parts.append(text)
            if SCRUBBED in contested and not cut:
                parts.append(self._extra(SCRUBBED, contested[SCRUBBED], cut))
            elif cut:
                parts.append(f', "{SCRUBBED}": {self._encode(cut)}')
        if stack:
            parts.append(f', "{_EXCEPTION}": {_quoted(stack)}')
        parts.append("}")
        line = "".join(parts)
        # In JSON of nothing but ASCII all that could do harm is escaped, except for DEL.
        return line if line.isascii() and "\x7f" not in line else escape(line)

    def _time(self, created: float) -> str:
        second = int(created)
        known = self._second
        if known[0] != second:
            known = second, f'{{"timestamp": "{datetime.fromtimestamp(second, UTC).isoformat()[: -len("+00:00")]}.'
            self._second = known
        microseconds = round((created - second) * _MICROSECONDS)
        if 0 <= microseconds < _MICROSECONDS:
            return f'{known[1]}{microseconds:06}+00:00"'
        return f'{{"timestamp": "{datetime.fromtimestamp(created, UTC).isoformat(timespec="microseconds")}"'

    def _origin(self, level: str, logger: str) -> str:
        text = f', "level": {self._json(level)}, "logger": {self._json(logger)}, "message": '
        remember(self._origins, (level, logger), text)
        return text

    def _ids_of(self, context: SpanContext) -> str:
        ids = ""
        if context.is_valid:
            ids = f', "trace_id": "{context.trace_id:032x}", "span_id": "{context.span_id:016x}"'
        self._ids = context, ids
        return ids

    def _extra(self, key: str, value: Any, cut: list[str]) -> str:  # noqa: ANN401 - whatever was logged
        key = str(key)
        if type(value) is float and math.isfinite(value):
            return f", {_quoted(key)}: {value!r}"
        if type(value) is str:
            scrubbed, found = scrub_attribute(key, value)
            text = f", {_quoted(key)}: {_quoted(scrubbed)}"
            if found:
                cut.append(f"attributes.{key}")
            elif len(key) + len(value) <= MAX_REMEMBERED_CHARACTERS:
                remember(self._texts, (key, value), text)
            return text
        plain = not is_secret(key) if type(value) is int else value is None or isinstance(value, (bool, float))
        if not plain:
            cleaned, paths = scrub_attributes({key: value})
            cut += paths
            value = cleaned[key]
        text = f", {_quoted(key)}: {self._json(value)}"
        if type(value) is int and 0 <= value <= MAX_REMEMBERED_INT and len(key) <= MAX_REMEMBERED_CHARACTERS:
            remember(self._ints, (key, value), text)
        return text

    def _json(self, value: Any) -> str:  # noqa: ANN401 - whatever was logged
        text = self._encode(value)
        if any(constant in text for constant in _NO_JSON):
            return self._encode(json.loads(text, parse_constant=str))
        return text


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
        return self.line(read(record))

    def line(self, reading: Reading) -> str:
        """The same for what was read already."""
        clock = datetime.fromtimestamp(reading.created, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = self._paint(f"{reading.level_name:<7}", _COLOURS.get(reading.level_name, "0"))
        parts = [self._paint(clock, "2"), level, escape(reading.message)]
        extras = " ".join(
            f"{escape(key)}={escape(str(value))}"
            for key, value in _named(scrub_attributes(reading.extras)[0]).items()
            if not key.startswith(_NOT_FOR_PEOPLE)
        )
        if reading.context.is_valid:
            extras = f"{extras} trace_id={trace.format_trace_id(reading.context.trace_id)}".lstrip()
        if extras:
            parts.append(self._paint(extras, "2"))
        lines = [" ".join(parts)]
        lines += [f"    {escape(line)}" for line in _stack(self, reading.record).splitlines()]
        return "\n".join(lines)

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text


def escape(text: str) -> str:
    r"""Write each character that could forge a line or steer a terminal as its `\uXXXX` escape."""
    if text.isprintable():  # none of them is
        return text
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def escape_beyond_ascii(line: str) -> str:
    r"""Write each character that a stream of another encoding may not have as its `\uXXXX` escape, as JSON does."""
    return _BEYOND_ASCII.sub(lambda match: _quoted_ascii(match[0])[1:-1], line)


def _extras(fields: dict[str, Any]) -> dict[str, Any]:
    """What stands behind that which each record has; in front of that, too, if a program makes records of its own."""
    names = list(fields)
    if len(names) < _FIELDS_OF_PLAIN or names[_FIELDS_OF_PLAIN - 1] != _LAST_OF_PLAIN:
        return {name: value for name, value in fields.items() if name not in STANDARD}
    return {name: fields[name] for name in names[_FIELDS_OF_PLAIN:] if name not in STANDARD}


def _named(extras: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in extras.items()}


def _stack(formatter: logging.Formatter, record: logging.LogRecord | None) -> str:
    if record is None or not (record.exc_info or record.exc_text or record.stack_info):
        return ""
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    stack_info = formatter.formatStack(record.stack_info) if record.stack_info else ""
    stack = "\n".join(part for part in (record.exc_text, stack_info) if part)
    return scrub_text(stack)[0] if stack else ""
