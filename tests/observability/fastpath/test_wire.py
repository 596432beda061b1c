"""Numbers and lengths of the wire format, which the official decoder reads back."""

from __future__ import annotations

import pytest
from google.protobuf.wrappers_pb2 import BytesValue, Int64Value
from hypothesis import example, given
from hypothesis import strategies as st

from observability.fastpath.wire import field, int64


@given(st.integers(-(1 << 63), (1 << 63) - 1))
@example(127)
@example(128)
@example(16_383)
@example(16_384)
def test_int64(number: int) -> None:
    """Every number of 64 bits is read back as it was."""
    assert Int64Value.FromString(b"\x08" + int64(number)).value == number


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16_383, 16_384, 3_000_000])
def test_field(length: int) -> None:
    """A body of any length is read back as it was."""
    assert BytesValue.FromString(field(b"\x0a", b"x" * length)).value == b"x" * length


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1])
def test_too_many_bits(number: int) -> None:
    """A number that has no form is an error."""
    with pytest.raises(ValueError, match="more than 64 bits"):
        int64(number)
