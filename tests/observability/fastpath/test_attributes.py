"""What is remembered of attributes."""

from __future__ import annotations

from observability.fastpath import attributes as attributes_module
from observability.fastpath.attributes import Attributes, plain
from observability.scrub import REDACTED

PATHS = ["attributes.url.query"]


def test_bounded() -> None:
    """Neither many values nor large ones are all remembered."""
    encoder = Attributes(b"\x4a")
    for number in range(attributes_module.MAX_REMEMBERED + 5):
        encoder.add({"a": str(number), "b": number, f"key{number}": "x"}, [], [])
        encoder.tell([f"attributes.{number}"], {}, [], 0)
        encoder.add({"url.query": f"q{number}=secret"}, [], [])
    encoder.add({"a": "x" * 1000}, [], [])
    for path in ("x" * 1000, "\ud800" * 1000):
        encoder.tell([path], {}, [], 0)
        assert (path,) not in encoder._paths
    remembered = (encoder._texts, encoder._ints, encoder._heads, encoder._paths, encoder._cut_texts)
    assert all(len(known) <= attributes_module.MAX_REMEMBERED for known in remembered)
    assert ("a", "x" * 1000) not in encoder._texts


def test_secrets_are_not_remembered() -> None:
    """What was cut is nowhere kept in the clear."""
    encoder = Attributes(b"\x4a")
    parts: list[bytes] = []
    cut: list[str] = []
    encoder.add({"password": "canary", "url.full": "https://u:canary@host/", "cvv": 123}, parts, cut)
    encoder.tell(cut, {}, parts, 0)
    assert "canary" not in repr(vars(encoder))
    assert encoder._ints == {}
    assert cut == ["attributes.password", "attributes.url.full", "attributes.cvv"]
    assert parts[2] == plain({"cvv": REDACTED}, b"\x4a")


def test_what_was_cut_comes_again() -> None:
    """What is left of a value that was cut, and what tells of it, are encoded once, and the same each time."""
    encoder = Attributes(b"\x4a")
    told: list[list[bytes]] = []
    for secret in ("spans=1", "spans=2", "spans=[REDACTED]"):
        parts: list[bytes] = []
        cut: list[str] = []
        encoder.add({"url.query": secret}, parts, cut)
        encoder.tell(cut, {"url.query": secret}, parts, 0)
        told.append(parts)
    assert told[0] == [plain({"url.query": "spans=[REDACTED]"}, b"\x4a"), plain({"clearspan.scrubbed": PATHS}, b"\x4a")]
    assert [one is other for one, other in zip(told[0], told[1], strict=True)] == [True, True]
    assert told[2] == told[0][:1]


def test_what_was_cut_is_no_clean_text() -> None:
    """What is left of one value is cut when it is another one that has to be."""
    encoder = Attributes(b"\x4a")
    for sql in ("SELECT $$a$$0x1f", "SELECT ?0x1f"):
        cut: list[str] = []
        parts: list[bytes] = []
        encoder.add({"db.query.text": sql}, parts, cut)
        assert cut == ["attributes.db.query.text"]
    assert b"0x1f" not in parts[0]


def test_equal_values_of_other_types() -> None:
    """1, 1.0 and True are equal for Python, and not for who reads the attribute."""
    encoder = Attributes(b"\x4a")
    parts: list[bytes] = []
    for value in (1, True, 1.0, 1):
        encoder.add({"a": value}, parts, [])
    assert (len(set(parts)), parts[0]) == (3, parts[3])
