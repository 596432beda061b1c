from __future__ import annotations

import pytest

from observability.viewer.query import parse
from observability.viewer.store import Store, vocabulary
from tests.observability.viewer.samples import add, add_logs, log, number, span, text

FILLING = 300


@pytest.mark.parametrize("spans", [2, FILLING], ids=["open", "indexed"])
def test_keys_and_values(store: Store, spans: int) -> None:
    """Keys and values are completed from what has come, in a block with an index or without."""
    add(
        store,
        *(span(1, index, attributes=[text("http.route", "/orders"), number("port", 80)]) for index in range(1, spans)),
    )
    add(store, *(span(2, index, attributes=[text("http.route", "/ä%_")]) for index in range(1, spans)))
    add_logs(store, log(None, attributes=[text("http.sku", "mug")]))
    assert store.keys("http.") == ["http.route", "http.sku"]
    assert {"port", "service", "duration"} <= set(store.keys(""))
    assert store.values("http.route", "") == ["/orders", "/ä%_"]
    assert store.values("http.route", "/ä%") == ["/ä%_"]
    assert store.values("port", "8") == ["80"]
    assert store.values("service", "o") == ["orders"]
    assert store.values("operation", "G") == ["GET /"]
    assert store.values("kind", "s") == ["server"]
    assert store.values("never", "") == []


def test_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered for completion is bounded, and whatever of it is forgotten, searches find the same."""
    monkeypatch.setattr(vocabulary, "MAX_KEYS", 20)
    monkeypatch.setattr(vocabulary, "MAX_VALUES_PER_KEY", 10)
    for start in range(0, 3000, FILLING):
        add(
            store,
            *(
                span(start + index, attributes=[number(f"key{start}", 1), number("size", start + index // 2)])
                for index in range(1, FILLING + 1)
            ),
        )
    with store._database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM keys").fetchone()[0] <= 20
        assert connection.execute("SELECT count(*) FROM key_values").fetchone()[0] <= 40
    assert len(store.find(parse("size>=2990"), limit=100).traces) == 0 + sum(
        start + index // 2 >= 2990 for start in range(0, 3000, FILLING) for index in range(1, FILLING + 1)
    )
    assert len(store.find(parse("size>=2800"), limit=1000).traces) == sum(
        start + index // 2 >= 2800 for start in range(0, 3000, FILLING) for index in range(1, FILLING + 1)
    )
