from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from observability.viewer.arrivals import MAX_REASONS, Arrivals


def _response(message: str = "") -> bytes:
    response = ExportTraceServiceResponse()
    response.partial_success.error_message = message
    encoded: bytes = response.SerializeToString()
    return encoded


def _signal(arrivals: Arrivals, signal: str) -> Any:
    (found,) = [one for one in arrivals.told()["signals"] if one["signal"] == signal]
    return found


def test_taken() -> None:
    """Requests and bytes are counted for each signal, and when the last one came."""
    arrivals = Arrivals()
    arrivals.took("traces", 100, _response())
    arrivals.took("traces", 50, _response())
    found = _signal(arrivals, "traces")
    assert (found["requests"], found["bytes"], found["refused"]) == (2, 150, 0)
    assert found["last"] >= arrivals.told()["since"]
    assert _signal(arrivals, "logs") == {"signal": "logs", "requests": 0, "bytes": 0, "refused": 0, "last": None}


def test_refused() -> None:
    """Refusals are counted by reason, that of the last one first; records by the number that the answer tells."""
    arrivals = Arrivals()
    arrivals.refused("logs", "no room for it now")
    arrivals.took("traces", 100, _response("3 of a trace that is full, 2 with invalid ids"))
    arrivals.took("traces", 100, _response("4 of a trace that is full"))
    arrivals.refused("logs", "no room for it now")
    told = arrivals.told()["refusals"]
    assert [(one["signal"], one["reason"], one["what"], one["count"]) for one in told] == [
        ("logs", "no room for it now", "requests", 2),
        ("traces", "of a trace that is full", "records", 7),
        ("traces", "with invalid ids", "records", 2),
    ]
    assert _signal(arrivals, "logs")["refused"] == 2


def test_bounded() -> None:
    """Of too many reasons those go that were not heard for the longest time."""
    arrivals = Arrivals()
    for number in range(MAX_REASONS):
        arrivals.refused("logs", f"reason {number}")
    arrivals.refused("logs", "reason 0")
    arrivals.refused("logs", "one more")
    told = [one["reason"] for one in arrivals.told()["refusals"]]
    assert (len(told), told[:2]) == (MAX_REASONS, ["one more", "reason 0"])
    assert "reason 1" not in told
