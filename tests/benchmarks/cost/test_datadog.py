from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.cost.datadog import count_spans

Value = None | bool | int | float | str | bytes | list["Value"] | dict[str, "Value"]

VALUES: st.SearchStrategy[Value] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=4), inner, max_size=20),
    max_leaves=40,
)


def _array(*elements: bytes) -> bytes:
    count = len(elements)
    head = bytes([0x90 | count]) if count < 16 else b"\xdc" + struct.pack(">H", count)
    return head + b"".join(elements)


def _packed(value: Value) -> bytes:
    """MessagePack, of the lengths that the tests make."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            if -32 <= value < 128:
                return struct.pack("b", value)
            return b"\xcf" + struct.pack(">Q", value) if value > 0 else b"\xd3" + struct.pack(">q", value)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return (bytes([0xA0 | len(text)]) if len(text) < 32 else b"\xda" + struct.pack(">H", len(text))) + text
        case bytes():
            return b"\xc5" + struct.pack(">H", len(value)) + value
        case list():
            return _array(*map(_packed, value))
        case dict():
            inner = b"".join(_packed(key) + _packed(one) for key, one in value.items())
            head = bytes([0x80 | len(value)]) if len(value) < 16 else b"\xde" + struct.pack(">H", len(value))
            return head + inner


@settings(max_examples=40)
@given(st.lists(st.text(max_size=40), max_size=20), st.lists(st.lists(VALUES, max_size=4), max_size=20))
def test_spans_of_anything(strings: list[str], traces: list[list[Value]]) -> None:
    """Whatever a span consists of, it is counted once."""
    body = _array(_array(*map(_packed, strings)), _array(*(_array(*map(_packed, trace)) for trace in traces)))
    assert count_spans(body) == sum(map(len, traces))


@pytest.mark.parametrize("body", [b"\x80", b"\x91\x90", b"\x92\xc1\x90", b"\x92\x90\x91\xa0"])
def test_no_traces(body: bytes) -> None:
    """Another thing than traces is said to be one."""
    with pytest.raises(ValueError, match=r"begins no|not a request"):
        count_spans(body)
