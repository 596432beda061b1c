"""What is sent: the requests of `[tool.clearspan.load]` in pyproject.toml, each as often as its weight says."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveFloat, TypeAdapter, ValidationError

from observability.load.load import Request
from observability.project import ProjectError, read_table


class MixError(Exception):
    """There is nothing to send; the message says what to change."""


class Weighted(BaseModel):
    """One entry: what is asked for, and how often against the others."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weight: PositiveFloat
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: str = Field(pattern=r"^/[!-~]*$")
    body: JsonValue = Field(default=None, alias="json")


_Mix = TypeAdapter(dict[str, Weighted])


def read_mix(pyproject: Path) -> dict[str, Weighted]:
    """The requests of a project by their names, in their order.

    Raises:
        MixError: The file cannot be read, or its table of requests is missing or malformed.
    """
    try:
        table = read_table(pyproject, "load")
    except ProjectError as error:
        raise MixError(str(error)) from error
    if not table:
        raise MixError(f"{pyproject} has no requests: name them in [tool.clearspan.load]")
    try:
        return _Mix.validate_python(table)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise MixError(f"{pyproject}, [tool.clearspan.load]: {wrong}") from None


def requests(mix: Mapping[str, Weighted], url: str) -> Iterator[Request]:
    """Requests to a base URL, at random by their weights, without end."""
    kinds = [
        Request(
            one.method, url.rstrip("/") + one.path, b"" if one.body is None else json.dumps(one.body).encode(), name
        )
        for name, one in mix.items()
    ]
    weights = [one.weight for one in mix.values()]
    while True:
        yield random.choices(kinds, weights)[0]  # noqa: S311 - nothing secret
