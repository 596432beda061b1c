"""Every name of telemetry that the kit itself emits, declared once; the rest is named by the semantic conventions."""

from __future__ import annotations

from typing import Final, NamedTuple


class Instrument(NamedTuple):
    """A metric's declaration: name, UCUM unit and description, in the order that the meter API takes them."""

    name: str
    unit: str
    description: str


SCRUBBED: Final = "clearspan.scrubbed"
"""Attribute of spans and log records: the paths of what was cut out before export, never the values."""

CLIENT_DISCONNECTED: Final = "clearspan.client.disconnected"
"""Attribute of server spans: true when the client hung up before it had the whole response."""

EVENT_LOOP_LAG: Final = Instrument(
    "clearspan.event_loop.lag",
    "s",
    "How much later than asked the event loop woke a sleeping task.",
)
