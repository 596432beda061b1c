"""Cutting secrets out of what leaves the process: URLs, headers, SQL, free text.

Pure functions on plain values. They run in the exporters' threads for each attribute of each span, so a value that
cannot hold a secret is told apart by one search. What was cut is named by its path, never by its value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

REDACTED = "[REDACTED]"

ALLOWED_QUERY = frozenset({"after", "limit", "lookback", "offset", "order", "page", "sort"})
"""Names of query parameters whose values are kept; every other value in a URL is cut."""

_SECRET_NAME = re.compile(
    r"passw(?:or)?d|passphrase|secret|api[-_]?key|private[-_]?key|access[-_]?key|credential|authorization|cookie"
    r"|session[-_]?id|card[-_]?number|(?:^|[-_.])(?:pwd|token|cvv|cvc)$",
    re.IGNORECASE,
)
_SQL_NAMES = frozenset({"db.query.text", "db.statement"})
_QUERY_NAMES = frozenset({"url.query"})
_TARGET_NAMES = frozenset({"http.target", "http.url", "url.full"})

# One search decides whether a text can hold anything that the patterns below would cut.
_SUSPICIOUS = re.compile(
    r"://|\?\w|passw|pwd|secret|token|api[-_]?key|private|access[-_]?key|credential|authorization|cookie|bearer|basic "
    r"|cvv|cvc|session|eyJ|\d[ -]?\d{3}[ -]?\d{4}",
    re.IGNORECASE,
)
# Each repetition is bounded or cannot give way to its neighbour, so that time is linear in the text's length.
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[^\s\"'<>\\`]+", re.IGNORECASE)
_RELATIVE_QUERY = re.compile(r"(?<=\?)[\w.\-\[\]]{1,64}=[^\s\"'<>#]*")
_SCHEME = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_PAIR = re.compile(
    r"([\w-]{0,32}(?:passw(?:or)?d|passphrase|pwd|secret|token|api[-_]?key|private[-_]?key|access[-_]?key|credentials?"
    r"|authorization|cookie|cvv|cvc)[\"']?\s{0,3}[=:]\s{0,3})"
    r"(\"[^\"]*\"|'[^']*'|[^\s\"',;&)\]}]+)",
    re.IGNORECASE,
)
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*")
_PEM = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)", re.DOTALL)
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_SQL_NOISE = re.compile(r"/\*.*?(?:\*/|\Z)|--[^\n]*", re.DOTALL)
_SQL_LITERAL = re.compile(
    r"(\"(?:[^\"]|\"\")*\")"  # a quoted identifier stays
    r"|(?:\b[NEXB])?'(?:[^']|'')*(?:'|\Z)|\$(\w*)\$.*?(?:\$\2\$|\Z)"
    r"|(?<![\w$:.])(?:0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[+-]?\d+)?)\b",
    re.IGNORECASE | re.DOTALL,
)


def scrub_attributes(attributes: Mapping[str, Any], *, at: str = "attributes") -> tuple[dict[str, Any], list[str]]:
    """Clean the attributes of a span, an event, a link or a log record.

    Args:
        attributes: Names and values; nested mappings and sequences are cleaned too, other types are left alone.
        at: Path of the mapping itself.

    Returns:
        A cleaned copy and the paths of what was cut, such as `attributes.url.full`.
    """
    cut: list[str] = []
    return {name: _value(str(name), value, f"{at}.{name}", cut) for name, value in attributes.items()}, cut


def scrub_text(text: str) -> tuple[str, bool]:
    """Clean free text; the second value tells whether anything was cut."""
    if _SUSPICIOUS.search(text) is None:
        return text, False
    cleaned = _PEM.sub(REDACTED, text)
    cleaned = _URL.sub(lambda match: scrub_url(match[0])[0], cleaned)
    cleaned = _RELATIVE_QUERY.sub(lambda match: _query(match[0]), cleaned)
    cleaned = _SCHEME.sub(lambda match: f"{match[1]} {REDACTED}", cleaned)
    cleaned = _PAIR.sub(_pair, cleaned)
    cleaned = _JWT.sub(REDACTED, cleaned)
    cleaned = _CARD.sub(lambda match: REDACTED if _luhn(match[0]) else match[0], cleaned)
    return cleaned, cleaned != text


def scrub_url(url: str) -> tuple[str, bool]:
    """Drop a URL's user info and fragment, and cut the values of its query; the second value tells of a change."""
    rest, _, _ = url.partition("#")
    rest, question, query = rest.partition("?")
    scheme, separator, location = rest.partition("://")
    if separator:
        authority, slash, path = location.partition("/")
        _, at, host = authority.rpartition("@")
        rest = f"{scheme}://{host if at else authority}{slash}{path}"
    cleaned = f"{rest}{question}{_query(query)}"
    return cleaned, cleaned != url


def scrub_sql(sql: str) -> tuple[str, bool]:
    """Replace each literal by `?` and drop comments; parameters and quoted identifiers stay."""
    cleaned = _SQL_LITERAL.sub(lambda match: match[1] or "?", _SQL_NOISE.sub("", sql))
    return cleaned, cleaned != sql


@lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _value(name: str, value: Any, path: str, cut: list[str]) -> Any:  # noqa: ANN401 - whatever an attribute holds
    if _is_secret(name) and isinstance(value, (str, bytes, Sequence, Mapping)):
        if value in (REDACTED, [REDACTED], (REDACTED,)):
            return value
        cut.append(path)
        return REDACTED if isinstance(value, (str, bytes, Mapping)) else [REDACTED]
    if isinstance(value, str):
        cleaned, changed = _string(name, value)
        if changed:
            cut.append(path)
        return cleaned
    if isinstance(value, Mapping):
        return {key: _value(str(key), item, f"{path}.{key}", cut) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_value(name, item, f"{path}[{index}]", cut) for index, item in enumerate(value)]
    return value


def _string(name: str, value: str) -> tuple[str, bool]:
    if name in _SQL_NAMES:
        return scrub_sql(value)
    if name in _QUERY_NAMES:
        cleaned = _query(value)
        return cleaned, cleaned != value
    if name in _TARGET_NAMES:
        return scrub_url(value)
    return scrub_text(value)


def _query(query: str) -> str:
    return "&".join(_parameter(parameter) for parameter in query.split("&"))


def _parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not value or name in ALLOWED_QUERY:
        return parameter
    return f"{name}{equals}{REDACTED}"


def _pair(match: re.Match[str]) -> str:
    quote = match[2][0] if match[2][0] in "\"'" else ""
    return (
        match[0]
        if match[2].startswith(("[REDACTED", "Bearer", "Basic", "bearer", "basic"))
        else (f"{match[1]}{quote}{REDACTED}{quote}")
    )


def _luhn(text: str) -> bool:
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]  # noqa: PLR2004 - Luhn's own numbers
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
