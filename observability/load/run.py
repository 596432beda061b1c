"""`clearspan load`: the load of pyproject.toml from here to a URL, until its time is over or a signal comes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from observability.load.load import Load
from observability.load.mix import Weighted, read_mix, requests
from observability.load.tally import Tally

TELL_S = 5.0
"""How often it is told how far it is."""

PATIENCE_S = 5.0
"""How long the last answers are waited for: less than Docker waits for the process."""

_WIDTH = 160
"""Wider than a log that is no terminal is taken for: rows that are wrapped are hard to read."""


def run_load(pyproject: Path, url: str, *, rate: float, seconds: float | None) -> NoReturn:
    """Send requests, tell now and then how it goes, print a table, and end the process.

    Args:
        pyproject: Names the requests.
        url: Where the public edge is.
        rate: Requests a second.
        seconds: How long; by default until SIGINT or SIGTERM.

    Raises:
        MixError: There is nothing to send.
    """
    mix = read_mix(pyproject)
    asyncio.new_event_loop().run_until_complete(_run(mix, url, rate, seconds))
    sys.stdout.flush()
    # Threads that look up the name of an edge that is gone would hold up the end of the loop, and of the interpreter.
    os._exit(0)


async def _run(mix: Mapping[str, Weighted], url: str, rate: float, seconds: float | None) -> None:
    tally = Tally(mix)
    load = Load(requests(mix, url), rate, tally.add)
    console = Console(highlight=False, soft_wrap=True, width=_WIDTH)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with load.running(PATIENCE_S):
        teller = asyncio.create_task(_tell(console, load, tally))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stopped.wait()
        teller.cancel()
    console.print(tally.table())
    console.print(_progress(load, tally))


async def _tell(console: Console, load: Load, tally: Tally) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        console.print(f"{_progress(load, tally)}; {tally.line()}")


def _progress(load: Load, tally: Tally) -> str:
    dropped = f", {load.dropped} dropped since too many were in flight" if load.dropped else ""
    return f"{load.sent} sent, {load.sent - tally.count()} in flight{dropped}"
