r"""The language in which traces, spans and logs are searched for: `service=orders error "out of stock"`.

A query is a list of conditions, all of which one span (or log record) has to meet:

- `key=value`, `key!=value`: an attribute of the span, of its resource or a field of its own (`FIELDS`), compared as
  text. `*` in a value stands for anything, so `key=*` asks whether it is there.
- `key>value`, `>=`, `<`, `<=`: compared as numbers; a value may have a unit of time (`200ms`), and is nanoseconds
  then.
- `error`: short for `error=true`.
- `word` or `"some words"`: text that occurs somewhere in it, in any case.
- `NOT condition`: it is not met. `AND` may stand between conditions and changes nothing.

Quotes keep a value together and take every meaning from what is in them; `\"` and `\\` stand for themselves there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

MAX_LENGTH, MAX_CONDITIONS = 2000, 32

FIELDS = {
    "service": "name of the service",
    "operation": "name of the span",
    "kind": "internal, server, client, producer or consumer",
    "status": "unset, ok or error",
    "error": "true where the status is error",
    "duration": "from start to end, as 200ms",
    "trace": "id of the trace",
    "span": "id of the span",
    "severity": "of a log record: TRACE, DEBUG, INFO, WARN, ERROR or FATAL",
    "message": "of a log record",
}
"""What a span or a log record has beside its attributes."""

Operator: TypeAlias = Literal["=", "!=", ">", ">=", "<", "<="]
Value: TypeAlias = str | int | float | bool

UNITS_NS = {"ns": 1, "us": 1000, "µs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_NUMBER = re.compile(r"([+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?)(ns|us|µs|ms|s|m|h)?")
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_TOKEN = re.compile(
    rf"""\s*(?:(?P<key>{_QUOTED}|[^\s"=!<>]+)(?P<operator>!=|>=|<=|=|>|<)(?P<value>{_QUOTED}|[^\s"]*)|(?P<text>{_QUOTED}|[^\s"]+))(?=\s|$)""",
    re.DOTALL,
)


class QueryError(Exception):
    """A query is malformed; the message says where, and what is expected."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field or attribute, against a value.

    `pattern` is the value as text, cut where a `*` stands for anything; `number` is it as a number (of nanoseconds, if
    it had a unit of time), or None.
    """

    key: str
    operator: Operator
    pattern: tuple[str, ...]
    number: float | None
    negated: bool = False

    @property
    def exact(self) -> str | None:
        """The one text that meets it, where it is such a comparison: what an index can look up."""
        return self.pattern[0] if self.operator == "=" and not self.negated and len(self.pattern) == 1 else None

    def holds(self, value: Value | None) -> bool:
        """Whether a span meets it whose field or attribute has this value; None if it has none."""
        return self._met(value) is not self.negated

    def _met(self, value: Value | None) -> bool:
        match self.operator:
            case "=":
                return value is not None and self._matches(as_text(value))
            case "!=":
                return value is None or not self._matches(as_text(value))
        number = _as_number(value)
        if number is None or self.number is None:
            return False
        match self.operator:
            case ">":
                return number > self.number
            case ">=":
                return number >= self.number
            case "<":
                return number < self.number
            case "<=":
                return number <= self.number

    def _matches(self, text: str) -> bool:
        if len(self.pattern) == 1:
            return text == self.pattern[0]
        first, *middle, last = self.pattern
        if not text.startswith(first):
            return False
        # Each part as far to the left as it fits, the last one at the end: no pattern takes long.
        at = len(first)
        for part in middle:
            found = text.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return len(text) - len(last) >= at and text.endswith(last)


@dataclass(frozen=True, slots=True)
class Text:
    """Text that occurs in the span's or record's names, values or message, in any case."""

    text: str
    negated: bool = False

    def holds(self, *texts: str) -> bool:
        """Whether it is met by something that has these texts."""
        wanted = self.text.casefold()
        return any(wanted in one.casefold() for one in texts) is not self.negated


Condition: TypeAlias = Comparison | Text
Query: TypeAlias = tuple[Condition, ...]


def parse(text: str) -> Query:
    """The conditions of a query; none for an empty one.

    Raises:
        QueryError: It is malformed, longer than `MAX_LENGTH`, or has more than `MAX_CONDITIONS`.
    """
    if len(text) > MAX_LENGTH:
        raise QueryError(f"a query has at most {MAX_LENGTH} characters")
    conditions: list[Condition] = []
    negated = False
    at, end = 0, len(text.rstrip())
    while at < end:
        token = _TOKEN.match(text, at, end)
        if token is None:
            raise QueryError(f"this cannot be read from here on: {text[at:end].strip()[:40]} (is a quote missing?)")
        at = token.end()
        match token["text"]:
            case "NOT":
                negated = not negated
                continue
            case "AND":
                continue
            case None:
                conditions.append(_comparison(token["key"], token["operator"], token["value"], negated=negated))
            case "error":
                conditions.append(Comparison("error", "=", ("true",), None, negated))
            case word:
                conditions.append(Text(_plain(word), negated))
        negated = False
    if negated:
        raise QueryError("NOT stands before a condition")
    if len(conditions) > MAX_CONDITIONS:
        raise QueryError(f"a query has at most {MAX_CONDITIONS} conditions")
    return tuple(conditions)


def equals(key: str, text: str) -> Comparison:
    """The condition that a field or an attribute has this value, whatever characters are in it."""
    return Comparison(key, "=", (text,), None)


def as_text(value: Value) -> str:
    """A value as it is compared and shown: as JSON has it, text without quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _comparison(key: str, operator: str, value: str, *, negated: bool) -> Comparison:
    plain = _plain(value)
    number = _NUMBER.fullmatch(plain)
    if operator not in ("=", "!=") and number is None:
        raise QueryError(f"{_plain(key)}{operator} is followed by a number, such as 500 or 200ms")
    return Comparison(
        _plain(key),
        cast("Operator", operator),  # the token's expression has no other
        (plain,) if value.startswith('"') else tuple(plain.split("*")),
        None if number is None else float(number[1]) * UNITS_NS[number[2] or "ns"],
        negated,
    )


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text.startswith('"') else text


def _as_number(value: Value | None) -> float | None:
    if isinstance(value, str):
        number = _NUMBER.fullmatch(value)
        return None if number is None or number[2] else float(number[1])
    return None if value is None or isinstance(value, bool) else float(value)
