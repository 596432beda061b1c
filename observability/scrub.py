"""Cutting secrets out of what leaves the process: URLs, headers, SQL, free text.

Pure functions on plain values. They run in the exporters' threads for each attribute of each span, and in the caller's
for each line on stdout, so a value that cannot hold a secret is told apart by a quick look, which short texts need but
once, and no text is longer than `MAX_TEXT` characters. What was cut is named by its path, never by its value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

REDACTED = "[REDACTED]"

MAX_TEXT = 16 * 1024
"""Characters of a text that are kept, its beginning and its end; a stack trace tells most at its end."""

ALLOWED_QUERY = frozenset({"after", "limit", "lookback", "offset", "order", "page", "sort"})
"""Names of query parameters whose values are kept; every other value in a URL is cut."""

MAX_REMEMBERED = 4096
"""Clean texts that are remembered, since most come again; beyond them all are forgotten."""

MAX_REMEMBERED_CHARACTERS = 128

_clean: set[str] = set()

_SECRET_NAME = re.compile(
    r"passw(?:or)?d|passphrase|secret(?!ar)|api[-_]?key|private[-_]?key|access[-_]?key|credential|authorization|cookie"
    r"|session[-_]?id|card[-_]?number|(?:^|[-_.])(?:pwd|token|cvv|cvc)$|^url\.fragment$|^db\.query\.parameter\.",
    re.IGNORECASE,
)
_SQL_NAMES = frozenset({"db.query.text", "db.statement"})
_QUERY_NAMES = frozenset({"url.query"})
_NAMES_WITH_RULES = frozenset({"http.target", "http.url", "url.full"}) | _SQL_NAMES | _QUERY_NAMES

# One of these is in each text that holds anything the patterns below would cut, once its capitals are small and its
# digits are zeros: for words a search of each takes a tenth of the time of one pattern for all of them.
_HINTS = (
    *("?", "0000000", "000 0000", "000-0000", "://", "[sql: ", "key", "passw", "pwd", "secret", "token", "private"),
    *("credential", "cookie", "authorization", "bearer", "basic", "cv", "session", "eyj"),
)
_FOLDED = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ123456789", b"abcdefghijklmnopqrstuvwxyz000000000")

# What tells, in lower case, that the patterns have to be tried.
_SUSPICIOUS_WORDS = (
    *("://", "[sql: ", "passw", "pwd", "secret", "token", "private", "credential", "authorization", "cookie"),
    *("api-key", "api_key", "apikey", "access-key", "access_key", "accesskey"),
    *("bearer", "basic", "cvv", "cvc", "session", "eyj"),
)
_SUSPICIOUS_QUERY = re.compile(r"\?[\w.\-\[\]]")
_SUSPICIOUS_DIGITS = re.compile(r"\d[ -]?\d{3}[ -]?\d{4}")
# Letters that count as one of those words' where case does not matter, and have another one in lower case.
_AS_GOOD_AS = str.maketrans("\u0130\u0131\u017f", "iis")
# Each repetition is bounded or cannot give way to its neighbour, so that time is linear in the text's length.
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[^\s\"'<>\\`]+", re.IGNORECASE)
# Up to the last @ before the path; a password may hold a raw slash, and what follows the colon is then no port.
_USER_INFO = re.compile(r"^(?:[^/]*@|[^/:@]*:(?!\d{1,5}(?:/|$)).*@)")
_RELATIVE_QUERY = re.compile(r"(?<=\?)[\w.\-\[\]]{1,64}=[^\s\"'<>#]*")
# A word after `bearer` is a token if it is long or has a digit or a capital; "bearer tokens" is English.
_SCHEME = re.compile(r"\b((?i:bearer|basic))\s+(?:(?=[\w.~+/=-]{0,64}[A-Z0-9=])[\w.~+/=-]{6,}|[\w.~+/=-]{16,})")
# name=value, name: value, "name": value, \"name\": value, ('name', b'value')
_JOINT = r"(?:\\?[\"'],\s{0,3}|\\?[\"']?\s{0,3}[=:]\s{0,3})(?:b(?=[\"']))?"
_QUOTED = r"\\\"(?:[^\"\\]|\\[^\"])*\\\"|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_COOKIE = re.compile(rf"(cookie{_JOINT})({_QUOTED}|[^\r\n\"']+)", re.IGNORECASE | re.DOTALL)
_PAIR = re.compile(
    r"((?:passw(?:or)?d|passphrase|pwd|secret|token|api[-_]?key|private[-_]?key|access[-_]?key|credentials?"
    rf"|authorization|cvv|cvc){_JOINT})({_QUOTED}|(?:(?:bearer|basic)\s+)?[^\s\"',;&)\]}}\\]+)",
    re.IGNORECASE | re.DOTALL,
)
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*")
_PEM = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)", re.DOTALL)
_PEM_END = "PRIVATE KEY-----"
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_SQL_BLOCK = "[SQL: "
_SQL_NOISE = re.compile(r"/\*.*?(?:\*/|\Z)|--[^\n]*", re.DOTALL)
_SQL_LITERAL = re.compile(
    r"(\"(?:[^\"]|\"\")*\")"  # a quoted identifier stays
    r"|\bE'(?:[^'\\]|\\.|'')*(?:'|\Z)"  # only here does a backslash escape, in PostgreSQL
    r"|(?:\b[NXB])?'(?:[^']|'')*(?:'|\Z)|\$(\w*)\$.*?(?:\$\2\$|\Z)"
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


def scrub_attribute(name: str, text: str) -> tuple[str, bool]:
    """Clean the text that is one attribute's value, as `scrub_attributes` does; the second value tells of a cut."""
    if is_secret(name):
        return REDACTED, text != REDACTED
    return _string(name, text)


def scrub_text(text: str) -> tuple[str, bool]:
    """Clean free text; the second value tells whether anything was cut."""
    short = len(text) <= MAX_REMEMBERED_CHARACTERS
    if short and text in _clean:
        return text, False
    shortened = _shorten(text)
    if shortened is not text and _PEM_END in text:
        shortened = _shorten(_PEM.sub(REDACTED, text))  # or a key might be left whose first line was not
    if not (_may_be_suspicious(shortened) and _is_suspicious(shortened)):
        if short and type(text) is str:
            _remember(text)
        return shortened, shortened is not text
    cleaned = _PEM.sub(REDACTED, shortened)
    if _SQL_BLOCK in cleaned:
        cleaned = _sql_blocks(cleaned)
    cleaned = _URL.sub(lambda match: scrub_url(match[0])[0], cleaned)
    cleaned = _RELATIVE_QUERY.sub(lambda match: _query(match[0]), cleaned)
    cleaned = _SCHEME.sub(lambda match: f"{match[1]} {REDACTED}", cleaned)
    cleaned = _COOKIE.sub(_pair, cleaned)
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
        # A password may hold anything; and a path another URL.
        inner = _USER_INFO.sub("", location).split("://")
        rest = "://".join((scheme, *(_USER_INFO.sub("", one) for one in inner)))
    cleaned = f"{rest}{question}{_query(query)}"
    return cleaned, cleaned != url


def scrub_sql(sql: str) -> tuple[str, bool]:
    """Replace each literal by `?` and each comment by a space; parameters and quoted identifiers stay."""
    cleaned = _SQL_LITERAL.sub(lambda match: match[1] or "?", _SQL_NOISE.sub(" ", sql))
    return cleaned, cleaned != sql


def _remember(text: str) -> None:
    if len(_clean) >= MAX_REMEMBERED:
        _clean.clear()
    _clean.add(text)


def is_secret(name: str) -> bool:
    """Whether a text or a whole number of this name is a secret, whatever it is."""
    return _is_secret(name) if len(name) <= MAX_REMEMBERED_CHARACTERS else _SECRET_NAME.search(name) is not None


@lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _value(name: str, value: Any, path: str, cut: list[str]) -> Any:  # noqa: ANN401 - whatever an attribute holds
    if value is None or isinstance(value, (bool, float)):
        return value
    if is_secret(name):
        if value in (REDACTED, [REDACTED], (REDACTED,)):
            return value
        cut.append(path)
        return [REDACTED] if isinstance(value, (list, tuple)) else REDACTED
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        cleaned, changed = _string(name, value)
        if changed:
            cut.append(path)
        return cleaned
    if isinstance(value, Mapping):
        return {str(key): _value(str(key), item, f"{path}.{key}", cut) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_value(name, item, f"{path}[{index}]", cut) for index, item in enumerate(value)]
    # Bytes and objects are judged by what they would be written as.
    cleaned, changed = scrub_text(value.decode("latin-1") if isinstance(value, bytes) else str(value))
    if changed:
        cut.append(path)
    return cleaned if changed else value


def _string(name: str, value: str) -> tuple[str, bool]:
    if name not in _NAMES_WITH_RULES:
        return scrub_text(value)
    shortened = _shorten(value)
    if shortened is not value:
        return _string(name, shortened)[0], True
    if name in _SQL_NAMES:
        return scrub_sql(value)
    if name in _QUERY_NAMES:
        cleaned = _query(value)
        return cleaned, cleaned != value
    return scrub_url(value)


def _may_be_suspicious(text: str) -> bool:
    """Whether `_is_suspicious` has to be asked, at a quarter of its time."""
    if not text.isascii():
        return True
    folded = text.encode().translate(_FOLDED).decode()
    for hint in _HINTS:  # noqa: SIM110 - a generator takes twice as long
        if hint in folded:
            return True
    return False


def _is_suspicious(text: str) -> bool:
    lower = text.lower()
    if not text.isascii():
        lower = text.translate(_AS_GOOD_AS).lower()
    for word in _SUSPICIOUS_WORDS:
        if word in lower:
            return True
    return _SUSPICIOUS_QUERY.search(lower) is not None or _SUSPICIOUS_DIGITS.search(lower) is not None


def _query(query: str) -> str:
    return "&".join(_parameter(parameter) for parameter in query.split("&"))


def _parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    if not parameter or name in ALLOWED_QUERY or (equals and not value):
        return parameter
    return f"{name}={REDACTED}" if equals else REDACTED  # without a name it may be the secret itself


def _shorten(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    mark = f" … {len(text) - MAX_TEXT} characters … "
    half = (MAX_TEXT - len(mark)) // 2
    return f"{text[:half]}{mark}{text[-half:]}"


def _sql_blocks(text: str) -> str:
    """Clean the statements that SQLAlchemy puts into its exceptions' texts, as `[SQL: ...]` up to a line's end."""
    before, *blocks = text.split(_SQL_BLOCK)
    cleaned = [before]
    for block in blocks:
        sql, end, rest = block.partition("]\n")
        cleaned.append(scrub_sql(sql)[0] + end + rest)
    return _SQL_BLOCK.join(cleaned)


def _pair(match: re.Match[str]) -> str:
    value = match[2]
    if value.startswith("[REDACTED"):
        return match[0]
    quote = '\\"' if value.startswith('\\"') else value[0] if value[0] in "\"'" else ""
    return f"{match[1]}{quote}{REDACTED}{quote}"


def _luhn(text: str) -> bool:
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]  # noqa: PLR2004 - Luhn's own numbers
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
