"""The services that orders calls, over HTTP; what goes wrong there is translated into the shop's errors here."""

from __future__ import annotations

import json
from typing import Any

import httpx

from observability import Telemetry, instrument_client
from service.errors import Conflict, DependencyFailed, DependencySlow, NotFound, OutOfStock, PaymentDeclined
from service.orders.orders import Reserved

TIMEOUT = httpx.Timeout(2.0, connect=0.5, pool=1.0)
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=50)
MAX_ANSWER_BYTES = 1024 * 1024


def create_client(
    base_url: str, telemetry: Telemetry, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """Make the client of one dependency, for the life of the application.

    Args:
        base_url: Where the dependency is.
        telemetry: Gives each call its span.
        transport: By default a pool of connections to the network.
    """
    client = httpx.AsyncClient(
        base_url=base_url,
        timeout=TIMEOUT,
        transport=transport if transport is not None else httpx.AsyncHTTPTransport(limits=LIMITS),
        follow_redirects=False,
        trust_env=False,
    )
    instrument_client(client, telemetry)
    return client


class HttpInventory:
    """`service.orders.orders.Inventory` over HTTP."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def reserve(self, order_id: str, sku: str, quantity: int) -> Reserved:
        """Set goods aside."""
        status, answer = await _call(
            self._client, "inventory", "PUT", f"/reservations/{order_id}", {"sku": sku, "quantity": quantity}
        )
        match status:
            case 200:
                return Reserved(_integer("inventory", answer, "amount"), str(answer["currency"]))
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

    async def fetch(self) -> Any:  # noqa: ANN401 - any JSON
        """Its JSON.

        Raises:
            DependencyError: It is unreachable or slow, or what it answers is an error, not JSON, or too long.
        """
        status, answer = await _call(self._client, "the external service", "GET", self._url)
        if status != httpx.codes.OK:
            raise DependencyFailed(f"the external service answered {status}.")
        return answer


async def _call(
    client: httpx.AsyncClient, name: str, method: str, url: str, body: dict[str, object] | None = None
) -> tuple[int, Any]:
    """Send a request; the answer's JSON, or None if it has no content."""
    try:
        async with client.stream(method, url, json=body) as response:
            content = await _read(response, name)
    except httpx.TimeoutException as error:
        raise DependencySlow(f"{name} did not answer in time.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DependencyFailed(f"{name} could not be reached ({type(error).__name__}).") from error
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


def _integer(name: str, answer: object, member: str) -> int:
    if not isinstance(answer, dict) or not isinstance(answer.get(member), int):
        raise DependencyFailed(f"{name} answered without {member!r}.")
    value: int = answer[member]
    return value


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
