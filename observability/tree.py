"""A trace as text: one line a span, children indented below their parent, logs below their span."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Span:
    """What the tree shows of a span. Times are nanoseconds since the epoch; ids are integers."""

    trace_id: int
    span_id: int
    parent_id: int | None
    service: str
    name: str
    kind: str
    start: int
    error: str | None = None
    attributes: Mapping[str, object] = field(default_factory=dict)
    links: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class Log:
    """What the tree shows of a log record."""

    trace_id: int
    span_id: int
    time: int
    severity: str
    body: str


def render(spans: Iterable[Span], logs: Iterable[Log] = (), *, attributes: Sequence[str] = ()) -> str:
    """Draw the traces that the spans belong to, each headed by its number in order of their first span.

    A span whose parent is not among them is drawn at the top and marked `orphan`; of spans that are each other's
    parents the first is drawn at the top. A span that comes twice is drawn once. A link is shown by the name of the
    span that it leads to, or as `outside` where that is not among them.

    Args:
        spans: In any order; siblings are drawn in the order of their starts.
        logs: In any order; those of no span are left out.
        attributes: Names of the attributes to show, in this order.
    """
    ordered = sorted(spans, key=lambda span: (span.start, span.span_id))
    by_id = {(span.trace_id, span.span_id): span for span in ordered}
    spans_of: dict[int, list[Span]] = {}
    children: dict[tuple[int, int | None], list[Span]] = {}
    for span in ordered:
        spans_of.setdefault(span.trace_id, []).append(span)
        known = span.parent_id is not None and (span.trace_id, span.parent_id) in by_id
        children.setdefault((span.trace_id, span.parent_id if known else None), []).append(span)
    logs_of: dict[tuple[int, int], list[Log]] = {}
    for log in sorted(logs, key=lambda log: log.time):
        logs_of.setdefault((log.trace_id, log.span_id), []).append(log)
    blocks: list[str] = []
    for trace_id, everything in spans_of.items():
        lines = [f"trace {len(blocks) + 1}"]
        drawn: set[int] = set()
        # Depth first with a stack of our own: a deep trace must not meet the interpreter's recursion limit. Below the
        # tops lie all spans, for those that are each other's parents and so hang from no top.
        pending = [(span, 1) for span in reversed([*children.get((trace_id, None), ()), *everything])]
        while pending:
            span, depth = pending.pop()
            if span.span_id in drawn:
                continue
            drawn.add(span.span_id)
            indent = "  " * depth
            lines.append(indent + _line(span, by_id, attributes))
            lines += [f"{indent}  · {log.severity} {log.body}" for log in logs_of.get((trace_id, span.span_id), ())]
            pending += [(child, depth + 1) for child in reversed(children.get((trace_id, span.span_id), ()))]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _line(span: Span, by_id: Mapping[tuple[int, int], Span], attributes: Sequence[str]) -> str:
    parts = [span.service, span.kind, span.name]
    parts += [f"{name}={span.attributes[name]}" for name in attributes if name in span.attributes]
    if span.error is not None:
        parts.append(f"ERROR {span.error}".rstrip())
    for link in span.links:
        target = by_id.get(link)
        parts.append(f"-> {target.service} {target.name}" if target else "-> outside")
    if span.parent_id is not None and (span.trace_id, span.parent_id) not in by_id:
        parts.append("(orphan)")
    return " ".join(parts)
