"""A trace as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observability.tree import Log, Span, render


def _span(span_id: int, parent_id: int | None = None, *, trace_id: int = 1, **members: object) -> Span:
    given: dict[str, object] = {"service": "s", "name": f"span {span_id}", "kind": "INTERNAL", "start": span_id}
    return Span(trace_id, span_id, parent_id, **{**given, **members})  # type: ignore[arg-type]


def test_order() -> None:
    """Children are indented below their parent in the order of their starts, whatever order they come in."""
    spans = [_span(4, 2), _span(3, 1), _span(1), _span(2, 1)]
    assert (
        render(spans)
        == """\
trace 1
  s INTERNAL span 1
    s INTERNAL span 2
      s INTERNAL span 4
    s INTERNAL span 3"""
    )


def test_traces() -> None:
    """Each trace is a block of its own, numbered by the start of its first span."""
    assert (
        render([_span(2, trace_id=7), _span(1, trace_id=9)])
        == """\
trace 1
  s INTERNAL span 1

trace 2
  s INTERNAL span 2"""
    )


def test_details() -> None:
    """A line tells the chosen attributes in their order, the error, and where links lead."""
    spans = [
        _span(1),
        _span(2, trace_id=2, attributes={"b": 2, "a": 1, "c": 3}, error="boom", links=[(1, 1), (5, 5)]),
        _span(3, trace_id=3, error=""),
    ]
    assert (
        render(spans, attributes=("a", "b", "missing"))
        == """\
trace 1
  s INTERNAL span 1

trace 2
  s INTERNAL span 2 a=1 b=2 ERROR boom -> s span 1 -> outside

trace 3
  s INTERNAL span 3 ERROR"""
    )


def test_orphan() -> None:
    """A span whose parent is not known stands at the top and says so; a parent in another trace is none."""
    assert render([_span(2, 1), _span(1, trace_id=2)]).splitlines()[-1] == "  s INTERNAL span 2 (orphan)"


def test_logs() -> None:
    """Logs stand below their span by time, before its children; those of no span are left out."""
    logs = [Log(1, 1, 2, "ERROR", "second"), Log(1, 1, 1, "INFO", "first"), Log(0, 0, 0, "INFO", "of no span")]
    assert (
        render([_span(1), _span(2, 1)], logs)
        == """\
trace 1
  s INTERNAL span 1
    · INFO first
    · ERROR second
    s INTERNAL span 2"""
    )


def test_deep() -> None:
    """A trace may be deeper than the interpreter's stack."""
    spans = [_span(number, number - 1 or None) for number in range(1, 5001)]
    assert len(render(spans).splitlines()) == 5001


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9), st.none() | st.integers(1, 9)), max_size=30))
def test_every_span_is_drawn(shapes: list[tuple[int, int, int | None]]) -> None:
    """Every span is drawn, even if spans are parents of each other."""
    spans = {(trace, span): _span(span, parent, trace_id=trace) for trace, span, parent in shapes}
    lines = [line for line in render(spans.values()).splitlines() if "INTERNAL" in line]
    assert len(lines) == len(spans)
