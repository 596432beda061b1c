from __future__ import annotations

import fnmatch
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observability.viewer.query import MAX_CONDITIONS, MAX_LENGTH, Comparison, QueryError, Text, as_text, parse


def _one(text: str) -> Comparison:
    (condition,) = parse(text)
    assert isinstance(condition, Comparison)
    return condition


def test_parse() -> None:
    """Comparisons, words, quoted text and negations are told apart."""
    assert parse('service=orders  error AND NOT http.route="/a b" duration>=1.5ms "out of \\"stock\\"" mug') == (
        Comparison("service", "=", ("orders",), None),
        Comparison("error", "=", ("true",), None),
        Comparison("http.route", "=", ("/a b",), None, negated=True),
        Comparison("duration", ">=", ("1.5ms",), 1_500_000.0),
        Text('out of "stock"'),
        Text("mug"),
    )
    assert parse("  ") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('service="orders', "quote"),
        ("duration>long", "duration> is followed by a number"),
        ("error NOT", "NOT stands before"),
        ("x" * (MAX_LENGTH + 1), "at most"),
        ("a " * (MAX_CONDITIONS + 1), "at most"),
    ],
)
def test_malformed(text: str, said: str) -> None:
    """What cannot be read is refused with a message that says what is expected."""
    with pytest.raises(QueryError, match=said):
        parse(text)


@given(st.text(alphabet='ab="\\*<>! NOT\n', max_size=40))
def test_any_text(text: str) -> None:
    """Whatever is typed is read or refused with a message, and what was read can be asked of anything."""
    with suppress(QueryError):
        for condition in parse(text):
            if isinstance(condition, Comparison):
                assert condition.holds(text) in (True, False)
                assert condition.holds(None) is (condition.negated is not (condition.operator == "!="))
            else:
                assert condition.holds(condition.text) is not condition.negated


@given(key=st.text(min_size=1, max_size=10), value=st.text(max_size=20))
def test_quoted(key: str, value: str) -> None:
    """Any key and any value can be asked for in quotes."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    condition = _one(f"{quoted(key)}={quoted(value)}")
    assert (condition.key, condition.exact) == (key, value)


@given(pattern=st.text(alphabet="ab*", max_size=8), value=st.text(alphabet="ab", max_size=8))
def test_wildcards(pattern: str, value: str) -> None:
    """A `*` stands for anything, as in the names of files."""
    assert _one(f"key={pattern}").holds(value) is fnmatch.fnmatchcase(value, pattern)


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("status>=500", 503, True),
        ("status>=500", "503", True),
        ("status>=500", 499, False),
        ("status>=500", None, False),
        ("status>=500", "many", False),
        ("NOT status>=500", None, True),
        ("duration<2s", 1_999_999_999, True),
        ("duration<2s", 2_000_000_000, False),
        ("cached=true", True, True),
        ("cached>0", True, False),
        ("ratio=0.5", 0.5, True),
        ("key!=a", None, True),
        ("key!=a", "a", False),
        ("key=*", "", True),
        ("key=*", None, False),
        ('key="*"', "b", False),
    ],
)
def test_holds(text: str, value: str | float | bool | None, holds: bool) -> None:
    """Text is compared as text, numbers as numbers, and what is not there meets only what denies."""
    assert _one(text).holds(value) is holds


def test_text() -> None:
    """Text is found in any case, in any of what it is looked for in."""
    (condition,) = parse('"Out of"')
    assert isinstance(condition, Text)
    assert condition.holds("mug", "it is OUT OF stock")
    assert not condition.holds("mug")


def test_as_text() -> None:
    """Values are text as JSON has it."""
    assert [as_text(value) for value in (True, 3, 0.5, "a")] == ["true", "3", "0.5", "a"]
