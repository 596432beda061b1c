"""What has to begin again in a forked process, which has its parent's objects and none of its threads."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable


def call_in_child(method: Callable[[], None]) -> None:
    """Call a bound method in each process that is forked from this one, as long as its object lives.

    It does nothing where there is no fork.
    """
    found = weakref.WeakMethod(method)

    def call() -> None:
        if bound := found():
            bound()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)
