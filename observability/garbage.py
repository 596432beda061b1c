"""Garbage collection in a process that serves.

Most of what a Python process holds once it has started is there for good: modules, classes, routes, schemas. A full
collection looks through all of it, and stops every request meanwhile.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

YOUNG_OBJECTS: Final = 5000
"""So many more objects than before, and new ones are looked through for garbage; Python's own number is 700.

The kit's own part of a request leaves no garbage, and what waits to be exported stays below it most of the time.
"""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Set the collector up for serving, once all is loaded, and as it was before at the end.

    What is there now is never looked through again: for the application of `benchmarks.cost` a full collection took
    3 ms of a processor in the place of 57, during which no request is served. And more objects may come before new
    ones are looked through, which took 0.3 µs of each request in the place of 8. An application that has set more
    itself, or has turned the collector off, keeps that.
    """
    young, *older = gc.get_threshold()
    frozen_before = gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    if young:
        gc.set_threshold(max(young, YOUNG_OBJECTS), *older)
    try:
        yield
    finally:
        gc.set_threshold(young, *older)
        if not frozen_before:
            gc.unfreeze()
