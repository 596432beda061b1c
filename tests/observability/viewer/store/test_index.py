from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observability.viewer.store.index import Index, build_index, positions_by_key, positions_of, with_keys

COUNTS = st.integers(1, 600)


@given(st.data())
def test_positions(data: st.DataObject) -> None:
    """An index gives for each token the positions that it was made of, whether one, few, many or all."""
    count = data.draw(COUNTS)
    position = st.integers(0, count - 1)
    positions = data.draw(
        st.dictionaries(
            st.integers(0, 2**32 - 1),
            st.lists(position, min_size=1, unique=True).map(sorted) | st.just(list(range(count))),
            max_size=8,
        )
    )
    many, ones, postings = build_index(count, positions)
    index = Index(count, many, ones)
    index.open(postings)
    for token, held in positions.items():
        assert index.has(token)
        assert positions_of(index.positions(token)) == held
    for token in {0, 1, 2**32 - 1, *(token + 1 & 2**32 - 1 for token in positions)} - positions.keys():
        assert not index.has(token)
        assert index.positions(token) == 0
    assert positions_of(index.all) == list(range(count))


def test_keys() -> None:
    """Keys have the positions of all their values, and so have the attributes of resources."""
    positions = {11: [0, 2], 12: [1]}
    of_attributes = {11: 1, 12: 1, 21: 2}
    with_keys(positions, positions_by_key(positions, of_attributes), of_attributes, [(range(2), [21])])
    assert positions == {11: [0, 2], 12: [1], 1: [0, 1, 2], 21: [0, 1], 2: [0, 1]}


def test_ambiguous() -> None:
    """Records are told apart that have a key twice, or one that their resource has too."""
    positions = {11: [0, 1], 12: [1], 21: [2]}
    of_attributes = {11: 1, 12: 1, 21: 2, 22: 2}
    with_keys(positions, positions_by_key(positions, of_attributes), of_attributes, [(range(3), [22])])
    many, ones, postings = build_index(3, positions)
    index = Index(3, many, ones)
    index.open(postings)
    assert positions_of(index.ambiguous) == [1, 2]
