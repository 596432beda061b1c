"""Asking a running service for faults."""

from __future__ import annotations

from typing import Any

import httpx

from observability.faults.fault import PATH

TIMEOUT_S = 5.0


class FaultError(Exception):
    """The service did not do what was asked; the message says why."""


class RemoteFaults:
    """The faults of a service, over HTTP.

    Args:
        name: What the service is called in messages.
        url: Where it answers.
    """

    def __init__(self, name: str, url: str) -> None:
        self._name = name
        self._url = url

    def set(self, fault: dict[str, Any]) -> None:
        """Let a fault be in force; what `fault` leaves out has the defaults of `observability.faults.fault.Fault`.

        Raises:
            FaultError: The service is not there, takes no faults, or not this one.
        """
        self._ask("PUT", fault)

    def clear(self) -> None:
        """End all faults.

        Raises:
            FaultError: The service is not there, or takes no faults.
        """
        self._ask("DELETE")

    def in_force(self) -> list[dict[str, Any]]:
        """The faults in force; `seconds` is how long they last from now.

        Raises:
            FaultError: The service is not there, or takes no faults.
        """
        faults: list[dict[str, Any]] = self._ask("GET").json()
        return faults

    def _ask(self, method: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
                answer = client.request(method, f"{self._url}{PATH}", json=body)
        except httpx.TransportError as error:
            raise FaultError(f"{self._name} does not answer at {self._url}; is it running, on this --port?") from error
        if answer.is_success:
            return answer
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise FaultError(
                f"{self._name} takes no faults: only services behind the public edge do, with CLEARSPAN_FAULTS=true"
            )
        raise FaultError(f"{self._name} refuses: {_reason(answer)}")


def _reason(answer: httpx.Response) -> str:
    """What a problem says."""
    try:
        problem = answer.json()
        errors = [f"{one['pointer'].removeprefix('#/body/')}: {one['detail']}" for one in problem.get("errors", ())]
        return "; ".join(errors) or str(problem["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"status {answer.status_code}"
