"""Forms that the services' requests share; what does not have them is a 422."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import BeforeValidator, StringConstraints


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
"""An integer as JSON Schema counts them: 2.0 is one, and some languages write every number so."""

Sku = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
OrderId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
CardNumber = Annotated[str, StringConstraints(pattern=r"^[0-9]{12,19}$")]

SkuInPath = Annotated[Sku, Path()]
OrderIdInPath = Annotated[OrderId, Path()]
