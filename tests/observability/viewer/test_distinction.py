"""What sets some traces apart from the rest."""

from __future__ import annotations

import pytest

from observability.viewer import distinction
from observability.viewer.distinction import FEWEST, Selection, distinction_json
from observability.viewer.query import equals, parse
from observability.viewer.store import Store, bodies
from tests.observability.viewer.samples import START_NS, add, number, span, text, trace_id

MS = 1_000_000
SECOND = 1000 * MS


def _shop(store: Store, *, orders: int = 60) -> None:
    """Orders, one a second, of which every sixth is paid with a card that takes long, and then fails."""
    for trace in range(1, orders + 1):
        at, bad = trace * SECOND, trace % 6 == 0
        length = 300 * MS if bad else 20 * MS
        add(
            store,
            span(
                trace,
                1,
                name="POST /orders",
                start_ns=at,
                end_ns=at + length,
                error=bad,
                attributes=[text("sku", "mug" if trace % 2 else "anvil"), number("id", trace)],
            ),
        )
        add(
            store,
            span(
                trace,
                2,
                1,
                name="pay",
                start_ns=at,
                end_ns=at + length // 2,
                attributes=[text("card", "slow" if bad else "quick"), text("bank", "far" if bad else "near")],
            ),
            service="payments",
        )


def _told(store: Store, selection: Selection) -> list[tuple[str, int, int, bool]]:
    told = distinction_json(store, selection)
    return [(f"{one['key']}={one['value']}", one["selected"], one["rest"], one["adds"]) for one in told["attributes"]]


def test_errors(store: Store) -> None:
    """What traces with errors have and others have not is told, with what comes with it; what all have is not."""
    _shop(store)
    told = distinction_json(store, Selection("errors", (), None, None))
    assert (told["selected"], told["rest"], told["complete"]) == (10, 50, True)
    (card, sku) = told["attributes"]
    assert card == {
        "key": "bank",
        "value": "far",
        "adds": True,
        "selected": 10,
        "rest": 0,
        "alike": [{"key": "card", "value": "slow", "adds": True}],
        "many": 1,
    }
    assert (sku["value"], sku["selected"], sku["rest"]) == ("anvil", 10, 20)


def test_what_is_told_is_found(store: Store) -> None:
    """As many traces as are told to have an attribute are found by it."""
    _shop(store)
    for one in distinction_json(store, Selection("query", parse("error"), None, None))["attributes"]:
        found = store.find((equals(one["key"], one["value"]),), limit=1000).traces
        assert len(found) == one["selected"] + one["rest"]


def test_query(store: Store) -> None:
    """Traces that meet a query are set apart from all others of the time; what the query says itself is not told."""
    _shop(store)
    assert _told(store, Selection("query", parse("card=slow"), None, None)) == [
        ("bank=far", 10, 0, True),
        ("sku=anvil", 10, 20, False),
    ]
    told = distinction_json(store, Selection("query", parse("card=slow"), START_NS + 31 * SECOND, None))
    assert (told["selected"], told["rest"]) == (5, 25)


def test_box(store: Store) -> None:
    """Traces of a time that took so long are set apart from the others that meet the query."""
    _shop(store)
    slow = Selection(
        "box",
        parse("operation=pay"),
        None,
        None,
        START_NS,
        START_NS + 45 * SECOND,
        shortest_ns=100 * MS,
        longest_ns=SECOND,
    )
    told = distinction_json(store, slow)
    assert (told["selected"], told["rest"]) == (7, 53)
    assert _told(store, slow)[0] == ("bank=far", 7, 3, True)
    assert ("error=true", 7, 3, False) in [
        (f"{one['key']}={one['value']}", 7, 3, one["adds"]) for one in told["attributes"][0]["alike"]
    ]


def test_of_the_same_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are many others, those that are looked at are spread over the time as those that are selected."""
    monkeypatch.setattr(distinction, "MAX_TRACES", 20)
    for trace in range(1, 201):
        hour = text("hour", str(trace // 50))
        add(store, span(trace, start_ns=trace * SECOND, error=trace % 20 == 0, attributes=[hour]))
    told = distinction_json(store, Selection("errors", (), None, None))
    assert (told["selected"], told["rest"], told["complete"], told["attributes"]) == (10, 18, False, [])


def test_root_first(store: Store) -> None:
    """Of what the same traces have the operation of the root stands for the rest."""
    for trace in range(1, 21):
        name, key = ("GET /", "a") if trace % 2 else ("POST /", "b")
        add(store, span(trace, 1, name=name, end_ns=MS * (trace % 2), attributes=[text(key, key)]))
    assert _told(store, Selection("query", parse("duration>0"), None, None)) == [("operation=GET /", 10, 0, True)]


def test_many_values_of_a_key(store: Store) -> None:
    """Of one key a few values are told, so that others are seen."""
    for trace in range(1, 101):
        bad = trace > 50
        attributes = [number("shard", trace % 5 + 10 * bad), text("zone", "b" if bad or trace % 5 == 0 else "a")]
        add(store, span(trace, start_ns=trace * SECOND, error=bad, attributes=attributes))
    assert [key for key, *_ in _told(store, Selection("errors", (), None, None))] == [
        "zone=b",
        "shard=10",
        "shard=11",
        "shard=12",
    ]


def test_too_few(store: Store) -> None:
    """Few traces on a side tell nothing; that they are few is told."""
    _shop(store, orders=6 * (FEWEST - 1))
    told = distinction_json(store, Selection("errors", (), None, None))
    assert (told["selected"], told["attributes"]) == (FEWEST - 1, [])
    _shop(store, orders=6 * FEWEST)
    assert _told(store, Selection("errors", (), None, None)) == [("bank=far", FEWEST, 0, True)]
    assert distinction_json(store, Selection("query", parse("nowhere=1"), None, None))["selected"] == 0


def test_chance(store: Store) -> None:
    """What chance may have made is not told, nor what hardly any of the selected has, nor the names of connections."""
    for trace in range(1, 101):
        attributes = [number("client.port", trace % 5), text("often", "yes" if trace % 10 in (0, 1, 2) else "no")]
        if trace in (5, 10):
            attributes.append(text("seldom", "yes"))
        add(store, span(trace, error=trace % 5 == 0, attributes=attributes))
    assert _told(store, Selection("errors", (), None, None)) == []


def test_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at so many traces, spans, bytes and values, for so long, and says that there are more."""
    _shop(store)
    errors = Selection("errors", (), None, None)

    def counts() -> tuple[int, int, bool]:
        told = distinction_json(store, errors)
        return told["selected"], told["rest"], told["complete"]

    with monkeypatch.context() as patch:
        patch.setattr(distinction, "MAX_TRACES", 6)
        assert counts() == (6, 5, False)
    with monkeypatch.context() as patch:
        patch.setattr(bodies, "MAX_SPANS", 17)
        assert counts() == (8, 8, False)
    with monkeypatch.context() as patch:
        patch.setattr(bodies, "MAX_BYTES", 1)
        assert counts() == (0, 0, False)
    with monkeypatch.context() as patch:
        patch.setattr(bodies, "TIME_LIMIT_S", -1.0)
        assert counts() == (0, 0, False)
    with monkeypatch.context() as patch:
        patch.setattr(distinction, "_MAX_VALUES", 20)
        assert _told(store, errors)[0] == ("bank=far", 10, 0, True)
    with monkeypatch.context() as patch:
        patch.setattr(bodies, "_TOGETHER", 3)
        assert counts() == (10, 50, True)


def test_gone(store: Store) -> None:
    """A trace that has gone since it was found has no spans."""
    seen: list[int] = []
    add(store, span(2))
    assert store.visit([trace_id(1), trace_id(2)], lambda index, *_: seen.append(index)) == 2
    assert seen == [1]
