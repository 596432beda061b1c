"""OTLP's messages of spans and log records, decoded only as deep as storing needs.

Each message here has the field numbers of one of https://github.com/open-telemetry/opentelemetry-proto. What is `bytes`
in it is a message there: a record, a resource and an attribute stay as they were sent, and can be put together again
without being encoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

_FILE = "clearspan/viewer/wire.proto"


class Status(Protocol):
    """The status of a span."""

    code: int
    message: str


class WireSpan(Protocol):
    """A span whose attributes are still encoded."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes
    name: str
    kind: int
    start_time_unix_nano: int
    end_time_unix_nano: int
    attributes: Sequence[bytes]
    events: Sequence[trace_pb2.Span.Event]
    links: Sequence[trace_pb2.Span.Link]
    status: Status


class WireLog(Protocol):
    """A log record whose attributes are still encoded."""

    trace_id: bytes
    span_id: bytes
    time_unix_nano: int
    observed_time_unix_nano: int
    severity_number: int
    severity_text: str
    body: common_pb2.AnyValue
    event_name: str
    attributes: Sequence[bytes]


class Group:
    """Records of one resource and scope, each encoded, as are they."""

    __slots__ = ("records", "resource", "scope")

    def __init__(self, resource: bytes, scope: bytes, records: Sequence[bytes]) -> None:
        self.resource = resource
        self.scope = scope
        self.records = records


def split(body: bytes) -> Iterator[Group]:
    """The records of an encoded request to export spans or log records.

    Raises:
        google.protobuf.message.DecodeError: The body is not such a message; records may still be none.
    """
    for resourced in _batch.FromString(body).resources:
        for scoped in resourced.scopes:
            yield Group(resourced.resource, scoped.scope, scoped.records)


def join(groups: Iterable[Group]) -> bytes:
    """The encoded request of these records, in their order."""
    batch = _batch()
    resourced: Any = None
    for group in groups:
        if resourced is None or resourced.resource != group.resource:
            resourced = batch.resources.add()
            resourced.resource = group.resource
        scoped = resourced.scopes.add()
        scoped.scope = group.scope
        scoped.records.extend(group.records)
    encoded: bytes = batch.SerializeToString()
    return encoded


def _field(
    name: str, number: int, of: FieldDescriptorProto.Type.ValueType, message: str = "", *, repeated: bool = False
) -> FieldDescriptorProto:
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    return FieldDescriptorProto(name=name, number=number, label=label, type=of, type_name=message or None)


def _with_encoded_attributes(official: Any, name: str) -> DescriptorProto:  # noqa: ANN401 - a descriptor
    message = DescriptorProto()
    official.CopyToProto(message)
    message.name = name
    for kept in ("nested_type", "enum_type", "reserved_range", "reserved_name"):
        message.ClearField(kept)
    for field in message.field:
        if field.name == "attributes":
            field.type = FieldDescriptorProto.TYPE_BYTES
            field.ClearField("type_name")
    return message


def _classes() -> tuple[Any, Any, Any]:
    pool = DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2, logs_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    bytes_, message = FieldDescriptorProto.TYPE_BYTES, FieldDescriptorProto.TYPE_MESSAGE
    package = "clearspan.viewer"
    file = FileDescriptorProto(
        name=_FILE,
        package=package,
        syntax="proto3",
        dependency=[module.DESCRIPTOR.name for module in (common_pb2, trace_pb2, logs_pb2)],
        message_type=[
            DescriptorProto(
                name="Batch", field=[_field("resources", 1, message, f".{package}.Resourced", repeated=True)]
            ),
            DescriptorProto(
                name="Resourced",
                field=[
                    _field("resource", 1, bytes_),
                    _field("scopes", 2, message, f".{package}.Scoped", repeated=True),
                ],
            ),
            DescriptorProto(
                name="Scoped", field=[_field("scope", 1, bytes_), _field("records", 2, bytes_, repeated=True)]
            ),
            _with_encoded_attributes(trace_pb2.Span.DESCRIPTOR, "Span"),
            _with_encoded_attributes(logs_pb2.LogRecord.DESCRIPTOR, "LogRecord"),
        ],
    )
    pool.AddSerializedFile(file.SerializeToString())
    batch, span, log = (
        GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in ("Batch", "Span", "LogRecord")
    )
    return batch, span, log


_batch, _span, _log = _classes()
parse_span = _span.FromString
parse_log = _log.FromString
