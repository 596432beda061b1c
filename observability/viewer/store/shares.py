"""A *share*: the spans of one trace that came in one part, in one row of the file.

It has their ids, and what lists and statistics need of them, in columns: so a span costs few bytes, and a share a row.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import starmap
from typing import NamedTuple

# Position in the part, operation, start, end, whether it failed, HTTP status.
_ROW = struct.Struct("<HIQQBH")
_OPERATION = struct.Struct("<I")  # after the position, which has 2 bytes
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
    return [_row(share, at) for at in range(0, len(share) // _BYTES_PER_SPAN * 8, 8)]


class Held:
    """The spans of one trace that are in the file, by their own ids and by their parents'.

    Whoever asks for one of many must not read all of them: a trace may have come in thousands of shares.
    """

    def __init__(self) -> None:
        self.parts: list[int] = []
        self.parents: set[bytes] = set()
        """The ids of all parents, in the file or not."""
        self._spans: dict[bytes, tuple[bytes, int]] = {}
        # Made when they are asked for, which they are when a parent comes after its children.
        self._children: dict[bytes, list[tuple[bytes, int]]] | None = None

    def add(self, part: int, share: bytes) -> None:
        """Add the share of a part."""
        self.parts.append(part)
        self._children = None
        spans, parents = self._spans, self.parents
        end = len(share) // _BYTES_PER_SPAN * 8
        for at in range(0, end, 8):
            spans[share[at : at + 8]] = (share, at)
            parents.add(share[end + at : end + at + 8])

    def __contains__(self, span_id: bytes) -> bool:
        return span_id in self._spans

    def get(self, span_id: bytes) -> Row | None:
        """A span, if it is in the file."""
        place = self._spans.get(span_id)
        return None if place is None else _row(*place)

    def operation(self, span_id: bytes) -> int | None:
        """The operation of a span, if it is in the file."""
        place = self._spans.get(span_id)
        if place is None:
            return None
        share, at = place
        operation: int = _OPERATION.unpack_from(share, len(share) // _BYTES_PER_SPAN * 16 + _ROW.size * at // 8 + 2)[0]
        return operation

    def children(self, span_id: bytes) -> Iterator[Row]:
        """The spans whose parent this is."""
        if self._children is None:
            self._children = {}
            for share, at in self._spans.values():
                end = len(share) // _BYTES_PER_SPAN * 8
                self._children.setdefault(share[end + at : end + at + 8], []).append((share, at))
        return (_row(*place) for place in self._children.get(span_id, ()))


def _row(share: bytes, at: int) -> Row:
    """The span whose id is at this byte."""
    end = len(share) // _BYTES_PER_SPAN * 8
    row = _ROW.unpack_from(share, 2 * end + _ROW.size * at // 8)
    position, operation, start_ns, end_ns, error, status = row
    ids = share[at : at + 8], share[end + at : end + at + 8]
    return Row(*ids, position, operation, start_ns, end_ns, bool(error), status)
