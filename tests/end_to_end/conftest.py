"""A shop for each test that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.running_shop import RunningShop, running_shop


@pytest.fixture
def start_shop(tmp_path: Path) -> Iterator[Callable[..., RunningShop]]:
    """Starts a shop that is stopped, if it still runs, at the end of the test; takes environment variables."""
    with ExitStack() as stack:
        yield lambda **environment: stack.enter_context(running_shop(tmp_path / "data", environment))
