"""What is remembered of attributes."""

from __future__ import annotations

from observability.fastpath import attributes as attributes_module
from observability.fastpath.attributes import Attributes, plain
from observability.scrub import REDACTED


def test_bounded() -> None:
    """Neither many values nor large ones are all remembered."""
    encoder = Attributes(b"\x4a")
    for number in range(attributes_module.MAX_REMEMBERED + 5):
        encoder.add({"a": str(number), "b": number, f"key{number}": "x"}, [], [])
    encoder.add({"a": "x" * 1000}, [], [])
    remembered = (encoder._texts, encoder._ints, encoder._heads)
    assert all(len(known) <= attributes_module.MAX_REMEMBERED for known in remembered)
    assert ("a", "x" * 1000) not in encoder._texts


def test_secrets_are_not_remembered() -> None:
    """What was cut is nowhere kept in the clear."""
    encoder = Attributes(b"\x4a")
    parts: list[bytes] = []
    cut: list[str] = []
    encoder.add({"password": "canary", "url.full": "https://u:canary@host/", "cvv": 123}, parts, cut)
    assert (encoder._texts, encoder._ints) == ({}, {})
    assert cut == ["attributes.password", "attributes.url.full", "attributes.cvv"]
    assert parts[2] == plain({"cvv": REDACTED}, b"\x4a")


def test_equal_values_of_other_types() -> None:
    """1, 1.0 and True are equal for Python, and not for who reads the attribute."""
    encoder = Attributes(b"\x4a")
    parts: list[bytes] = []
    for value in (1, True, 1.0, 1):
        encoder.add({"a": value}, parts, [])
    assert (len(set(parts)), parts[0]) == (3, parts[3])
