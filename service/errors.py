"""What can go wrong in the shop, and its one table to HTTP.

ShopError
├── NotFound              the order, sku or payment is not known
├── Conflict              the state does not allow it
│   ├── OutOfStock        fewer are left than asked for
│   └── InProgress        the same Idempotency-Key is being worked on right now
├── KeyReused             an Idempotency-Key came back with another request
├── PaymentDeclined       the card was refused: a business answer, no fault
└── DependencyError       a service that we call did not do its part
    ├── DependencyFailed       is unreachable, or answers with an error or with nonsense
    ├── DependencySlow         did not answer in time
    └── DependencyUnavailable  is not asked, since it failed too often or has too much to do
"""

from __future__ import annotations

import logging
import math

from fastapi import FastAPI, Request
from fastapi.responses import Response
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection

from observability.database import is_busy
from observability.problems import problem

logger = logging.getLogger(__name__)


class ShopError(Exception):
    """An error of the shop; its text is written for the caller.

    Attributes:
        replayed: Whether it is the answer to an earlier request, given again.
    """

    replayed = False


class NotFound(ShopError):
    """The thing that was asked for is not known."""


class Conflict(ShopError):
    """The state does not allow what was asked for."""


class OutOfStock(Conflict):
    """Fewer are left than were asked for."""


class InProgress(Conflict):
    """The same Idempotency-Key is being worked on right now."""


class KeyReused(ShopError):
    """An Idempotency-Key came back with another request."""


class PaymentDeclined(ShopError):
    """The card was refused."""


class DependencyError(ShopError):
    """A service that we call did not do its part.

    Args:
        detail: What is told to the caller.
        sent: Whether the request may have reached it, so that what was asked for may have been done all the same.
    """

    def __init__(self, detail: str, *, sent: bool = True) -> None:
        super().__init__(detail)
        self.sent = sent


class DependencyFailed(DependencyError):
    """It is unreachable, or answered with an error or with what we cannot read."""


class DependencySlow(DependencyError):
    """It did not answer in time."""


class DependencyUnavailable(DependencyError):
    """It is not asked, since it failed too often of late or has as much to do as it may have.

    Args:
        detail: What is told to the caller.
        sent: Whether an earlier attempt of the request may have reached it.
        wait_s: When it is worth while to ask again, in seconds.
    """

    def __init__(self, detail: str, *, sent: bool, wait_s: float) -> None:
        super().__init__(detail, sent=sent)
        self.wait_s = wait_s


# The most specific class wins.
PROBLEMS: dict[type[ShopError], tuple[int, str]] = {
    NotFound: (404, "Not found"),
    Conflict: (409, "Conflict"),
    OutOfStock: (409, "Out of stock"),
    InProgress: (409, "Request in progress"),
    KeyReused: (422, "Idempotency-Key reused"),
    PaymentDeclined: (402, "Payment declined"),
    DependencyFailed: (502, "Dependency failed"),
    DependencySlow: (504, "Dependency timed out"),
    DependencyUnavailable: (503, "Dependency unavailable"),
}


def install_error_handlers(app: FastAPI) -> None:
    """Render the shop's errors as problems, and a database that has too much to do, or is away for now, as 503."""
    app.add_exception_handler(ShopError, _render)
    for kind in (DBAPIError, NoConnection):
        app.add_exception_handler(kind, _database_failed)


async def _render(_request: Request, error: Exception) -> Response:
    status, title = next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)
    headers = None
    if isinstance(error, InProgress):
        headers = {"retry-after": "1"}
    elif isinstance(error, DependencyUnavailable):
        headers = {"retry-after": str(max(1, math.ceil(error.wait_s)))}
    return problem(status, title, str(error), headers=headers)


async def _database_failed(_request: Request, error: Exception) -> Response:
    if not is_busy(error):
        raise error
    logger.warning("the database has too much to do, or is away: %s", error.args[0])
    detail = "The database does not answer in time; ask again."
    return problem(503, "Service busy", detail, headers={"retry-after": "1"})
