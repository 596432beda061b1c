"""OTLP's messages of spans and log records, decoded only as deep as storing needs.

Each message here has the field numbers of one of https://github.com/open-telemetry/opentelemetry-proto. What is `bytes`
in it is a message there: a record, a resource and an attribute stay as they were sent, and can be put together again
without being encoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

MAX_GROUPS = 100_000
MAX_RECORDS = 1_000_000
_MANY_BYTES = 1024 * 1024
_VARINT, _FIXED_64, _LENGTH_DELIMITED, _FIXED_32 = 0, 1, 2, 5
_LOWEST_TAG = 8  # of the field 1
_PACKAGE = "clearspan.viewer"


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
        google.protobuf.message.DecodeError: The body is not such a message, or has more than `MAX_GROUPS` resources and
            scopes or, where these are many bytes, `MAX_RECORDS` records; records may still be none.
    """
    # Level by level, and counted before they are decoded: millions of empty messages fit into a body, and decoded take
    # many times their bytes.
    groups_left, records_left = MAX_GROUPS, MAX_RECORDS
    groups_left -= _count_fields(body, groups_left)
    for of_resource in _batch.FromString(body).resources:
        groups_left -= _count_fields(of_resource, groups_left)
        resourced = _resourced.FromString(of_resource)
        for of_scope in resourced.scopes:
            if len(of_scope) > _MANY_BYTES:
                records_left -= _count_fields(of_scope, records_left)
            scoped = _scoped.FromString(of_scope)
            yield Group(resourced.resource, scoped.scope, scoped.records)


def _count_fields(encoded: bytes, most: int) -> int:
    """How many fields a message has; one that is broken is left to whoever decodes it.

    Raises:
        google.protobuf.message.DecodeError: There are more.
    """
    at, size, count = 0, len(encoded), 0
    while at < size:
        count += 1
        if count > most:
            raise DecodeError(f"more than {MAX_GROUPS} resources and scopes, or {MAX_RECORDS} records")
        tag, at = _varint(encoded, at)
        wire_type = tag & 7
        if tag < _LOWEST_TAG or wire_type > _FIXED_32:
            break
        if wire_type == _LENGTH_DELIMITED:
            length, at = _varint(encoded, at)
            at += length
        elif wire_type == _VARINT:
            _, at = _varint(encoded, at)
        elif wire_type == _FIXED_64:
            at += 8
        elif wire_type == _FIXED_32:
            at += 4
    return count


def _varint(encoded: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where it ends; past the end all bytes are 0."""
    value = shift = 0
    for byte in encoded[at : at + 10]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 128:
            return value, at
        shift += 7
    return value, at


def split_in_parts(body: bytes, max_records: int, max_bytes: int) -> Iterator[list[Group]]:
    """The records of an encoded request, so many and so many bytes at once; one alone may be larger.

    Raises:
        google.protobuf.message.DecodeError: The body is not such a message; records may still be none.
    """
    part: list[Group] = []
    count = size = 0
    for group in split(body):
        if count + len(group.records) <= max_records:
            held = list(group.records)
            of_group = sum(map(len, held))
            if held and size + of_group <= max_bytes:
                part.append(Group(group.resource, group.scope, held))
                count += len(held)
                size += of_group
                continue
        records: list[bytes] = []
        for record in group.records:
            if count == max_records or (count and size + len(record) > max_bytes):
                yield [*part, Group(group.resource, group.scope, records)]
                part, records, count, size = [], [], 0, 0
            records.append(record)
            count += 1
            size += len(record)
        if records:
            part.append(Group(group.resource, group.scope, records))
    yield part


def regroup(groups: Sequence[Group], records: Iterable[tuple[int, bytes]]) -> list[Group]:
    """Some of the records of groups, in their order, each with the number of its group."""
    found: list[Group] = []
    last = -1
    held: list[bytes] = []
    for number, record in records:
        if number != last:
            last, held = number, []
            found.append(Group(groups[number].resource, groups[number].scope, held))
        held.append(record)
    return found


def join(groups: Iterable[Group]) -> bytes:
    """The encoded request of these records, in their order."""
    batch = _batch()
    for resource, of_resource in groupby(groups, lambda group: group.resource):
        resourced = _resourced(resource=resource)
        for group in of_resource:
            resourced.scopes.append(_scoped(scope=group.scope, records=group.records).SerializeToString())
        batch.resources.append(resourced.SerializeToString())
    encoded: bytes = batch.SerializeToString()
    return encoded


def parse_spans(records: Sequence[bytes]) -> Sequence[WireSpan]:
    """Spans, decoded together: they share their memory, which takes a third of the time of one by one.

    Raises:
        google.protobuf.message.DecodeError: One is no span.
    """
    spans: Sequence[WireSpan] = _spans.FromString(_scoped(records=records).SerializeToString()).records
    return spans


def parse_logs(records: Sequence[bytes]) -> Sequence[WireLog]:
    """Log records, decoded together.

    Raises:
        google.protobuf.message.DecodeError: One is no log record.
    """
    logs: Sequence[WireLog] = _logs.FromString(_scoped(records=records).SerializeToString()).records
    return logs


def _message(name: str, **fields: tuple[int, bool]) -> DescriptorProto:
    """A message of fields of bytes, each with its number and whether it is repeated."""
    return DescriptorProto(
        name=name,
        field=[
            FieldDescriptorProto(
                name=field,
                number=number,
                label=FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL,
                type=FieldDescriptorProto.TYPE_BYTES,
            )
            for field, (number, repeated) in fields.items()
        ],
    )


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


def _together(name: str, record: str) -> DescriptorProto:
    """As `Scoped`, but its records are decoded."""
    message = _message(name, records=(2, True))
    message.field[0].type = FieldDescriptorProto.TYPE_MESSAGE
    message.field[0].type_name = f".{_PACKAGE}.{record}"
    return message


def _classes() -> list[Any]:
    pool = DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2, logs_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    messages = [
        _message("Batch", resources=(1, True)),
        _message("Resourced", resource=(1, False), scopes=(2, True)),
        _message("Scoped", scope=(1, False), records=(2, True)),
        _with_encoded_attributes(trace_pb2.Span.DESCRIPTOR, "Span"),
        _with_encoded_attributes(logs_pb2.LogRecord.DESCRIPTOR, "LogRecord"),
        _together("Spans", "Span"),
        _together("LogRecords", "LogRecord"),
    ]
    file = FileDescriptorProto(
        name="clearspan/viewer/wire.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[module.DESCRIPTOR.name for module in (common_pb2, trace_pb2, logs_pb2)],
        message_type=messages,
    )
    pool.AddSerializedFile(file.SerializeToString())
    return [GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{message.name}")) for message in messages]


_batch, _resourced, _scoped, _span, _log, _spans, _logs = _classes()
parse_span = _span.FromString
parse_log = _log.FromString
