"""Clearspan's kit: one call makes a FastAPI service observed.

The names here are the few that most services need; everything else is imported from its module. They are loaded when
they are first used, so that the command line and the viewer do not wait for what they never touch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from observability.health import Health
    from observability.instrument import instrument_client, instrument_engine, observe
    from observability.providers import Telemetry, TelemetryError
    from observability.server import serve

__all__ = [
    "Health",
    "Telemetry",
    "TelemetryError",
    "instrument_client",
    "instrument_engine",
    "observe",
    "serve",
]

_HOME = {
    "Health": "observability.health",
    "Telemetry": "observability.providers",
    "TelemetryError": "observability.providers",
    "instrument_client": "observability.instrument",
    "instrument_engine": "observability.instrument",
    "observe": "observability.instrument",
    "serve": "observability.server",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
