from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from observability.viewer.body import MAX_BODY_BYTES, TooLargeError, inflate


def test_inflate() -> None:
    """What was gzipped comes back, up to the bound."""
    body = bytes(range(256)) * (MAX_BODY_BYTES // 256)
    assert inflate(gzip.compress(body)) == body


def test_bomb() -> None:
    """A body that would inflate far beyond the bound is refused before it takes the memory."""
    bomb = gzip.compress(bytes(200 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            inflate(bomb)
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_BODY_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [b"", b"no gzip", gzip.compress(b"x" * 1000)[:-20], gzip.compress(b"") * 2, zlib.compress(b"x")],
    ids=["empty", "no gzip", "cut off", "two members", "zlib"],
)
def test_broken(body: bytes) -> None:
    """What is not exactly one whole gzip member is refused."""
    with pytest.raises(zlib.error):
        inflate(body)
