"""Names of what spans and log records have beside their attributes, and the values of attributes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from observability.viewer.query import Value

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
ERROR = 2
STATUSES = {0: "unset", 1: "ok", 2: "error"}
SEVERITIES = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")

_MAX_DEPTH = 16
MAX_NAME = 256
"""Characters of a name that is searched for; what is shown is whole."""


def service_name(resource: Resource) -> str:
    """The name of the service that a resource is of."""
    for attribute in resource.attributes:
        if attribute.key == "service.name" and attribute.value.string_value:
            name: str = attribute.value.string_value
            return name[:MAX_NAME]
    return "unknown_service"


def attribute_values(attributes: Iterable[KeyValue]) -> dict[str, Value]:
    """Attributes by their keys, as they are compared."""
    return {attribute.key: plain_value(attribute.value) for attribute in attributes}


def plain_value(value: AnyValue) -> Value:
    """A value as it is compared: lists and maps as JSON, bytes in base64, and nothing as empty text."""
    match value.WhichOneof("value"):
        case "bool_value":
            return bool(value.bool_value)
        case "int_value":
            return int(value.int_value)
        case "double_value":
            return float(value.double_value)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case "array_value" | "kvlist_value":
            return json.dumps(_nested(value, 0), ensure_ascii=False)
    return str(value.string_value)


def _nested(value: AnyValue, depth: int) -> Any:  # noqa: ANN401 - any JSON
    if depth > _MAX_DEPTH:
        return "…"
    match value.WhichOneof("value"):
        case "array_value":
            return [_nested(item, depth + 1) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: _nested(item.value, depth + 1) for item in value.kvlist_value.values}
        case "double_value":
            number = value.double_value
            return number if number - number == 0 else str(number)  # JSON has no infinity and no NaN
    return plain_value(value)
