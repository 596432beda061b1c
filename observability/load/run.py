"""`clearspan load`: the load of pyproject.toml from here to a URL, until its time is over or a signal comes."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from rich.console import Console

from observability.load.load import Load
from observability.load.mix import read_mix, requests
from observability.load.tally import Tally

TELL_S = 5.0
"""How often it is told how far it is."""

PATIENCE_S = 5.0
"""How long the last answers are waited for: less than Docker waits for the process."""


async def run_load(pyproject: Path, url: str, *, rate: float, seconds: float | None) -> None:
    """Send requests, tell now and then how it goes, and print a table in the end.

    Args:
        pyproject: Names the requests.
        url: Where the public edge is.
        rate: Requests a second.
        seconds: How long; by default until SIGINT or SIGTERM.

    Raises:
        MixError: There is nothing to send.
    """
    mix = read_mix(pyproject)
    tally = Tally(mix)
    load = Load(requests(mix, url), rate, tally.add)
    console = Console(highlight=False, soft_wrap=True)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with load.running(PATIENCE_S):
        teller = asyncio.create_task(_tell(console, load, tally))
        try:
            async with asyncio.timeout(seconds):
                await stopped.wait()
        except TimeoutError:
            pass
        finally:
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
