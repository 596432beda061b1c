"""The services that orders calls, over HTTP; what goes wrong there is translated into the shop's errors here."""

from __future__ import annotations

import json
from typing import Any

import httpx
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, ValidationError

from observability.resilience.attempt import AttemptOptions
from observability.resilience.call import was_sent
from observability.resilience.client import Dependency
from observability.resilience.deadline import DeadlineOptions
from observability.resilience.errors import AnswerTooLarge, BreakerOpen, BulkheadFull, DeadlineSpent
from service.errors import (
    PROBLEMS,
    Conflict,
    DependencyFailed,
    DependencySlow,
    DependencyUnavailable,
    NotFound,
    OutOfStock,
    PaymentDeclined,
)
from service.orders.orders import Reserved
from service.schema import Currency

CALL_S = 3.0
"""For a call of an order: the customer waits for one that fails, or for two and one that undoes what they have done."""

_GIVEN_UP = "This order was given up meanwhile; place a new one."


def inventory(url: AnyHttpUrl) -> Dependency:
    """Inventory, as it is called."""
    return Dependency(
        name="inventory",
        base_url=url,
        business_answers=frozenset({404, 409}),
        deadline=DeadlineOptions(total_s=CALL_S),
    )


def payments(url: AnyHttpUrl) -> Dependency:
    """Payments, as it is called."""
    return Dependency(
        name="payments",
        base_url=url,
        business_answers=frozenset({402, 409}),
        deadline=DeadlineOptions(total_s=CALL_S),
    )


def external() -> Dependency:
    """The external service, as it is called: a stranger, who is told nothing of our deadlines."""
    return Dependency(name="external", attempt=AttemptOptions(tell_dependency=False))


class ReservationAnswer(BaseModel):
    """What orders reads of inventory's answer."""

    model_config = ConfigDict(strict=True)

    amount: int = Field(ge=1, le=10**12)
    currency: Currency


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
                try:
                    reservation = ReservationAnswer.model_validate(answer)
                except ValidationError as error:
                    raise DependencyFailed("inventory answered without an amount and its currency.") from error
                return Reserved(reservation.amount, reservation.currency)
            case 404 if answer is not None:
                raise NotFound("No goods are known by this sku; GET /stock of inventory lists them.")
            case 409 if answer is not None:
                if _title(answer) == PROBLEMS[OutOfStock][1]:
                    raise OutOfStock(f"Fewer than {quantity} are left.")
                raise Conflict(_GIVEN_UP)
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
        status, answer = await _call(
            self._client,
            "payments",
            "PUT",
            f"/payments/{order_id}",
            {"amount": amount, "currency": currency, "card": card},
        )
        match status:
            case 200:
                return
            case 402 if answer is not None:
                raise PaymentDeclined("The card was declined; use another one for a new order.")
            case 409 if answer is not None:
                raise Conflict(_GIVEN_UP)
        raise DependencyFailed(f"payments answered {status}.")

    async def refund(self, order_id: str) -> None:
        """Give the money back."""
        status, _ = await _call(self._client, "payments", "PUT", f"/payments/{order_id}/refund")
        if status != httpx.codes.OK:
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
    """Send a request; the answer's JSON, or None if it has no content or is an error that is not JSON, as a proxy's."""
    try:
        response = await client.request(method, url, json=body)
    except (BreakerOpen, BulkheadFull) as error:
        wait_s = error.retry_after_s if isinstance(error, BreakerOpen) else 1.0
        raise DependencyUnavailable(f"{name} is not asked: {error}.", sent=was_sent(error), wait_s=wait_s) from error
    except (httpx.TimeoutException, DeadlineSpent) as error:
        raise DependencySlow(f"{name} did not answer in time.", sent=was_sent(error)) from error
    except httpx.InvalidURL as error:
        raise DependencyFailed(f"{name} has no usable URL.", sent=False) from error
    except AnswerTooLarge as error:
        raise DependencyFailed(f"{name} answered with more than is read.") from error
    except httpx.RequestError as error:
        reason = f"{name} could not be reached ({type(error).__name__})."
        raise DependencyFailed(reason, sent=was_sent(error)) from error
    if not response.content:
        if response.status_code == httpx.codes.NO_CONTENT:
            return response.status_code, None
        raise DependencyFailed(f"{name} answered {response.status_code} without content.")
    try:
        return response.status_code, json.loads(response.content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if response.is_success:
            raise DependencyFailed(f"{name} answered with what is not JSON.") from error
        return response.status_code, None


def _title(problem: object) -> object:
    return problem.get("title") if isinstance(problem, dict) else None


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
