from __future__ import annotations

import gc
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from observability.viewer import body as body_module
from observability.viewer.arrivals import Arrivals
from observability.viewer.body import Bodies
from observability.viewer.intake import Intake, Signal
from observability.viewer.refusals import BrokenError, OverloadedError, RefusedError, TooLargeError
from observability.viewer.store import Store
from tests.observability.viewer.samples import nested

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def _arriving(size: int) -> AsyncIterator[bytes]:
    """A body that is no message, in two parts."""
    yield b"\xff" * (size // 2)
    yield b"\xff" * (size // 2)


def _too_large(body: bytes) -> bytes:
    raise TooLargeError(f"{len(body)} bytes")


@pytest.fixture
def uncollected() -> Iterator[Callable[[], int]]:
    """Tells how many bytes are held, while nothing is freed that is part of a cycle."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()


async def test_taken(store: Store) -> None:
    """What was taken is stored."""

    async def arriving() -> AsyncIterator[bytes]:
        yield nested(1, ["root"]).SerializeToString()

    assert await Intake(store, Bodies(), Arrivals()).take(Signal.TRACES, arriving(), bytes) == b""
    assert store.counts() == (1, 1)


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize(
    ("to_protobuf", "held", "refusal"),
    [(bytes, 64 * MIB, BrokenError), (_too_large, 64 * MIB, TooLargeError), (bytes, MIB, OverloadedError)],
    ids=["broken", "too large", "no room"],
)
async def test_refused(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    uncollected: Callable[[], int],
    *,
    signal: Signal,
    to_protobuf: Callable[[bytes], bytes],
    held: int,
    refusal: type[RefusedError],
) -> None:
    """What was refused takes neither room nor memory any more, even before garbage is collected."""
    monkeypatch.setattr(body_module, "MAX_HELD_BYTES", held)
    intake = Intake(store, Bodies(), Arrivals())
    for _ in range(10):
        with pytest.raises(refusal):
            await intake.take(signal, _arriving(2 * MIB), to_protobuf)
    assert uncollected() < 5 * MIB  # the thread may be about to let go of the last one
