"""Where the fast path tells something else than contrib's middleware, and why."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry import propagate
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.metrics._internal.exemplar import exemplar_reservoir
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from observability.instrument import observe
from observability.providers import Telemetry
from tests.observability.fastpath import parity
from tests.observability.fastpath.parity import (
    PLAIN,
    SAMPLED,
    SPAN_ID,
    BothWays,
    Request,
    measured,
)
from tests.observability.fastpath.parity_shop import shop

pytestmark = pytest.mark.anyio

DIFFERENCES = {
    "test_size_of_another_answer": (
        "contrib records the size of whichever answer of the process had one last: it keeps it on the middleware. "
        "The fast path records none."
    ),
    "test_no_text": (
        "contrib fails the request with 500 and without a span when a query is not UTF-8, or a header neither that nor "
        "escapes. The fast path shows replacement characters in their place, and serves the request."
    ),
    "test_exception_without_text": (
        "An exception whose text cannot be made makes contrib raise and record the failure of that in its place. The "
        "fast path raises it as it is, and records none."
    ),
    "test_impossible_sizes": (
        "contrib raises OverflowError after the answer when a Content-Length exceeds all floats, and warns of a "
        "negative one. The fast path records neither."
    ),
    "test_exemplars_of_active_requests": (
        "The SDK keeps one by lot, the fast path the last one; only where a sampled caller is believed."
    ),
    "test_capital_names": (
        "contrib lowers them again, which ASGI servers have done. The fast path takes them as they are, as the kit "
        "does when it takes a stranger's trace headers away."
    ),
    "test_no_propagators": (
        "With OTEL_PROPAGATORS=none contrib fails every request with 500. The fast path begins a trace with each."
    ),
    "test_dropped_attributes": (
        "Where a span may have fewer attributes than it is given, contrib drops each twice, since it sets it twice."
    ),
    "test_stack": "The first frame of exception.stacktrace is the layer that records it, which is another one.",
}
"""By the test that shows it: what is not the same, what each of the two does, and why."""


def test_table() -> None:
    """Each difference of the table is shown by a test, and each test's stands in the table."""
    tests = {name for name, value in globals().items() if name.startswith("test_") and callable(value)}
    assert tests - {"test_table"} == set(DIFFERENCES)


async def test_size_of_another_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrib takes the size of another answer for that of one without Content-Length; the fast path takes none."""
    counts = []
    for fast in (False, True):
        both = BothWays(shop, leaks=True)
        told = await both.told([Request(), Request("/stream")], fast=fast, monkeypatch=monkeypatch)
        counts.append(sum(point[1] for point in told.metrics["after 2"]["http.server.response.body.size"][2]))
    assert counts == [2, 1]


@pytest.mark.parametrize(
    "request_",
    [Request(query=b"a=\xff"), Request(headers=((b"user-agent", b"\xff\\x"),))],
    ids=["query", "header"],
)
async def test_no_text(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrib fails requests with bytes that are no text; the fast path serves them."""
    official, quick = [
        await BothWays(shop).told([request_], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)
    ]
    assert "UnicodeDecodeError" in repr(official.answers)
    assert official.spans == []
    assert dict(quick.spans[0]["attributes"])["http.response.status_code"] == 200
    assert "\ufffd" in repr(quick.spans[0]["attributes"])


async def test_exception_without_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that cannot be made a text takes no other one's place, and is answered like any."""

    class WordlessError(Exception):
        def __repr__(self) -> str:
            return "WordlessError()"

        def __str__(self) -> str:
            raise ValueError("no words")

    def app() -> FastAPI:
        app = FastAPI()

        @app.get("/")
        async def fail() -> None:
            raise WordlessError

        return app

    official, quick = [
        await BothWays(app).told([Request("/")], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)
    ]
    assert official.answers[0][-1] == "ValueError('no words')"
    assert quick.answers[0][-1] == "WordlessError()"
    assert (quick.spans[0]["status"][0], quick.spans[0]["events"]) == (StatusCode.ERROR, [])
    assert b"application/problem+json" in dict(quick.answers[0][0]["headers"]).values()  # type: ignore[index]


@pytest.mark.parametrize("size", [b"1" + b"0" * 400, b"-5"], ids=["huge", "negative"])
async def test_impossible_sizes(size: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that cannot be are not recorded, and nothing fails for them as it does with contrib."""
    request = PLAIN.with_headers((b"content-length", size))
    official, quick = [
        await BothWays(shop).told([request], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)
    ]
    assert ("OverflowError" in repr(official.answers)) == (len(size) > 400)
    assert "OverflowError" not in repr(quick.answers)
    assert "http.server.request.body.size" not in quick.metrics["after 1"]
    assert quick.spans == official.spans


async def test_exemplars_of_active_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where callers are believed active requests have one exemplar of a caller: the SDK's by lot, or the last one."""
    monkeypatch.setattr(exemplar_reservoir, "randrange", lambda _least, most: most - 1)  # the first one always stays
    exemplars = []
    for fast in (False, True):
        reader = InMemoryMetricReader()
        app = shop()
        observe(app, Telemetry.build("orders", metric_readers=[reader], fast=fast), inbound_context="continue")
        for callers in ((4,), (5, 6)):
            for caller in callers:
                traceparent = f"00-{caller:032x}-{SPAN_ID}-01".encode()
                await PLAIN.with_headers((b"traceparent", traceparent)).to(app)
            ((*_, exemplar),) = measured(reader)["http.server.active_requests"][2]
            exemplars.append(exemplar)
    assert exemplars == [[4], [5], [4], [6]]


async def test_capital_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header with capitals, which ASGI does not allow, is contrib's and not the fast path's."""
    request = Request(headers=((b"User-Agent", b"odd"),))
    official, quick = [
        await BothWays(shop).told([request], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)
    ]
    assert dict(official.spans[0]["attributes"])["user_agent.original"] == "odd"
    assert "user_agent.original" not in dict(quick.spans[0]["attributes"])


async def test_no_propagators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where contexts are not propagated at all contrib fails; the fast path begins a trace."""
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", CompositePropagator([]))
    requests = [PLAIN, PLAIN.with_headers((b"traceparent", SAMPLED))]
    for inbound_context in ("link", "continue"):
        both = BothWays(shop, inbound_context=inbound_context)
        official, quick = [await both.told(requests, fast=fast, monkeypatch=monkeypatch) for fast in (False, True)]
        assert "AttributeError" in repr(official.answers[0])
        assert [span["ids"][0] for span in quick.spans] == [1, 2]


async def test_dropped_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where attributes are too many the same ones stay, and their number is told once."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "6")
    official, quick = [
        await BothWays(shop).told([Request()], fast=fast, monkeypatch=monkeypatch) for fast in (False, True)
    ]
    assert quick.spans[0]["dropped"][0] == 11 - 6
    assert quick.spans[0]["dropped"][0] < official.spans[0].pop("dropped")[0]
    assert {**official.spans[0], "dropped": quick.spans[0]["dropped"]} == quick.spans[0]


async def test_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack of an exception is that of the application, from the layer on that records it."""
    stacks = []
    shown = parity.shown

    def with_stack(span: ReadableSpan) -> dict[str, Any]:
        stacks.append(str((span.events[0].attributes or {})["exception.stacktrace"]))
        return shown(span)

    monkeypatch.setattr(parity, "shown", with_stack)
    for fast in (False, True):
        await BothWays(shop).told([Request("/fails")], fast=fast, monkeypatch=monkeypatch)
    official, quick = (stack.split('  File "') for stack in stacks)
    assert official[1] != quick[1]
    assert official[:1] + official[2:] == quick[:1] + quick[2:]
