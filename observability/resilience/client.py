"""The client of one dependency: the chain, and the one place where its order is written."""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import timedelta
from functools import partial
from http.cookiejar import CookieJar
from time import perf_counter
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field

from observability.fastpath.client import Attributes, observe_transport
from observability.providers import Telemetry
from observability.resilience.attempt import AttemptOptions, AttemptTimeout
from observability.resilience.breaker import ELSEWHERE, BreakerOptions, CircuitBreaker, State
from observability.resilience.budget import RetryBudget
from observability.resilience.bulkhead import Bulkhead, BulkheadOptions
from observability.resilience.call import call_of
from observability.resilience.deadline import Deadline, DeadlineOptions
from observability.resilience.decisions import BreakerChanged, Decision, Tell
from observability.resilience.exchange import WholeExchange
from observability.resilience.hedge import Hedge, HedgeOptions
from observability.resilience.retry import Retry, RetryOptions
from observability.resilience.telemetry import ChainTelemetry, attempt_attributes
from observability.resilience.transport import AiohttpTransport

if TYPE_CHECKING:
    from observability.resilience.shared import SharedBreakers  # which imports redis-py: only who shares pays

_MAX_URLS = 256
_MAX_URL_CHARS = 1024


class Dependency(BaseModel):
    """Everything that is set of one dependency."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """What it is called in telemetry."""

    base_url: AnyHttpUrl | None = None
    """Where it is; None if each request brings its own URL."""

    business_answers: frozenset[int] = frozenset()
    """Statuses of 4xx that it answers by its contract: no errors of the call, whose span ends with status OK."""

    max_answer_bytes: int = Field(default=1024 * 1024, ge=1)
    """Of an answer's body, inflated."""

    bulkhead: BulkheadOptions = BulkheadOptions()
    deadline: DeadlineOptions = DeadlineOptions()
    retry: RetryOptions = RetryOptions()
    hedge: HedgeOptions = HedgeOptions()
    breaker: BreakerOptions = BreakerOptions()
    attempt: AttemptOptions = AttemptOptions()


def create_client(
    dependency: Dependency,
    telemetry: Telemetry,
    transport: httpx.AsyncBaseTransport | None = None,
    shared: SharedBreakers | None = None,
) -> httpx.AsyncClient:
    """Make the client of a dependency, one for the life of the application; close it at its end.

    Answers are read whole, so it is not for streams. It follows no redirects and believes no proxy of the environment.

    Args:
        dependency: What is set of it.
        telemetry: Tells every attempt, wait and refusal.
        transport: The connection's; by default a pool of connections to the network.
        shared: Opens the dependency's breaker together with those of the other replicas.
    """
    return _Client(
        base_url=str(dependency.base_url or ""),
        transport=create_chain(dependency, telemetry, transport or _connections(dependency), shared),
        timeout=httpx.Timeout(None, connect=0.5, pool=1.0),  # the attempt's time bounds what is read and written
        headers={"accept-encoding": "gzip, deflate"},  # what is read whole within a bound, whatever else is installed
        follow_redirects=False,
        trust_env=False,
    )


def create_chain(
    dependency: Dependency,
    telemetry: Telemetry,
    transport: httpx.AsyncBaseTransport,
    shared: SharedBreakers | None = None,
) -> httpx.AsyncBaseTransport:
    """Put the steps around a connection's transport, from the inside out."""
    scope = "observability.resilience"
    told = ChainTelemetry(
        dependency.name,
        telemetry.tracer_provider.get_tracer(scope),
        telemetry.meter_provider.get_meter(scope),
        fast=telemetry.fast,
    )
    # Innermost, so that the attempt's span and time cover the answer to its last byte.
    step: httpx.AsyncBaseTransport = WholeExchange(transport, dependency.max_answer_bytes)
    # A client span for each attempt, not for the call: only so a retry is seen.
    step = observe_transport(
        step,
        telemetry.tracer_provider,
        telemetry.meter_provider,
        fast=telemetry.fast,
        business_answers=dependency.business_answers,
        describe=partial(_describe, dependency.name),
    )
    # Around each attempt, so that one that hangs leaves time for another.
    step = AttemptTimeout(step, dependency.attempt, told.tell)
    # Sees each attempt with its end by time, and stops the retries that would still come.
    step = breaker = CircuitBreaker(step, dependency.breaker, partial(_tell_breaker, dependency, told.tell, shared))
    if shared is not None:
        shared.join(dependency.name, breaker.breaker)
    # Outside the breaker, which has to let a second attempt through like any other.
    budget = RetryBudget(dependency.retry.budget_ratio, dependency.retry.budget_floor)
    step = Hedge(step, dependency.hedge, budget, told.tell)
    # Outside the breaker, so that what it refuses is not asked for again; of one budget with the hedges.
    step = Retry(step, dependency.retry, budget, told.tell)
    # Around all attempts and the waits between them.
    step = Deadline(step, dependency.deadline, told.tell)
    # Outermost: a call holds its place as long as it lasts, its waits included.
    bulkhead = Bulkhead(step, dependency.bulkhead, told.tell)
    told.observe_calls(lambda: bulkhead.under_way)
    return bulkhead


class _Client(httpx.AsyncClient):
    """Spares what takes httpx as long as the whole chain.

    It looks for cookies only in answers that set some, and parses a URL once that is asked for again and again.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - httpx's
        super().__init__(**settings)
        self._own_cookies = _Cookies()
        self._urls: dict[str, httpx.URL] = {}
        self._urls_base = self.base_url

    @property
    def cookies(self) -> httpx.Cookies:
        return self._own_cookies

    @cookies.setter
    def cookies(self, cookies: httpx.Cookies | dict[str, str] | list[tuple[str, str]] | CookieJar) -> None:
        self._own_cookies = _Cookies(cookies)

    async def send(self, request: httpx.Request, **settings: Any) -> httpx.Response:  # noqa: ANN401 - httpx's
        began = perf_counter()
        response = await super().send(request, **settings)
        # httpx tells it when an answer is closed, which one that was read whole is before it looks.
        response.elapsed = timedelta(seconds=perf_counter() - began)
        return response

    def build_request(self, method: str, url: httpx.URL | str, **settings: Any) -> httpx.Request:  # noqa: ANN401
        if not isinstance(url, str) or settings.get("params") is not None or self.params or len(url) > _MAX_URL_CHARS:
            return super().build_request(method, url, **settings)
        if self._urls_base is not self.base_url or len(self._urls) >= _MAX_URLS:
            self._urls.clear()
            self._urls_base = self.base_url
        request = super().build_request(method, self._urls.get(url, url), **settings)
        self._urls[url] = request.url
        return request


class _Cookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        if "set-cookie" in response.headers:
            super().extract_cookies(response)


def _connections(dependency: Dependency) -> httpx.AsyncBaseTransport:
    # As many connections as calls: then no call waits for one. With hedging a call may have two.
    calls = dependency.bulkhead.max_calls
    return AiohttpTransport(max_connections=2 * calls if dependency.hedge.enabled else calls)


def _tell_breaker(dependency: Dependency, tell: Tell, shared: SharedBreakers | None, decision: Decision) -> None:
    tell(decision)
    if (
        shared is not None
        and isinstance(decision, BreakerChanged)
        and decision.after == State.OPEN.value
        and decision.reason != ELSEWHERE  # else two replicas would keep each other's open for good
    ):
        shared.opened(dependency.name, dependency.breaker.open_s)


def _describe(peer: str, extensions: MutableMapping[str, Any]) -> Attributes:
    return attempt_attributes(peer, call_of(extensions))
