from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from observability.viewer.query import as_text
from observability.viewer.store import attributes as attributes_module
from observability.viewer.store.attributes import Attributes, decode, key_token, pair_token
from tests.observability.viewer.samples import deep, number, text

VALUES = st.one_of(
    st.builds(AnyValue),
    st.builds(AnyValue, string_value=st.text(max_size=130)),
    st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**29)),
    st.builds(AnyValue, double_value=st.floats(allow_nan=False)),
    st.builds(AnyValue, bytes_value=st.binary(max_size=130)),
    st.builds(AnyValue, bool_value=st.booleans()),
)


@given(key=st.text(max_size=130), value=VALUES)
@example(key="port", value=AnyValue(int_value=2**28 - 1))
@example(key="port", value=AnyValue(int_value=2**28))
@example(key="port", value=AnyValue(int_value=128))
@example(key="port", value=AnyValue(int_value=127))
def test_token(key: str, value: AnyValue) -> None:
    """An attribute has the token of its key and of its value as text, read the long way or the short one."""
    encoded = KeyValue(key=key, value=value).SerializeToString()
    known = Attributes()
    for _ in range(2):  # the second time its key is known
        token = known.learn(encoded)
        assert token == pair_token(key, as_text(decode(encoded)[1]))
        assert known.key_tokens[token] == key_token(key)


@given(st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    """So it is if a byte of an attribute is another one."""
    encoded = bytearray(
        data.draw(st.sampled_from([number("port", 40_000), text("key", "value"), number("a", 5)])).SerializeToString()
    )
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    known = Attributes()
    for attribute in (number("port", 1), text("key", ""), number("a", 1)):
        known.learn(attribute.SerializeToString())
    try:
        key, value = decode(bytes(encoded))
    except DecodeError:
        with pytest.raises(DecodeError):
            known.learn(bytes(encoded))
    else:
        assert known.learn(bytes(encoded)) == pair_token(key, as_text(value))


@pytest.mark.parametrize("levels", range(28, 36))
def test_depth(levels: int) -> None:
    """An attribute is refused that would be too deep within its span."""
    encoded = KeyValue(key="deep", value=deep(levels)).SerializeToString()
    length = len(encoded).to_bytes(1) if len(encoded) < 128 else bytes([len(encoded) % 128 + 128, len(encoded) // 128])
    try:
        Span.FromString(b"\x4a" + length + encoded)
    except DecodeError:
        with pytest.raises(DecodeError):
            decode(encoded)
    else:
        assert decode(encoded)[0] == "deep"


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is bounded, whatever comes: many values, many keys, long ones; and it can be learnt again."""
    monkeypatch.setattr(attributes_module, "_MAX_REMEMBERED", 50)
    known = Attributes()
    for index in range(1000):
        known.forget()
        for attribute in (number("value", index), number(f"key{index}", 1), text(f"long{index}" * 60, "x")):
            encoded = attribute.SerializeToString()
            token = known.learn(encoded)
            assert known.tokens.get(encoded, token) == token
    for held in (known.tokens, known.encoded, known._keys):
        assert len(held) <= 53
    assert len(known.key_tokens) <= 103
