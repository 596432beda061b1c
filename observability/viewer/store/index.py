"""An index of one block of records: which of them have a token."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

# The token of those that have an attribute twice, or one that their resource has too: only one of the values counts.
_AMBIGUOUS = 0

Positions = dict[int, list[int]]


class Index:
    """Which records of a block have a token; a set of positions is an integer, whose bits they are.

    Most tokens of a block are those that one record has: they stand apart, each with a position. The others have a
    bitmap or, where it is shorter, a list of positions of 16 bits.
    """

    __slots__ = ("_many", "_ones", "_postings", "count")

    def __init__(self, count: int, many: bytes, ones: bytes) -> None:
        self.count = count
        self._many, self._ones = memoryview(many).cast("I"), memoryview(ones).cast("I")
        self._postings = b""

    def has(self, token: int) -> bool:
        """Whether a record has a token."""
        return _place(self._many, token) is not None or _place(self._ones, token) is not None

    def open(self, postings: bytes) -> None:
        """Give what the methods below need."""
        self._postings = postings

    @property
    def all(self) -> int:
        """The positions of all records."""
        return (1 << self.count) - 1

    @property
    def ambiguous(self) -> int:
        """The positions of records that may have another value than their tokens say."""
        return self.positions(_AMBIGUOUS)

    def positions(self, token: int) -> int:
        """The positions of the records that have a token."""
        tokens, postings = len(self._many), self._postings
        place = _place(self._many, token)
        if place is not None:
            offsets = memoryview(postings)[: 4 * (tokens + 1)].cast("I")
            found = postings[offsets[place] : offsets[place + 1]]
            if len(found) == _bitmap_bytes(self.count):
                return int.from_bytes(found, "little")
            return _bits(memoryview(found).cast("H"))
        place = _place(self._ones, token)
        if place is not None:
            start = 4 * (tokens + 1) + 2 * place
            return 1 << int.from_bytes(postings[start : start + 2], "little")
        return 0


def build_index(count: int, positions: Mapping[int, Sequence[int]]) -> tuple[bytes, bytes, bytes]:
    """What `Index` reads: tokens of many records, tokens of one, and their positions."""
    ones = sorted([token for token, held in positions.items() if len(held) == 1])
    many = sorted([token for token, held in positions.items() if len(held) > 1])
    size = _bitmap_bytes(count)
    every, every_one = ((1 << count) - 1).to_bytes(size, "little"), list(range(count))
    bits = [1 << bit for bit in range(8)]
    data: list[bytes] = []
    offset = 4 * (len(many) + 1) + 2 * len(ones)
    offsets = array("I", [offset])
    for token in many:
        held = positions[token]
        if 2 * len(held) < size:
            data.append(array("H", held).tobytes())
        elif held == every_one:  # as of most attributes of one service
            data.append(every)
        else:
            bitmap = bytearray(size)
            for position in held:
                bitmap[position >> 3] |= bits[position & 7]
            data.append(bytes(bitmap))
        offset += len(data[-1])
        offsets.append(offset)
    of_ones = array("H", [positions[token][0] for token in ones])
    return (
        array("I", many).tobytes(),
        array("I", ones).tobytes(),
        b"".join([offsets.tobytes(), of_ones.tobytes(), *data]),
    )


def positions_by_key(positions: Positions, key_tokens: Mapping[int, int]) -> Positions:
    """The positions of records by the tokens of the keys that they have, by those of attributes; some may be twice."""
    keys: defaultdict[int, list[int]] = defaultdict(list)
    for token, held in positions.items():
        keys[key_tokens[token]].extend(held)
    for held in keys.values():
        held.sort()
    return keys


def with_keys(
    positions: Positions,
    keys: Positions,
    key_tokens: Mapping[int, int],
    resources: Iterable[tuple[range, Sequence[int]]],
) -> None:
    """Add tokens of keys, and tokens of resources, each with the positions of its records.

    Args:
        positions: Those of the attributes of the records, which get the others.
        keys: Those of their keys.
        key_tokens: The tokens of keys by those of their attributes.
        resources: Positions of records, and the tokens of their resource.
    """
    ambiguous: set[int] = set()
    for held in keys.values():
        if len(held) > 1 and len(set(held)) < len(held):
            ambiguous.update(position for position, times in Counter(held).items() if times > 1)
    of_resources: defaultdict[int, list[int]] = defaultdict(list)
    for records, tokens in resources:
        its_keys = [key_tokens[token] for token in tokens]
        if len(set(its_keys)) < len(its_keys):
            ambiguous.update(records)
        for token, key in zip(tokens, its_keys, strict=True):
            if key in keys:
                ambiguous.update(set(records).intersection(keys[key]))
            of_resources[token].extend(records)
            of_resources[key].extend(records)
    for more in (keys, of_resources, {_AMBIGUOUS: sorted(ambiguous)} if ambiguous else {}):
        for token, held in more.items():
            if token in positions:
                positions[token] = [*positions[token], *held]
            else:
                positions[token] = held


def positions_of(bits: int) -> list[int]:
    """The positions in a set of them, in order."""
    found = []
    for at, byte in enumerate(bits.to_bytes((bits.bit_length() + 7) // 8, "little")):
        while byte:
            low = byte & -byte
            found.append(at * 8 + low.bit_length() - 1)
            byte ^= low  # noqa: PLW2901 - it is used up
    return found


def _bitmap_bytes(count: int) -> int:
    # One that is as long as some list of positions could not be told from it.
    return (count + 7) // 8 | 1


def _bits(positions: Iterable[int]) -> int:
    bits = 0
    for position in positions:
        bits |= 1 << position
    return bits


def _place(tokens: memoryview[int], token: int) -> int | None:
    place = bisect_left(tokens, token)
    return place if place < len(tokens) and tokens[place] == token else None
