"""Log records on their way into the file, and those of a trace on their way out.

Records without a trace share, request by request, the number of one: so they go when the traces go that came with them.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope

from observability.viewer.store.arriving import ArrivingTraces, in_batches
from observability.viewer.store.attributes import Attributes, field_token
from observability.viewer.store.blocks import (
    MAX_PART_BYTES,
    MAX_PART_RECORDS,
    Part,
    join_open,
    places,
    read_block,
    write_part,
)
from observability.viewer.store.index import Positions, build_index, positions_by_key, with_keys
from observability.viewer.store.records import Reader, is_id, severity_of
from observability.viewer.store.stored import ROW_BYTES, StoredLog
from observability.viewer.store.traces import (
    FULL,
    MAX_RECORD_BYTES,
    MAX_RECORDS_PER_REQUEST,
    TOO_LARGE,
    TOO_MANY,
)
from observability.viewer.store.vocabulary import Vocabulary
from observability.viewer.store.wire import Group, WireLog, parse_log, parse_logs, regroup, split_in_parts

SCHEMA = """
CREATE TABLE IF NOT EXISTS log_shares (
    trace INTEGER NOT NULL, part INTEGER NOT NULL, positions BLOB NOT NULL, -- 16 bits each
    PRIMARY KEY (trace, part)
) WITHOUT ROWID;
"""

_MAX_NS = 2**63 - 1
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8


@dataclass(slots=True)
class ArrivedLog:
    """A log record of a request; `group` is the number of its resource and scope there."""

    trace_id: bytes
    time_ns: int
    group: int
    encoded: bytes
    record: WireLog


class LogWriter:
    """Writes log records; is used by one thread at a time."""

    def __init__(self, traces: ArrivingTraces) -> None:
        self._traces = traces
        self._attributes = Attributes()
        self._vocabulary = Vocabulary()

    def write(self, connection: sqlite3.Connection, body: bytes, max_trace_bytes: int) -> Counter[str]:
        """Write the log records of an encoded `ExportLogsServiceRequest`, in the caller's transaction.

        Returns:
            How many were refused, by reason.

        Raises:
            google.protobuf.message.DecodeError: The body is not such a message; some of it may have been written.
        """
        refused = Counter[str]()
        handled = 0
        for groups in split_in_parts(body, min(MAX_PART_RECORDS, MAX_RECORDS_PER_REQUEST), MAX_PART_BYTES):
            count = sum([len(group.records) for group in groups])
            if handled >= MAX_RECORDS_PER_REQUEST:
                refused[TOO_MANY] += count
                continue
            handled += count
            self._attributes.forget()
            kept, numbers = _admit(connection, self._decode(groups, refused), max_trace_bytes, refused)
            if kept:
                self._write_part(connection, groups, kept, numbers)
                self._traces.changed(numbers)
        join_open(connection, "log", lambda groups: self._index_again(connection, groups))
        return refused

    def forget(self) -> None:
        """Believe nothing to be in the file: a transaction has failed."""
        self._vocabulary.forget()

    def _decode(self, groups: Sequence[Group], refused: Counter[str]) -> list[ArrivedLog]:
        """The records that may be kept."""
        logs: list[ArrivedLog] = []
        for number, group in enumerate(groups):
            self._attributes.resource(group.resource)
            InstrumentationScope.FromString(group.scope)
            room = MAX_RECORD_BYTES - len(group.resource) - len(group.scope) - ROW_BYTES
            for encoded, record in zip(group.records, parse_logs(group.records), strict=True):
                if len(encoded) > room:
                    refused[TOO_LARGE] += 1
                    continue
                trace_id = record.trace_id if is_id(record.trace_id, _TRACE_ID_BYTES) else b""
                logs.append(ArrivedLog(trace_id, time_of(record), number, encoded, record))
        return logs

    def _write_part(
        self,
        connection: sqlite3.Connection,
        groups: Sequence[Group],
        logs: list[ArrivedLog],
        numbers: dict[bytes, int],
    ) -> None:
        records = [log.record for log in logs]
        # Of an open block too: so its attributes are known to be well-formed.
        positions = self._attributes.positions(record.attributes for record in records)
        times = [log.time_ns for log in logs]
        part = Part(
            regroup(groups, [(log.group, log.encoded) for log in logs]),
            [numbers[log.trace_id] for log in logs],
            [0] * len(logs),
            min(times),
            max(times),
            min(times),
        )
        number = write_part(connection, "log", part, lambda groups: self._index(connection, groups, records, positions))
        shares: dict[int, list[int]] = defaultdict(list)
        for position, log in enumerate(logs):
            if log.trace_id:
                shares[numbers[log.trace_id]].append(position)
        connection.executemany(
            "INSERT INTO log_shares VALUES (?, ?, ?)",
            [(trace, number, array("H", held).tobytes()) for trace, held in shares.items()],
        )

    def _index_again(self, connection: sqlite3.Connection, groups: Sequence[Group]) -> tuple[bytes, bytes, bytes]:
        self._attributes.forget()
        records = [record for group in groups for record in parse_logs(group.records)]
        positions = self._attributes.positions(record.attributes for record in records)
        return self._index(connection, groups, records, positions)

    def _index(
        self, connection: sqlite3.Connection, groups: Sequence[Group], records: Sequence[WireLog], positions: Positions
    ) -> tuple[bytes, bytes, bytes]:
        fields: defaultdict[int, list[int]] = defaultdict(list)
        resources: list[tuple[range, Sequence[int]]] = []
        position = 0
        for group in groups:
            facts = self._attributes.resource(group.resource)
            first = position
            for _ in group.records:
                severity = severity_of(records[position])
                error = "true" if severity in ("ERROR", "FATAL") else "false"
                fields[field_token("service", facts.service)].append(position)
                fields[field_token("severity", severity)].append(position)
                fields[field_token("error", error)].append(position)
                position += 1
            resources.append((range(first, position), facts.tokens))
        attributes = self._attributes
        keys = positions_by_key(positions, attributes.key_tokens)
        self._vocabulary.add(connection, positions, keys, attributes)
        with_keys(positions, keys, attributes.key_tokens, resources)
        for token, held in fields.items():
            positions.setdefault(token, []).extend(held)
        return build_index(len(records), positions)


def read_logs(connection: sqlite3.Connection, trace_id: bytes) -> list[StoredLog]:
    """The log records of a trace by time; empty if there are none."""
    by_block: dict[int, list[int]] = defaultdict(list)
    for part, positions in connection.execute(
        "SELECT part, positions FROM log_shares WHERE trace = (SELECT number FROM traces WHERE trace_id = ?)",
        (trace_id,),
    ).fetchall():
        for block, start in places(connection, "log", [part]).values():
            by_block[block] += [start + position for position in memoryview(positions).cast("H")]
    reader = Reader()
    found = []
    for block, held in by_block.items():
        records = read_block(connection, "log", block)
        found += [stored_log(*records[position], reader) for position in held]
    return sorted(found, key=lambda log: log.time_ns)


def stored_log(encoded: bytes, resource: bytes, scope: bytes, reader: Reader) -> StoredLog:
    """A record as it is given back."""
    record = parse_log(encoded)
    return StoredLog(
        record.trace_id if is_id(record.trace_id, _TRACE_ID_BYTES) else b"",
        record.span_id if is_id(record.span_id, _SPAN_ID_BYTES) else b"",
        time_of(record),
        reader.service(resource),
        encoded,
        resource,
        scope,
    )


def time_of(record: WireLog) -> int:
    """When it happened or, if that is not told, when it was seen."""
    return min(record.time_unix_nano or record.observed_time_unix_nano, _MAX_NS)


def _admit(
    connection: sqlite3.Connection, arrived: Sequence[ArrivedLog], max_trace_bytes: int, refused: Counter[str]
) -> tuple[list[ArrivedLog], dict[bytes, int]]:
    """The records whose trace has room, which are added to it, and the numbers of the traces."""
    held: dict[bytes, list[int]] = {}
    for some in in_batches(list({log.trace_id for log in arrived if log.trace_id})):
        marks = ", ".join("?" * len(some))
        for trace_id, number, size in connection.execute(
            f"SELECT trace_id, number, bytes FROM traces WHERE trace_id IN ({marks})",
            some,
        ):
            held[trace_id] = [number, size]
    ((last,),) = connection.execute("SELECT coalesce(max(number), 0) FROM traces").fetchall()
    kept, new, grown = [], dict[bytes, int](), set[bytes]()
    for log in arrived:
        trace = held.get(log.trace_id) or [0, 0]
        size = len(log.encoded) + ROW_BYTES
        if log.trace_id and trace[1] + size > max_trace_bytes:
            refused[FULL] += 1
            continue
        if not trace[0]:
            last += 1
            trace[0] = new[log.trace_id] = last
            held[log.trace_id] = trace
        trace[1] += size
        grown.add(log.trace_id)
        kept.append(log)
    connection.executemany(
        "INSERT INTO traces VALUES (?, ?, 0, 0, 0, NULL, NULL)",
        [(number, trace_id or None) for trace_id, number in new.items()],
    )
    connection.executemany(
        "UPDATE traces SET bytes = ? WHERE number = ?", [(held[one][1], held[one][0]) for one in grown]
    )
    return kept, {trace_id: number for trace_id, (number, _) in held.items()}
