"""How many spans a request of Datadog's trace API has (v0.5: a table of strings, and traces, in MessagePack)."""

from __future__ import annotations

# Bytes that follow the first one: of values with a fixed length, and of lengths of text, arrays and maps.
_FIXED = {
    0xC0: 0,
    0xC2: 0,
    0xC3: 0,
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
}
_TEXT = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY, _MAP = {0xDC: 2, 0xDD: 4}, {0xDE: 2, 0xDF: 4}


def count_spans(body: bytes) -> int:
    """The spans of a body.

    Raises:
        ValueError: It is no such request.
    """
    parts, at = _array(body, 0)
    if parts != 2:  # noqa: PLR2004 - the strings and the traces
        raise ValueError("not a request of Datadog's trace API v0.5")
    at = _skip(body, at)
    traces, at = _array(body, at)
    spans = 0
    for _ in range(traces):
        of_trace, at = _array(body, at)
        spans += of_trace
        for _ in range(of_trace):
            at = _skip(body, at)
    return spans


def _array(body: bytes, at: int) -> tuple[int, int]:
    """The length of the array that begins there, and where its first element does."""
    kind = body[at]
    if kind & 0xF0 == 0x90:  # noqa: PLR2004 - MessagePack's short array
        return kind & 0x0F, at + 1
    if kind not in _ARRAY:
        raise ValueError(f"{kind:#x} begins no array")
    size = _ARRAY[kind]
    return int.from_bytes(body[at + 1 : at + 1 + size]), at + 1 + size


def _skip(body: bytes, at: int) -> int:
    """Where the value that begins there has ended."""
    left = 1
    while left:
        left -= 1
        kind = body[at]
        at += 1
        if kind < 0x80 or kind >= 0xE0:  # noqa: PLR2004 - short numbers
            continue
        if kind < 0x90:  # noqa: PLR2004 - short maps
            left += 2 * (kind & 0x0F)
        elif kind < 0xA0:  # noqa: PLR2004 - short arrays
            left += kind & 0x0F
        elif kind < 0xC0:  # noqa: PLR2004 - short texts
            at += kind & 0x1F
        elif kind in _FIXED:
            at += _FIXED[kind]
        elif (sizes := _TEXT if kind in _TEXT else _ARRAY if kind in _ARRAY else _MAP) and kind in sizes:
            size = int.from_bytes(body[at : at + sizes[kind]])
            at += sizes[kind]
            if sizes is _TEXT:
                at += size
            else:
                left += 2 * size if sizes is _MAP else size
        else:
            raise ValueError(f"{kind:#x} begins nothing that a span has")
    return at
