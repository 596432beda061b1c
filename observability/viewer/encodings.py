"""Content encodings, inflated without ever holding more than the bound, since a few bytes can stand for gigabytes."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable

from observability.viewer.body import MAX_BODY_BYTES
from observability.viewer.refusals import BrokenError, TooLargeError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# RFC 9659: what is encoded for HTTP needs no more than 8 MiB of what came before.
_WINDOW: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}


def _plain(body: bytes) -> bytes:
    return body


def _gunzip(body: bytes) -> bytes:
    return _inflate(zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), body)


def _unzstd(body: bytes) -> bytes:
    return _inflate(zstd.ZstdDecompressor(options=_WINDOW), body)


def _inflate(member: zlib._Decompress | zstd.ZstdDecompressor, body: bytes) -> bytes:
    """Inflate one member, the only one that exporters send."""
    try:
        inflated = member.decompress(body, MAX_BODY_BYTES + 1)
    except (zlib.error, zstd.ZstdError) as error:
        raise BrokenError("it cannot be inflated") from error
    if len(inflated) > MAX_BODY_BYTES:
        del inflated  # which the traceback would hold
        raise TooLargeError(f"at most {MAX_BODY_BYTES} bytes, also when inflated")
    if not member.eof or member.unused_data:
        raise BrokenError("it is cut off, or something follows it")
    return inflated


INFLATE: dict[str, Callable[[bytes], bytes]] = {"identity": _plain, "gzip": _gunzip, "zstd": _unzstd}
"""What inflates a body of each encoding; raises `BrokenError` or `TooLargeError`."""
