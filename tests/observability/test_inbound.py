"""Which trace context of a caller is believed."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, Request
from opentelemetry import baggage
from opentelemetry.sdk.trace import ReadableSpan

from observability.inbound import InboundContext, InboundTrust
from observability.instrument import observe
from observability.testing import Recorder, client_for

pytestmark = pytest.mark.anyio

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
CALLER = f"00-{TRACE_ID}-{SPAN_ID}-01"


async def _call(recorder: Recorder, inbound: InboundContext, *headers: tuple[str, str]) -> tuple[ReadableSpan, Any]:
    app = FastAPI()

    @app.get("/seen")
    async def seen(request: Request) -> dict[str, Any]:
        return {"baggage": dict(baggage.get_all()), "traceparent": request.headers.get("traceparent")}

    observe(app, recorder.telemetry("service"), inbound_context=inbound)
    async with client_for(app) as client:
        response = await client.get("/seen", headers=list(headers))
    (span,) = recorder.spans
    return span, response.json()


async def test_continue(recorder: Recorder) -> None:
    """Between our own services the caller's trace goes on, its baggage too."""
    span, seen = await _call(recorder, "continue", ("traceparent", CALLER), ("baggage", "tenant=a"))
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == SPAN_ID
    assert span.links == ()
    assert seen["baggage"] == {"tenant": "a"}


async def test_link(recorder: Recorder) -> None:
    """At a public edge a new trace starts that links to the caller's span and carries nothing of the caller's."""
    span, seen = await _call(
        recorder, "link", ("traceparent", CALLER), ("tracestate", "vendor=1"), ("baggage", "tenant=a")
    )
    assert span.parent is None
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" != TRACE_ID
    (link,) = span.links
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert not link.context.trace_state
    assert seen == {"baggage": {}, "traceparent": None}


async def test_ignore(recorder: Recorder) -> None:
    """An ignored caller leaves no mark at all."""
    span, seen = await _call(recorder, "ignore", ("traceparent", CALLER), ("baggage", "tenant=a"))
    assert (span.parent, span.links) == (None, ())
    assert seen == {"baggage": {}, "traceparent": None}


async def test_stranger_does_not_choose_sampling(recorder: Recorder) -> None:
    """A stranger's flag 00 does not keep our trace from being recorded."""
    span, _ = await _call(recorder, "link", ("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00"))
    assert len(span.links) == 1


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", "garbage")],
        [("traceparent", f"00-{'0' * 32}-{SPAN_ID}-01")],
        [("traceparent", f"00-{TRACE_ID}-{'0' * 16}-01")],
        [("traceparent", CALLER), ("traceparent", CALLER)],
        [("traceparent", "00-" + "é" * 32 + "-00f067aa0ba902b7-01")],
    ],
    ids=["garbage", "zero trace id", "zero span id", "twice", "not ascii"],
)
async def test_malformed(recorder: Recorder, headers: list[tuple[str, str]]) -> None:
    """A traceparent that is not well-formed is as good as none."""
    app = FastAPI()
    observe(app, recorder.telemetry("service"), inbound_context="link")
    async with client_for(app) as client:
        await client.get("/", headers=[(name.encode(), value.encode()) for name, value in headers])
    (span,) = recorder.spans
    assert (span.parent, span.links) == (None, ())


def test_unknown_word() -> None:
    """A word that is none of the three is refused when the application is made."""
    with pytest.raises(ValueError, match="trust"):
        InboundTrust(FastAPI(), "trust")  # type: ignore[arg-type]
