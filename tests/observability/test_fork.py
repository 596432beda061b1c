from __future__ import annotations

import gc
import os

import pytest

from observability.fork import call_in_child


class _Counting:
    def __init__(self) -> None:
        self.calls = 0

    def begin_again(self) -> None:
        self.calls += 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_child_alone() -> None:
    """A method is called in the child, once, and not in the parent; what it belongs to is not kept alive by that."""
    counting, gone = _Counting(), _Counting()
    call_in_child(counting.begin_again)
    call_in_child(gone.begin_again)
    del gone
    gc.collect()
    child = os.fork()
    if child == 0:
        os._exit(counting.calls)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert counting.calls == 0
