"""The whole chain, and the story that it tells."""

from __future__ import annotations

import asyncio
import itertools
import logging
from datetime import timedelta
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from pydantic import AnyHttpUrl, ValidationError

from observability.resilience import client as client_module
from observability.resilience.breaker import BreakerOptions
from observability.resilience.bulkhead import Bulkhead, BulkheadOptions
from observability.resilience.call import was_sent
from observability.resilience.client import Dependency as DependencySettings
from observability.resilience.client import create_chain, create_client
from observability.resilience.errors import BreakerOpen, BulkheadFull, DeadlineExceeded
from observability.resilience.retry import Retry
from observability.testing import Recorder
from tests.observability.resilience.conftest import Answer, Dependency

pytestmark = pytest.mark.anyio

SHOWN = ("http.response.status_code", "http.request.resend_count", "error.type", "clearspan.breaker.state")


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are as long as they may be."""
    monkeypatch.setattr(Retry.__init__, "__kwdefaults__", {"jitter": lambda: 1.0})


async def _hang() -> httpx.Response:
    return await asyncio.Event().wait() and httpx.Response(200)


async def _call(
    recorder: Recorder, *answers: Answer, method: str = "GET", times: int = 1, **settings: Any
) -> list[httpx.Response | Exception]:
    telemetry = recorder.telemetry("orders")
    told = DependencySettings.model_validate({"name": "inventory", "base_url": "http://inventory:8001", **settings})
    outcomes: list[httpx.Response | Exception] = []
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("request"):
        async with create_client(told, telemetry, Dependency(*answers)) as client:
            for _ in range(times):
                try:
                    outcomes.append(await client.request(method, "/stock"))
                except httpx.HTTPError as error:
                    outcomes.append(error)
    return outcomes


def _events(recorder: Recorder) -> list[tuple[str, dict[str, Any]]]:
    (span,) = [span for span in recorder.spans if span.name == "request"]
    return [(event.name, dict(event.attributes or {})) for event in span.events]


async def test_one_attempt(recorder: Recorder) -> None:
    """A call that goes well is one client span, as without the chain."""
    await _call(recorder, 200)
    assert (
        recorder.tree(attributes=SHOWN)
        == """\
trace 1
  orders INTERNAL request
    orders CLIENT GET http.response.status_code=200"""
    )
    assert _events(recorder) == []


async def test_retries(recorder: Recorder) -> None:
    """Each attempt is a span that says which one it is, and the waits between them are events of the caller's span."""
    await _call(recorder, 503, httpx.ReadError("reset"), 200)
    assert (
        recorder.tree(attributes=SHOWN)
        == """\
trace 1
  orders INTERNAL request
    orders CLIENT GET http.response.status_code=503 error.type=503 ERROR
    orders CLIENT GET http.request.resend_count=1 error.type=ReadError ERROR ReadError: reset
    orders CLIENT GET http.response.status_code=200 http.request.resend_count=2"""
    )
    assert _events(recorder) == [
        (
            "clearspan.retry",
            {
                "clearspan.peer": "inventory",
                "clearspan.attempt": 1,
                "clearspan.retry.reason": "503",
                "clearspan.retry.delay_s": 0.1,
            },
        ),
        (
            "clearspan.retry",
            {
                "clearspan.peer": "inventory",
                "clearspan.attempt": 2,
                "clearspan.retry.reason": "ReadError",
                "clearspan.retry.delay_s": 0.2,
            },
        ),
    ]
    attempts = recorder.metrics("orders")["clearspan.client.attempts"]
    assert {point.attributes.get("error.type"): point.value for point in attempts} == {
        "503": 1,
        "ReadError": 1,
        None: 1,
    }
    retries = recorder.metrics("orders")["clearspan.client.retries"]
    assert {point.attributes["clearspan.retry.reason"]: point.value for point in retries} == {"503": 1, "ReadError": 1}


async def test_hanging(recorder: Recorder) -> None:
    """A dependency that hangs costs the call's time and no more; each span says which limit ended it."""
    started = asyncio.get_running_loop().time()
    (error,) = await _call(recorder, _hang, deadline={"total_s": 5})
    assert asyncio.get_running_loop().time() - started == pytest.approx(5.0)
    assert isinstance(error, DeadlineExceeded)
    assert was_sent(error)
    assert (
        recorder.tree(attributes=SHOWN)
        == """\
trace 1
  orders INTERNAL request
    orders CLIENT GET error.type=AttemptTimedOut ERROR AttemptTimedOut
    orders CLIENT GET http.request.resend_count=1 error.type=AttemptTimedOut ERROR AttemptTimedOut
    orders CLIENT GET http.request.resend_count=2 error.type=DeadlineExceeded ERROR DeadlineExceeded"""
    )


async def test_breaker(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """A call that the breaker refuses has a short span of its own, and the probe says what it is."""
    caplog.set_level(logging.INFO)
    settings = {"breaker": {"min_attempts": 2, "open_s": 5}, "retry": {"max_attempts": 1}}
    telemetry = recorder.telemetry("orders")
    told = DependencySettings.model_validate({"name": "inventory", "base_url": "http://inventory:8001", **settings})
    with telemetry.tracer_provider.get_tracer("t").start_as_current_span("request"):
        async with create_client(told, telemetry, Dependency(500, 500, 200)) as client:
            for _ in range(2):
                await client.get("/stock")
            with pytest.raises(BreakerOpen) as caught:
                await client.get("/stock")
            await asyncio.sleep(5)
            await client.get("/stock")
    assert not was_sent(caught.value)
    assert (
        recorder.tree(attributes=SHOWN, logs=False)
        == """\
trace 1
  orders INTERNAL request
    orders CLIENT GET http.response.status_code=500 error.type=500 ERROR
    orders CLIENT GET http.response.status_code=500 error.type=500 ERROR
    orders CLIENT GET error.type=BreakerOpen ERROR it has failed too often of late and is left alone
    orders CLIENT GET http.response.status_code=200 clearspan.breaker.state=half_open"""
    )
    changes = [attributes["clearspan.breaker.state"] for name, attributes in _events(recorder) if "breaker" in name]
    assert changes == ["open", "half_open", "closed"]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "INFO"]
    counted = recorder.metrics("orders")["clearspan.breaker.changes"]
    assert sorted(point.attributes["clearspan.breaker.state"] for point in counted) == ["closed", "half_open", "open"]
    (refusals,) = recorder.metrics("orders")["clearspan.client.refusals"]
    assert (refusals.attributes["error.type"], refusals.value) == ("BreakerOpen", 1)


async def test_breaker_opens_within_a_call(recorder: Recorder) -> None:
    """A call whose own attempts open the breaker ends there; that it was sent before is known."""
    (error,) = await _call(recorder, httpx.ReadError("reset"), breaker={"min_attempts": 2})
    assert isinstance(error, BreakerOpen)
    assert was_sent(error)
    assert [span.name for span in recorder.spans] == ["GET", "GET", "GET", "request"]


async def test_bulkhead(recorder: Recorder) -> None:
    """A call that finds no place has a short span of its own."""
    telemetry = recorder.telemetry("orders")
    told = DependencySettings(
        name="inventory",
        base_url=AnyHttpUrl("http://inventory:8001"),
        bulkhead=BulkheadOptions(max_calls=1, max_waiting=0),
    )
    async with create_client(told, telemetry, Dependency(_hang)) as client:
        first = asyncio.create_task(client.get("/stock"))
        await asyncio.sleep(0.1)
        with pytest.raises(BulkheadFull) as caught:
            await client.get("/stock")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert not was_sent(caught.value)
    told_of = [(dict(span.attributes or {}).get("error.type"), span.status.description) for span in recorder.spans]
    assert told_of == [("BulkheadFull", "1 calls are under way and 0 wait"), ("cancelled", "cancelled")]


async def test_business_answer(recorder: Recorder) -> None:
    """An answer by contract is no error of the call and is not asked for again."""
    (response,) = await _call(recorder, 404, business_answers=[404])
    assert isinstance(response, httpx.Response)
    assert recorder.tree(attributes=SHOWN).endswith("orders CLIENT GET http.response.status_code=404 error.type=404")


async def test_post_is_sent_once(recorder: Recorder) -> None:
    """A POST that hangs is sent once."""
    dependency = Dependency(_hang)
    telemetry = recorder.telemetry("orders")
    async with create_client(DependencySettings(name="payments"), telemetry, dependency) as client:
        with pytest.raises(httpx.TimeoutException):
            await client.post("http://payments/", json={})
    assert len(dependency.requests) == 1


async def test_context_travels_with_each_attempt(recorder: Recorder) -> None:
    """Each attempt carries its own span's id to the dependency."""
    dependency = Dependency(503, 200)
    telemetry = recorder.telemetry("orders")
    async with create_client(DependencySettings(name="inventory"), telemetry, dependency) as client:
        await client.get("http://inventory/")
    # One request object for both: what it carries now is of the last attempt.
    (last,) = {request.headers["traceparent"] for request in dependency.requests}
    spans: list[ReadableSpan] = recorder.spans
    assert spans[1].context is not None
    assert last.split("-")[2] == f"{spans[1].context.span_id:016x}"


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"bulkhead": {"max_calls": 0}}, ("bulkhead", "max_calls")),
        ({"breaker": {"failure_ratio": 2}}, ("breaker", "failure_ratio")),
        ({"retry": {"budget_ratio": -1}}, ("retry", "budget_ratio")),
        ({"attempt": {"timeout_s": 0}}, ("attempt", "timeout_s")),
        ({"retries": 3}, ("retries",)),
    ],
)
def test_bad_settings(settings: dict[str, Any], where: tuple[str, ...]) -> None:
    """A setting that makes no sense, or is not known, is told by its path."""
    with pytest.raises(ValidationError) as caught:
        DependencySettings.model_validate({"name": "inventory", **settings})
    assert caught.value.errors()[0]["loc"] == where


class Counted(Dependency):
    """A dependency that fails once and then answers, a step of the event loop at a time."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(3):
            await asyncio.sleep(0)
        return await super().handle_async_request(request)


@pytest.mark.parametrize("probe", [False, True], ids=["closed", "probe"])
async def test_cancelled_at_every_await(recorder: Recorder, probe: bool) -> None:
    """Wherever a caller gives up, nothing of the chain is held: no place of the bulkhead, no probe of the breaker."""
    settings = DependencySettings(
        name="inventory", bulkhead=BulkheadOptions(max_calls=1), breaker=BreakerOptions(min_attempts=1, open_s=1)
    )
    telemetry = recorder.telemetry("orders")
    for step in itertools.count():
        chain = create_chain(settings, telemetry, Counted(500, 200) if probe else Counted(200))
        assert isinstance(chain, Bulkhead)
        if probe:
            await chain.handle_async_request(httpx.Request("POST", "http://inventory/"))
            await asyncio.sleep(1)
        task = asyncio.create_task(chain.handle_async_request(httpx.Request("POST", "http://inventory/")))
        for _ in range(step):
            await asyncio.sleep(0)
        if task.done():
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert chain.under_way == 0
        assert (await chain.handle_async_request(httpx.Request("POST", "http://inventory/"))).status_code == 200
    assert step > 3


async def test_fast_path_off() -> None:
    """Without the fast path the chain tells the same."""
    stories = []
    for fast in (True, False):
        recorder = Recorder()
        telemetry = recorder.telemetry("orders")
        telemetry.fast = fast
        told = DependencySettings(
            name="inventory", base_url=AnyHttpUrl("http://inventory.example"), business_answers=frozenset({404})
        )
        async with create_client(told, telemetry, Dependency(503, httpx.ReadError("reset"), 404, 400)) as client:
            for _ in range(2):
                await client.get("/stock")
        attempts = {
            point.attributes.get("error.type"): point.value
            for point in recorder.metrics("orders")["clearspan.client.attempts"]
        }
        stories.append((recorder.tree(attributes=(*SHOWN, "clearspan.peer")), attempts))
    assert stories[0] == stories[1]
    assert stories[0][1] == {"503": 1, "ReadError": 1, "404": 1, "400": 1}


async def test_cookies() -> None:
    """The client keeps cookies as httpx's does, and those it was given."""

    def answer(name: str) -> httpx.Response:
        return httpx.Response(200, headers={"set-cookie": f"{name}=1; Path=/"})

    inventory = Dependency(answer("a"), 200, answer("b"), 200)
    told = DependencySettings(name="inventory", base_url=AnyHttpUrl("http://inventory.example"))
    async with create_client(told, Recorder().telemetry("orders"), inventory) as client:
        for _ in range(4):
            await client.get("/")
        assert client.cookies == {"a": "1", "b": "1"}
        client.cookies = {"c": "2"}
        await client.get("/")
    assert [request.headers.get("cookie") for request in inventory.requests] == [None, "a=1", "a=1", "a=1; b=1", "c=2"]


async def test_elapsed(recorder: Recorder) -> None:
    """An answer tells how long it took to come, as httpx's does."""
    (answer,) = await _call(recorder, httpx.Response(200))
    assert isinstance(answer, httpx.Response)
    assert answer.elapsed > timedelta()


async def test_urls() -> None:
    """The client merges URLs as httpx's does, however often, and whatever is changed between."""
    inventory = Dependency(200)
    told = DependencySettings(name="inventory", base_url=AnyHttpUrl("http://inventory.example/v1"))
    asked: list[str] = []
    async with (
        create_client(told, Recorder().telemetry("orders"), inventory) as client,
        httpx.AsyncClient(base_url="http://inventory.example/v1", transport=Dependency(200)) as plain,
    ):
        for number in range(4):
            for url in ("stock", "/stock?a=b", "http://other.example/#c", *[f"/{one}" for one in range(300)]):
                await client.get(url)
                asked.append(str(plain.build_request("GET", url).url))
            await client.get("/stock", params={"a": str(number)})
            asked.append(f"{plain.base_url}stock?a={number}")
            match number:
                case 0:
                    client.base_url = plain.base_url = httpx.URL("http://inventory.example/v2")
                case 1:
                    client.params = plain.params = httpx.QueryParams({"p": "q"})
                    assert str(client.build_request("GET", "/stock").url.params) == "p=q"
                    client.params = plain.params = httpx.QueryParams()
    assert [str(request.url) for request in inventory.requests] == asked
    assert len(client._urls) <= 256  # type: ignore[attr-defined]


def test_order() -> None:
    """The order of the steps is written in one function, and it is this."""
    settings = DependencySettings(name="inventory")
    assert client_module.create_chain.__doc__
    steps = []
    step: Any = create_chain(settings, Recorder().telemetry("orders"), Dependency())
    while step is not None:
        steps.append(type(step).__name__)
        step = getattr(step, "_inner", None) or getattr(step, "_transport", None)
    assert steps == [
        "Bulkhead",
        "Deadline",
        "Retry",
        "Hedge",
        "CircuitBreaker",
        "AttemptTimeout",
        "ClientSpans",
        "WholeExchange",
        "Dependency",
    ]
