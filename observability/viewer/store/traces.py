"""Spans on their way into the file, and a trace on its way out.

A trace has a number, by which its age is told, and a row in each part that has spans of it (`shares`).
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope

from observability.viewer.store.arriving import ArrivedSpan, ArrivingTrace, ArrivingTraces, in_batches
from observability.viewer.store.attributes import Attributes, field_token
from observability.viewer.store.blocks import (
    MAX_PART_BYTES,
    MAX_PART_RECORDS,
    Part,
    begins_earlier,
    join_open,
    places,
    read_block,
    write_part,
)
from observability.viewer.store.calls import Edges, Operation
from observability.viewer.store.fields import ERROR, KINDS, MAX_NAME, STATUSES
from observability.viewer.store.index import Positions, build_index, positions_by_key, with_keys
from observability.viewer.store.shares import Held, Row, pack, unpack
from observability.viewer.store.statistics import Tally
from observability.viewer.store.stored import ROW_BYTES, Root, StoredSpan, Summary
from observability.viewer.store.vocabulary import Vocabulary
from observability.viewer.store.wire import Group, parse_spans, regroup, split_in_parts

MAX_SPANS_PER_TRACE = 20_000
MAX_RECORD_BYTES = 1024 * 1024
MAX_RECORDS_PER_REQUEST = 100_000  # they may be very small
MAX_LINKS_PER_SPAN = 128

SCHEMA = """
CREATE TABLE IF NOT EXISTS traces (
    number INTEGER PRIMARY KEY, trace_id BLOB UNIQUE, -- NULL for log records without a trace
    bytes INTEGER NOT NULL, spans INTEGER NOT NULL, errors INTEGER NOT NULL,
    start_ns INTEGER, end_ns INTEGER -- NULL while only logs have come
);
CREATE TABLE IF NOT EXISTS shares (
    trace INTEGER NOT NULL, part INTEGER NOT NULL, spans BLOB NOT NULL, PRIMARY KEY (trace, part)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS operations (
    number INTEGER PRIMARY KEY, service TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL,
    last_trace INTEGER NOT NULL, UNIQUE (service, name, kind)
);
CREATE INDEX IF NOT EXISTS operations_by_last_trace ON operations (last_trace);
CREATE TABLE IF NOT EXISTS links (
    linked BLOB NOT NULL, linked_span BLOB NOT NULL, trace INTEGER NOT NULL, span BLOB NOT NULL,
    waits INTEGER NOT NULL, -- whether it is a call between services whose caller has not come
    PRIMARY KEY (linked, linked_span, trace, span)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS links_by_trace ON links (trace);
CREATE INDEX IF NOT EXISTS links_that_wait ON links (linked) WHERE waits;
"""

TOO_LARGE = f"larger than {MAX_RECORD_BYTES} bytes with their resource"
TOO_MANY = f"beyond the {MAX_RECORDS_PER_REQUEST} of one request"
INVALID_IDS = "with invalid ids"
FULL = "of a trace that is full"

_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_MAX_NS = 2**63 - 1


class SpanWriter:
    """Writes spans; is used by one thread at a time."""

    def __init__(self, traces: ArrivingTraces) -> None:
        self._traces = traces
        self._attributes = Attributes()
        self._vocabulary = Vocabulary()

    def write(self, connection: sqlite3.Connection, body: bytes, max_trace_bytes: int) -> Counter[str]:
        """Write the spans of an encoded `ExportTraceServiceRequest`, in the caller's transaction.

        Returns:
            How many were refused, by reason.

        Raises:
            google.protobuf.message.DecodeError: The body is not such a message; some of it may have been written.
        """
        refused = Counter[str]()
        handled = 0
        # One part after the other: decoded, a span takes many times its bytes.
        for groups in split_in_parts(body, min(MAX_PART_RECORDS, MAX_RECORDS_PER_REQUEST), MAX_PART_BYTES):
            count = sum([len(group.records) for group in groups])
            if handled >= MAX_RECORDS_PER_REQUEST:
                refused[TOO_MANY] += count
                continue
            handled += count
            self._attributes.forget()
            arrived = self._decode(groups, refused)
            traces = self._traces.of(connection, arrived)
            kept = _admit(arrived, traces, max_trace_bytes, refused)
            if kept:
                touched = {trace_id: trace for trace_id, trace in traces.items() if trace.kept}
                self._write_part(connection, groups, kept, touched)
        join_open(connection, "span", lambda groups: self._index_again(connection, groups))
        return refused

    def forget(self) -> None:
        """Believe nothing to be in the file: a transaction has failed."""
        self._vocabulary.forget()

    def _decode(self, groups: Sequence[Group], refused: Counter[str]) -> list[ArrivedSpan]:
        """The spans that may be kept."""
        spans: list[ArrivedSpan] = []
        operations: dict[tuple[str, str, int], Operation] = {}
        for number, group in enumerate(groups):
            service = self._attributes.resource(group.resource).service
            InstrumentationScope.FromString(group.scope)
            room = MAX_RECORD_BYTES - len(group.resource) - len(group.scope) - ROW_BYTES
            for encoded, span in zip(group.records, parse_spans(group.records), strict=True):
                trace_id, span_id, parent_id = span.trace_id, span.span_id, span.parent_span_id
                if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
                    refused[INVALID_IDS] += 1
                    continue
                if len(encoded) > room:
                    refused[TOO_LARGE] += 1
                    continue
                if len(parent_id) != 8:
                    parent_id = _NO_SPAN
                key = (service, span.name[:MAX_NAME], span.kind)
                start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
                if start_ns > _MAX_NS or end_ns > _MAX_NS:
                    start_ns, end_ns = min(start_ns, _MAX_NS), min(end_ns, _MAX_NS)
                spans.append(
                    ArrivedSpan(
                        trace_id,
                        span_id,
                        parent_id,
                        operations.get(key) or operations.setdefault(key, Operation(*key)),
                        span.status.code,
                        start_ns,
                        end_ns,
                        end_ns - start_ns if end_ns > start_ns else 0,
                        number,
                        encoded,
                        span,
                    )
                )
        return spans

    def _write_part(
        self,
        connection: sqlite3.Connection,
        groups: Sequence[Group],
        kept: list[ArrivedSpan],
        traces: dict[bytes, ArrivingTrace],
    ) -> None:
        _write_traces(connection, traces.values())
        last_trace = max(trace.number for trace in traces.values())
        operations = write_operations(connection, {span.operation for span in kept}, last_trace)
        for position, span in enumerate(kept):
            span.position, span.operation_number = position, operations[span.operation]
        _count(connection, kept, traces.values(), last_trace)
        positions = self._attributes.positions([span.span.attributes for span in kept])
        starts = [span.start_ns for span in kept]
        whole = len(kept) == sum([len(group.records) for group in groups])
        part = Part(
            groups if whole else regroup(groups, [(span.group, span.encoded) for span in kept]),
            [traces[span.trace_id].number for span in kept],
            [span.duration_ns for span in kept],
            min(starts),
            max(starts),
            min(trace.start_ns for trace in traces.values() if trace.start_ns is not None),
        )
        operated = [(span.operation.name, span.operation.kind, span.status) for span in kept]
        statuses = self._http_statuses(positions)
        number = write_part(
            connection, "span", part, lambda groups: self._index(connection, groups, operated, positions)
        )
        shares = [(trace, _pack(trace.kept.values(), statuses)) for trace in traces.values()]
        connection.executemany(
            "INSERT INTO shares VALUES (?, ?, ?)", [(trace.number, number, share) for trace, share in shares]
        )
        _write_links(connection, kept, traces, last_trace)
        self._traces.wrote(number, shares)

    def _http_statuses(self, positions: Positions) -> dict[int, int]:
        """HTTP statuses by the positions of the spans that have one."""
        known, found = self._attributes.http_statuses, dict[int, int]()
        for token in known.keys() & positions.keys():
            found |= dict.fromkeys(positions[token], known[token])
        return found

    def _index_again(self, connection: sqlite3.Connection, groups: Sequence[Group]) -> tuple[bytes, bytes, bytes]:
        self._attributes.forget()
        spans = [span for group in groups for span in parse_spans(group.records)]
        operated = [(span.name[:MAX_NAME], span.kind, span.status.code) for span in spans]
        positions = self._attributes.positions([span.attributes for span in spans])
        return self._index(connection, groups, operated, positions)

    def _index(
        self,
        connection: sqlite3.Connection,
        groups: Sequence[Group],
        operated: Sequence[tuple[str, int, int]],
        positions: Positions,
    ) -> tuple[bytes, bytes, bytes]:
        """The index of spans, of which each has a name, a kind and a status."""
        resources: list[tuple[range, Sequence[int]]] = []
        first = 0
        fields: Positions = {}
        for group in groups:
            facts = self._attributes.resource(group.resource)
            records = range(first, first + len(group.records))
            resources.append((records, facts.tokens))
            alike: defaultdict[tuple[str, int, int], list[int]] = defaultdict(list)
            for position in records:
                alike[operated[position]].append(position)
            for operation, held in alike.items():
                for token in _field_tokens(facts.service, *operation):
                    fields.setdefault(token, []).extend(held)
            first = records.stop
        attributes = self._attributes
        keys = positions_by_key(positions, attributes.key_tokens)
        self._vocabulary.add(connection, positions, keys, attributes)
        of_resources = {token: held for held, tokens in resources for token in tokens}
        self._vocabulary.add(connection, of_resources, map(attributes.key_tokens.__getitem__, of_resources), attributes)
        with_keys(positions, keys, attributes.key_tokens, resources)
        for token, held in fields.items():
            held.sort()
            positions[token] = positions.get(token, []) + held
        return build_index(len(operated), positions)


def read_trace(connection: sqlite3.Connection, trace_id: bytes) -> list[StoredSpan]:
    """The spans of a trace by their start; empty if it is not known."""
    shares = connection.execute(
        "SELECT part, spans FROM shares WHERE trace = (SELECT number FROM traces WHERE trace_id = ?)", (trace_id,)
    ).fetchall()
    operations = Operations(connection)
    by_block: dict[int, list[tuple[int, Row]]] = defaultdict(list)
    for part, share in shares:
        for block, start in places(connection, "span", [part]).values():
            by_block[block] += [(start + row.position, row) for row in unpack(share)]
    found = []
    for block, rows in by_block.items():
        records = read_block(connection, "span", block)
        found += [stored_span(trace_id, row, operations, records[position]) for position, row in rows]
    return sorted(found, key=lambda span: (span.start_ns, span.span_id))


def stored_span(trace_id: bytes, row: Row, operations: Operations, encoded: tuple[bytes, bytes, bytes]) -> StoredSpan:
    """A span as it is given back; `encoded` is it with its resource and scope."""
    parent_id = b"" if row.parent_id == _NO_SPAN else row.parent_id
    operation = operations[row.operation]
    return StoredSpan(trace_id, row.span_id, parent_id, *operation, row.error, row.start_ns, row.end_ns, *encoded)


def read_summaries(connection: sqlite3.Connection, numbers: Iterable[int]) -> list[Summary]:
    """Traces by their numbers, those that have spans, in that order."""
    operations = Operations(connection)
    found = []
    for number in numbers:
        for trace_id, start_ns, end_ns, spans, errors in connection.execute(
            "SELECT trace_id, start_ns, end_ns, spans, errors FROM traces WHERE number = ? AND spans > 0", (number,)
        ):
            rows = [
                row
                for (share,) in connection.execute("SELECT spans FROM shares WHERE trace = ?", (number,))
                for row in unpack(share)
            ]
            root = min(rows, key=lambda row: (row.parent_id != _NO_SPAN, row.start_ns))
            services: dict[str, list[int]] = {}
            for row in sorted(rows, key=lambda row: row.start_ns):
                count = services.setdefault(operations[row.operation].service, [0, 0])
                count[0] += 1
                count[1] += row.error
            found.append(
                Summary(
                    trace_id,
                    start_ns,
                    end_ns,
                    spans,
                    errors,
                    Root(
                        root.span_id,
                        *operations[root.operation],
                        root.error,
                        root.start_ns,
                        root.end_ns,
                        root.http_status or None,
                    ),
                    [(service, count, errors) for service, (count, errors) in services.items()],
                )
            )
    return found


class Operations(dict[int, Operation]):
    """Operations by their numbers, each read when it is needed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self._connection = connection

    def __missing__(self, number: int) -> Operation:
        row = self._connection.execute(
            "SELECT service, name, kind FROM operations WHERE number = ?", (number,)
        ).fetchone()
        self[number] = Operation(*row)
        return self[number]


def write_operations(
    connection: sqlite3.Connection, operations: Iterable[Operation], last_trace: int
) -> dict[Operation, int]:
    """The numbers of operations, new ones if they are not known."""
    numbers = {}
    for operation in operations:
        ((numbers[operation],),) = connection.execute(
            "INSERT INTO operations (service, name, kind, last_trace) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " last_trace = max(last_trace, excluded.last_trace) RETURNING number",
            (*operation, last_trace),
        ).fetchall()
    return numbers


def _field_tokens(service: str, name: str, kind: int, status: int) -> Iterator[int]:
    yield field_token("service", service)
    yield field_token("operation", name)
    if kind in KINDS:
        yield field_token("kind", KINDS[kind])
    yield field_token("status", STATUSES.get(status, STATUSES[0]))
    yield field_token("error", "true" if status == ERROR else "false")


def _pack(spans: Collection[ArrivedSpan], statuses: Mapping[int, int]) -> bytes:
    """The share of these spans, with HTTP statuses by their positions."""
    return pack(
        [span.span_id for span in spans],
        [span.parent_id for span in spans],
        [
            (
                span.position,
                span.operation_number,
                span.start_ns,
                span.end_ns,
                span.status == ERROR,
                statuses.get(span.position, 0),
            )
            for span in spans
        ],
    )


def _admit(
    arrived: Iterable[ArrivedSpan], traces: dict[bytes, ArrivingTrace], max_trace_bytes: int, refused: Counter[str]
) -> list[ArrivedSpan]:
    """The spans that are new and whose trace has room, which are added to it."""
    kept = []
    for span in arrived:
        trace, span_id = traces[span.trace_id], span.span_id
        if span_id in trace.kept or span_id in trace.held:
            continue
        size = len(span.encoded) + ROW_BYTES
        if trace.size + size > max_trace_bytes or trace.spans >= MAX_SPANS_PER_TRACE:
            refused[FULL] += 1
            continue
        trace.kept[span_id] = span
        trace.size += size
        trace.spans += 1
        trace.errors += span.status == ERROR
        if trace.start_ns is None or span.start_ns < trace.start_ns:
            trace.start_ns = span.start_ns
        if trace.end_ns is None or span.end_ns > trace.end_ns:
            trace.end_ns = span.end_ns
        kept.append(span)
    return kept


def _write_traces(connection: sqlite3.Connection, traces: Iterable[ArrivingTrace]) -> None:
    """Write what is known of traces, and give new ones their numbers."""
    ((last,),) = connection.execute("SELECT coalesce(max(number), 0) FROM traces").fetchall()
    new, known, earlier = [], [], []
    for trace in traces:
        row = (trace.size, trace.spans, trace.errors, trace.start_ns, trace.end_ns)
        if trace.number:
            known.append((*row, trace.number))
        else:
            last += 1
            trace.number = last
            new.append((last, trace.trace_id, *row))
        if trace.held.parts and trace.start_ns is not None and trace.start_ns != trace.known_start_ns:
            earlier += [(trace.start_ns, part) for part in trace.held.parts]
    connection.executemany("INSERT INTO traces VALUES (?, ?, ?, ?, ?, ?, ?)", new)
    connection.executemany(
        "UPDATE traces SET bytes = ?, spans = ?, errors = ?, start_ns = ?, end_ns = ? WHERE number = ?", known
    )
    begins_earlier(connection, "span", earlier)


def _count(
    connection: sqlite3.Connection, kept: Sequence[ArrivedSpan], traces: Iterable[ArrivingTrace], last_trace: int
) -> None:
    """Count spans by operation, and calls between services where caller and callee are there now."""
    tally, edges, known = Tally(), Edges(), Operations(connection)
    tally.add([(span.operation_number, span.start_ns, span.duration_ns, span.trace_id) for span in kept])
    tally.add_errors([(span.operation_number, span.start_ns) for span in kept if span.status == ERROR])
    for trace in traces:
        here, held = trace.kept, trace.held
        for span in here.values():
            parent_id = span.parent_id
            if parent_id == _NO_SPAN:
                continue
            parent = here.get(parent_id)
            if parent is not None:
                caller = parent.operation
            elif (operation := held.operation(parent_id)) is not None:
                caller = known[operation]
            else:
                continue
            if caller.service != span.operation.service:
                edges.add(caller, span.operation, span.start_ns, error=span.error)
        for parent_id in here.keys() & held.parents:
            for row in held.children(parent_id):
                edges.add(here[parent_id].operation, known[row.operation], row.start_ns, error=row.error)
    tally.write(connection, last_trace)
    edges.write(connection, last_trace)


def _write_links(
    connection: sqlite3.Connection, kept: Iterable[ArrivedSpan], traces: dict[bytes, ArrivingTrace], last_trace: int
) -> None:
    """Remember links, and count those as calls that stand in a parent's place when both sides are there."""
    linking = [span for span in kept if span.span.links]
    if not linking and not connection.execute("SELECT 1 FROM links WHERE waits LIMIT 1").fetchone():
        return
    connection.executemany(
        "INSERT OR IGNORE INTO links VALUES (?, ?, ?, ?, ?)",
        [
            (link.trace_id, link.span_id, traces[span.trace_id].number, span.span_id, span.parent_id == _NO_SPAN)
            for span in linking
            for link in span.span.links[:MAX_LINKS_PER_SPAN]
            if len(link.trace_id) == 16 and len(link.span_id) == 8
        ],
    )
    ids = list({*traces, *(link.trace_id for span in linking for link in span.span.links[:MAX_LINKS_PER_SPAN])})
    waiting: list[tuple[bytes, bytes, int, bytes]] = []
    for some in in_batches(ids):
        marks = ", ".join("?" * len(some))
        waiting += connection.execute(
            f"SELECT linked, linked_span, trace, span FROM links WHERE waits AND linked IN ({marks})",
            some,
        )
    if not waiting:
        return
    edges, known, met = Edges(), Operations(connection), []
    for linked, linked_span, trace, span in waiting:
        caller = _row(connection, "(SELECT number FROM traces WHERE trace_id = ?)", linked, linked_span)
        callee = _row(connection, "?", trace, span)
        if caller and callee:
            edges.add(
                known[caller.operation],
                known[callee.operation],
                callee.start_ns,
                error=callee.error,
                messaging=True,
            )
            met.append((linked, linked_span, trace, span))
    connection.executemany(
        "UPDATE links SET waits = 0 WHERE linked = ? AND linked_span = ? AND trace = ? AND span = ?", met
    )
    edges.write(connection, last_trace)


def _row(connection: sqlite3.Connection, number: str, trace: int | bytes, span_id: bytes) -> Row | None:
    shares = connection.execute(f"SELECT part, spans FROM shares WHERE trace = {number}", (trace,))
    held = Held()
    for part, share in shares:
        held.add(part, share)
    return held.get(span_id)
