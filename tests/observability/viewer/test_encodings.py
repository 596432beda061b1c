from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from observability.viewer.body import MAX_BODY_BYTES
from observability.viewer.encodings import INFLATE
from observability.viewer.refusals import BrokenError, TooLargeError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
ENCODINGS = pytest.mark.parametrize("encoding", COMPRESS)


@ENCODINGS
def test_inflate(encoding: str) -> None:
    """What was compressed comes back, up to the bound."""
    body = bytes(range(256)) * (MAX_BODY_BYTES // 256)
    assert INFLATE[encoding](COMPRESS[encoding](body)) == body


@ENCODINGS
def test_bomb(encoding: str) -> None:
    """A body that would inflate far beyond the bound is refused before it takes the memory."""
    bomb = COMPRESS[encoding](bytes(200 * 1024 * 1024))
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            INFLATE[encoding](bomb)
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_BODY_BYTES
    finally:
        tracemalloc.stop()


def test_large_window() -> None:
    """A frame that says it looks back farther than any sender needs is refused before it takes the memory."""
    window = zstd.CompressionParameter.window_log
    levels: dict[int, int] = {window: 27, zstd.CompressionParameter.enable_long_distance_matching: 1}
    compressor = zstd.ZstdCompressor(options=levels)
    frame = compressor.compress(b"x" * 1000) + compressor.flush()
    with pytest.raises(BrokenError):
        INFLATE["zstd"](frame)


@ENCODINGS
def test_broken(encoding: str) -> None:
    """What is not exactly one whole member is refused."""
    compress = COMPRESS[encoding]
    for body in (b"", b"nothing", compress(b"x" * 1000)[:-5], compress(b"") * 2, zlib.compress(b"x")):
        with pytest.raises(BrokenError):
            INFLATE[encoding](body)
