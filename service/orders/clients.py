"""The services that orders calls, over HTTP; what goes wrong there is translated into the shop's errors here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from observability import Telemetry, instrument_client
from service.errors import Conflict, DependencyFailed, DependencySlow, NotFound, OutOfStock, PaymentDeclined
from service.orders.orders import Reserved
from service.schema import Currency

TIMEOUT = httpx.Timeout(2.0, connect=0.5, pool=1.0)
TOTAL_TIMEOUT_S = 6.0
"""Of a whole call, in seconds; the other limits are of each step, and an answer may come in many."""

LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=50)
MAX_ANSWER_BYTES = 1024 * 1024
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class ReservationAnswer(BaseModel):
    """What orders reads of inventory's answer."""

    model_config = ConfigDict(strict=True)

    amount: int = Field(ge=1, le=10**12)
    currency: Currency


def create_client(
    base_url: str,
    telemetry: Telemetry,
    transport: httpx.AsyncBaseTransport | None = None,
    business_answers: Collection[int] = (),
) -> httpx.AsyncClient:
    """Make the client of one dependency, for the life of the application.

    Args:
        base_url: Where the dependency is.
        telemetry: Gives each call its span.
        transport: By default a pool of connections to the network.
        business_answers: Statuses that the dependency answers by its contract.
    """
    client = httpx.AsyncClient(
        base_url=base_url,
        timeout=TIMEOUT,
        transport=transport if transport is not None else httpx.AsyncHTTPTransport(limits=LIMITS),
        follow_redirects=False,
        trust_env=False,
    )
    instrument_client(client, telemetry, business_answers=business_answers)
    return client


class HttpInventory:
    """`service.orders.orders.Inventory` over HTTP."""

    BUSINESS_ANSWERS = frozenset({404, 409})

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reserved:
        """Set goods aside."""
        status, answer = await _call(
            self._client, "inventory", "PUT", f"/reservations/{order_id}", {"sku": sku, "quantity": quantity}
        )
        match status:
            case 200:
                try:
                    reservation = ReservationAnswer.model_validate(answer)
                except ValidationError as error:
                    raise DependencyFailed("inventory answered without an amount and its currency.") from error
                return Reserved(reservation.amount, reservation.currency)
            case 404:
                raise NotFound("No goods are known by this sku; GET /stock of inventory lists them.")
            case 409:
                raise OutOfStock(f"Fewer than {quantity} are left.")
        raise DependencyFailed(f"inventory answered {status}.")

    async def release(self, order_id: str) -> None:
        """Put the goods back."""
        status, _ = await _call(self._client, "inventory", "DELETE", f"/reservations/{order_id}")
        if status != httpx.codes.NO_CONTENT:
            raise DependencyFailed(f"inventory answered {status}.")


class HttpPayments:
    """`service.orders.orders.Payments` over HTTP."""

    BUSINESS_ANSWERS = frozenset({402, 409})

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def charge(self, order_id: str, amount: int, currency: str, card: str) -> None:
        """Take the money."""
        status, _ = await _call(
            self._client,
            "payments",
            "PUT",
            f"/payments/{order_id}",
            {"amount": amount, "currency": currency, "card": card},
        )
        match status:
            case 200:
                return
            case 402:
                raise PaymentDeclined("The card was declined; use another one for a new order.")
            case 409:
                raise Conflict("This order was charged with another amount or card already.")
        raise DependencyFailed(f"payments answered {status}.")


class HttpExternal:
    """Whatever `EXTERNAL_SERVICE_URL` names."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def fetch(self) -> bytes:
        """Its JSON, written anew: what another parser might trip over is escaped or refused.

        Raises:
            DependencyError: It is unreachable or slow, or what it answers is an error, not JSON, or too long.
        """
        status, answer = await _call(self._client, "the external service", "GET", self._url)
        if status != httpx.codes.OK:
            raise DependencyFailed(f"the external service answered {status}.")
        try:
            return json.dumps(answer, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise DependencyFailed("the external service answered with numbers or nesting beyond bounds.") from error


async def _call(
    client: httpx.AsyncClient, name: str, method: str, url: str, body: dict[str, object] | None = None
) -> tuple[int, Any]:
    """Send a request; the answer's JSON, or None if it has no content."""
    try:
        async with asyncio.timeout(TOTAL_TIMEOUT_S), client.stream(method, url, json=body) as response:
            content = await _read(response, name)
    except (httpx.TimeoutException, TimeoutError) as error:
        raise DependencySlow(f"{name} did not answer in time.", sent=not isinstance(error, NEVER_SENT)) from error
    except httpx.InvalidURL as error:
        raise DependencyFailed(f"{name} has no usable URL.", sent=False) from error
    except httpx.HTTPError as error:
        reason = f"{name} could not be reached ({type(error).__name__})."
        raise DependencyFailed(reason, sent=not isinstance(error, NEVER_SENT)) from error
    if not content:
        if response.status_code == httpx.codes.NO_CONTENT:
            return response.status_code, None
        raise DependencyFailed(f"{name} answered {response.status_code} without content.")
    try:
        return response.status_code, json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if response.is_success:
            raise DependencyFailed(f"{name} answered with what is not JSON.") from error
        return response.status_code, None


async def _read(response: httpx.Response, name: str) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise DependencyFailed(f"{name} answered with more than {MAX_ANSWER_BYTES} bytes.")
    return bytes(content)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
