from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observability.viewer.store.shares import Held, Row, pack, unpack

IDS = st.integers(0, 9).map(lambda number: number.to_bytes(8))
UINT64 = st.integers(0, 2**64 - 1)
ROWS = st.builds(
    Row,
    IDS,
    IDS,
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    UINT64,
    UINT64,
    st.booleans(),
    st.integers(0, 2**16 - 1),
)


def _packed(rows: list[Row]) -> bytes:
    return pack([row.span_id for row in rows], [row.parent_id for row in rows], [row[2:] for row in rows])


@given(st.lists(ROWS, max_size=20))
def test_pack(rows: list[Row]) -> None:
    """What is packed comes out as it was."""
    assert unpack(_packed(rows)) == rows


@given(st.lists(ROWS, unique_by=lambda row: row.span_id), st.integers(1, 5))
def test_held(everything: list[Row], size: int) -> None:
    """Spans are found by their ids and by their parents', whichever share they came in."""
    shares = [everything[at : at + size] for at in range(0, len(everything), size)]
    held = Held()
    for part, rows in enumerate(shares):
        held.add(part, _packed(rows))
    assert held.parts == list(range(len(shares)))
    assert held.parents == {row.parent_id for row in everything}
    for number in range(10):
        span_id = number.to_bytes(8)
        found = held.get(span_id)
        assert (span_id in held) == (found is not None) == any(row.span_id == span_id for row in everything)
        assert found is None or (found in everything and found.span_id == span_id)
        assert held.operation(span_id) == (None if found is None else found.operation)
        assert list(held.children(span_id)) == [row for row in everything if row.parent_id == span_id]
