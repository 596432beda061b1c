"""A *share*: the spans of one trace that came in one part, in one row of the file.

It has their ids, and what lists and statistics need of them, in columns: so a span costs few bytes, and a share a row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, KeysView, Sequence
from itertools import starmap
from typing import NamedTuple

# Position in the part, operation, start, end, whether it failed, HTTP status.
_ROW = struct.Struct("<HIQQBH")
_BYTES_PER_SPAN = 16 + _ROW.size


class Row(NamedTuple):
    """What a share has of a span."""

    span_id: bytes
    parent_id: bytes
    position: int
    operation: int
    start_ns: int
    end_ns: int
    error: bool
    http_status: int


def pack(
    span_ids: Sequence[bytes], parent_ids: Sequence[bytes], rows: Iterable[tuple[int, int, int, int, bool, int]]
) -> bytes:
    """The share of spans, of which the rows have what `Row` has after the ids."""
    return b"".join([*span_ids, *parent_ids, *starmap(_ROW.pack, rows)])


def unpack(share: bytes) -> list[Row]:
    """The spans of a share."""
    return [_row(share, index) for index in range(len(share) // _BYTES_PER_SPAN)]


class Held:
    """The spans of one trace that are in the file, by their own ids and by their parents'.

    Whoever asks for one of many must not read all of them: a trace may have come in thousands of shares.
    """

    def __init__(self) -> None:
        self.parts: list[int] = []
        self._spans: dict[bytes, tuple[bytes, int]] = {}
        self._children: dict[bytes, list[tuple[bytes, int]]] = {}

    def add(self, part: int, share: bytes) -> None:
        """Add the share of a part."""
        self.parts.append(part)
        count = len(share) // _BYTES_PER_SPAN
        for index in range(count):
            place = (share, index)
            self._spans[share[8 * index : 8 * index + 8]] = place
            at = 8 * (count + index)
            self._children.setdefault(share[at : at + 8], []).append(place)

    @property
    def parents(self) -> KeysView[bytes]:
        """The ids of all parents, in the file or not."""
        return self._children.keys()

    def __contains__(self, span_id: bytes) -> bool:
        return span_id in self._spans

    def get(self, span_id: bytes) -> Row | None:
        """A span, if it is in the file."""
        place = self._spans.get(span_id)
        return None if place is None else _row(*place)

    def children(self, span_id: bytes) -> Iterator[Row]:
        """The spans whose parent this is."""
        return (_row(*place) for place in self._children.get(span_id, ()))


def _row(share: bytes, index: int) -> Row:
    count = len(share) // _BYTES_PER_SPAN
    position, operation, start_ns, end_ns, error, status = _ROW.unpack_from(share, 16 * count + _ROW.size * index)
    at, parent_at = 8 * index, 8 * (count + index)
    ids = share[at : at + 8], share[parent_at : parent_at + 8]
    return Row(*ids, position, operation, start_ns, end_ns, bool(error), status)
