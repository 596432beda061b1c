"""Cutting secrets out of what leaves the process."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observability import scrub
from observability.scrub import MAX_TEXT, REDACTED, scrub_attributes, scrub_sql, scrub_text, scrub_url


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://user:canary@host/path", "https://host/path"),
        ("https://host/?token=canary&limit=3", "https://host/?token=[REDACTED]&limit=3"),
        ("https://host/#canary", "https://host/"),
        ("/orders?x=canary", "/orders?x=[REDACTED]"),
        ("https://host/?canary", "https://host/?[REDACTED]"),
        ("https://host/?q%3Dcanary", "https://host/?[REDACTED]"),
        ("postgres://user:a/canary@host/db", "postgres://host/db"),
        ("https://proxy/https://user:canary@host/db", "https://proxy/https://host/db"),
        ("https://x:y@https://u:canary@host/", "https://https://host/"),
        ("https://user:se/cr://canary@host/", "https://host/"),
        ("postgresql://u:a://canary@db/x", "postgresql://db/x"),
        ("https://host/orders/7", "https://host/orders/7"),
        ("https://host:8000/@user/a:b?limit=3", "https://host:8000/@user/a:b?limit=3"),
    ],
)
def test_url(url: str, clean: str) -> None:
    """User info and fragment go, and each query value whose name is not allowed."""
    assert scrub_url(url) == (clean, url != clean)


@pytest.mark.parametrize(
    "text",
    [
        "postgres://user:canary@host/db is down",
        "GET /x?token=canary failed",
        "Authorization: Bearer canarycanary",
        "password=canary",
        "{'password': 'canary'}",
        '{"api_key": "canary", "a": 1}',
        r'{"body": "{\"password\": \"canary\", \"a\": 1}"}',
        r'{"password": "a\"canary"}',
        "Cookie: a=b; session=canary",
        "[(b'cookie', b's=canary')]",
        "('password', 'canary')",
        "basic Y2FuYXJ5canary==",
        "Basic\tY2FuYXJ5canary==",
        "GET ?[a]=canary failed",
        "GET ?-a=canary failed",
        "(IntegrityError) UNIQUE\n[SQL: INSERT INTO t VALUES ('canary', ?)]\n(Background on this error)",
        "[SQL: SELECT 'canary']",
        "-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_text(text: str) -> None:
    """A secret in free text is cut, in whatever notation."""
    clean, changed = scrub_text(text)
    assert changed
    assert "canary" not in clean


@pytest.mark.parametrize("text", ["card 4242424242424242", "card 4242 4242 4242 4242."])
def test_card(text: str) -> None:
    """A card number is cut."""
    assert "4242" not in scrub_text(text)[0]


@pytest.mark.parametrize(
    "text",
    [
        "token_count=5",
        "order 27376cd474884b15aba40d3a881019ca",
        "2026-11-24T14:34:59Z",
        "bearer tokens are checked",
        "basic authentication is off",
        "[SQL: SELECT a FROM t WHERE b = ?]\n(Background on this error)",
    ],
)
def test_harmless(text: str) -> None:
    """What only looks a little like a secret stays."""
    assert scrub_text(text) == (text, False)


@pytest.mark.parametrize(
    ("sql", "clean"),
    [
        ("SELECT * FROM t WHERE a = 'can''ary' AND b = 12.5", "SELECT * FROM t WHERE a = ? AND b = ?"),
        ("INSERT INTO t2 VALUES (?, :a, $1, %s, %(b)s) -- canary", "INSERT INTO t2 VALUES (?, :a, $1, %s, %(b)s)  "),
        ("SELECT a -/**/- b /* canary */", "SELECT a - - b  "),
        (r"SELECT E'a\'canary', '\', 'canary'", "SELECT ?, ?, ?"),
        ('SELECT "col1" FROM "t"', 'SELECT "col1" FROM "t"'),
    ],
)
def test_sql(sql: str, clean: str) -> None:
    """Literals and comments go; parameters and quoted identifiers stay."""
    assert scrub_sql(sql) == (clean, sql != clean)


def test_attributes() -> None:
    """What was cut is named by its path; what was not keeps its value and type."""
    attributes = {
        "url.full": "https://host/?token=canary",
        "http.request.header.authorization": ["canary"],
        "nested": {"password": "canary", "items": ["https://u:canary@host/", 1], (1, 2): b"token=canary"},
        "object": ValueError("password=canary"),
        "harmless": b"abc",
        "secretary": "Kim",
        "http.response.status_code": 200,
        "card_number": 4242,
        "has_password": True,
    }
    clean, cut = scrub_attributes(attributes)
    assert "canary" not in str(clean)
    assert (clean["http.response.status_code"], clean["card_number"], clean["has_password"]) == (200, REDACTED, True)
    assert (clean["harmless"], clean["secretary"]) == (b"abc", "Kim")
    assert cut == [
        "attributes.url.full",
        "attributes.http.request.header.authorization",
        "attributes.nested.password",
        "attributes.nested.items[0]",
        "attributes.nested.(1, 2)",
        "attributes.object",
        "attributes.card_number",
    ]


@given(st.text())
def test_text_is_stable(text: str) -> None:
    """Cleaning what is clean changes nothing, whatever the text."""
    clean, _ = scrub_text(text)
    assert scrub_text(clean) == (clean, False)


def test_long_text() -> None:
    """Of a long text the beginning and the end are kept, and that is told as a cut."""
    clean, changed = scrub_text("begin " + "x" * 100_000 + " end")
    assert changed
    assert len(clean) == MAX_TEXT
    assert clean.startswith("begin x")
    assert clean.endswith("x end")
    assert " … 83626 characters … " in clean
    assert scrub_attributes({"db.query.text": "SELECT " + "x" * 100_000})[1] == ["attributes.db.query.text"]


def test_key_in_long_text() -> None:
    """Of a private key no line is left where its first one is what a long text loses."""
    lines = "".join(f"canary{number:058}\n" for number in range(25))
    key = f"-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----"
    for before in range(MAX_TEXT // 2 - 100, MAX_TEXT // 2):
        text = "a" * before + key
        assert "canary" not in scrub_text(text + "b" * (MAX_TEXT + 40 - len(text)))[0]


@pytest.mark.parametrize(
    "text",
    [
        "password",
        "a://",
        "1 ",
        "?a=",
        "eyJaaaaaaaaa-",
        "token='",
        'token="',
        'token=\\"',
        "[SQL: '",
        "cookie:",
        "bearer a",
        "bearer=",
        "a:b",
        "http://a:b",
    ],
)
def test_text_made_to_be_slow(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """No text makes a pattern try its every part anew: one whose time grows with the square would never end here."""
    monkeypatch.setattr(scrub, "MAX_TEXT", 10**7)
    scrub_text(text * 100_000)


_ONE_PATTERN = re.compile(
    r"://|\?[\w.\-\[\]]|\[SQL: |passw|pwd|secret|token|api[-_]?key|private|access[-_]?key|credential|authorization"
    r"|cookie|bearer|basic|cvv|cvc|session|eyJ|\d[ -]?\d{3}[ -]?\d{4}",
    re.IGNORECASE,
)


@given(
    st.lists(
        st.sampled_from(
            [*"PasSWdtokKeNi:/?w[SQL]é0 -_\u017f\u212a\u0131\u0130\u0663", "api", "key", "\u017fecret", "1234"]
        ),
        max_size=12,
    )
)
def test_suspicious(parts: list[str]) -> None:
    """The quick look finds all that one pattern of everything would, in every case and script."""
    text = "".join(parts)
    if _ONE_PATTERN.search(text):
        assert scrub._is_suspicious(text)
    if scrub._is_suspicious(text):
        assert scrub._may_be_suspicious(text)


@pytest.mark.parametrize("word", [*scrub._SUSPICIOUS_WORDS, "?a", "12345678", "1 234-5678", "9876 5432"])
def test_hints(word: str) -> None:
    """The first, quickest look passes over none of what the second one looks for, in either case."""
    for text in (word, word.upper(), f"a{word}b"):
        assert scrub._is_suspicious(text)
        assert scrub._may_be_suspicious(text)


def test_remembered() -> None:
    """Of clean texts short ones are remembered, in bounded number; one with a secret never is."""
    for number in range(scrub.MAX_REMEMBERED + 5):
        assert scrub_text(f"order {number}") == (f"order {number}", False)
    long = "x" * (scrub.MAX_REMEMBERED_CHARACTERS + 1)
    for text in ("password=canary", long, "password=canary", long):
        scrub_text(text)
    assert 0 < len(scrub._clean) <= scrub.MAX_REMEMBERED
    assert not {"password=canary", long} & scrub._clean


def test_letters_of_the_same_word() -> None:
    """The quick look knows every letter that counts as one of a word's where case does not matter."""
    letter = re.compile("[a-z]", re.IGNORECASE)
    other = [chr(code) for code in range(128, sys.maxunicode + 1) if letter.match(chr(code))]
    assert [one for one in other if not one.translate(scrub._AS_GOOD_AS).lower().isascii()] == []
