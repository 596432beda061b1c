from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from observability.viewer import search as search_module
from observability.viewer.ingest import ingest_traces
from observability.viewer.search import BadParameterError, search
from observability.viewer.store import Store
from tests.observability.viewer.samples import START_NS, nested, trace_id

START_US = START_NS // 1000


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [2, 1]),
        ("limit=1", [2]),
        ("service=orders", [1]),
        ("service=", [2, 1]),
        ("operation=child", [1]),
        ("service=payments&operation=child", []),
        ("minDuration=98ms", [2, 1]),
        ("minDuration=0.0981s", []),
        ("maxDuration=96ms", [1]),
        ("minDuration=97ms&maxDuration=97999us", []),
        ('tags={"depth":"2"}', [1]),
        ('tags={"depth":"3"}', []),
        ('operation=root&tags={"depth":"2"}', []),
        ('service=payments&tags={"depth":"2"}', []),
        ("tag=depth:2", [1]),
        ("tags=", [2, 1]),
        (f"start={START_US}", [2, 1]),
        (f"end={START_US}", []),
        (f"start={START_US + 1000}&end={START_US + 1000}", [2, 1]),
        ("start=999999999999999999", []),
        ("lookback=1h", [2, 1]),
        ("lookback=custom&start=0&prettyPrint=true", [2, 1]),
        (f"traceID={trace_id(1).hex()}", [1]),
        ("traceID=1&traceID=2&traceID=3", [1, 2]),
    ],
)
def test_search(store: Store, query: str, found: list[int]) -> None:
    """A search takes the parameters of Jaeger's page; all must hold, and those of a span on one span."""
    ingest_traces(nested(1, ["root", "child"]).SerializeToString(), store)
    ingest_traces(nested(2, ["root"], service="payments").SerializeToString(), store)
    traces = search(store, QueryParams(query))
    assert [spans[0].trace_id for spans in traces] == [trace_id(index) for index in found]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1501",
        "limit=x",
        "limit=-1",
        "start=now",
        "end=1e3",
        "minDuration=soon",
        "maxDuration=5",
        "tags=[",
        'tags={"a":1}',
        "tags=" + "[" * 100_000,
        "tag=depth",
        "traceID=xyz",
    ],
    ids=lambda query: query[:20],
)
def test_malformed(store: Store, query: str) -> None:
    """A malformed parameter is named."""
    with pytest.raises(BadParameterError, match=query.partition("=")[0].replace("traceID", "trace id")):
        search(store, QueryParams(query))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    query=st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "limit",
                    "start",
                    "end",
                    "minDuration",
                    "maxDuration",
                    "tags",
                    "tag",
                    "service",
                    "operation",
                    "traceID",
                ]
            ),
            st.one_of(st.text(), st.from_regex(r"[0-9]{1,20}(\.[0-9]+)?(ns|us|ms|s|m|h)?", fullmatch=True)),
        ),
        max_size=4,
    )
)
def test_any_query(store: Store, query: list[tuple[str, str]]) -> None:
    """Whatever is asked is answered or said to be malformed."""
    with suppress(BadParameterError):
        assert search(store, QueryParams(query)) == []


@pytest.mark.parametrize(("bound", "most"), [("MAX_SPANS", 5), ("MAX_BYTES", 1300)])
def test_size_of_an_answer(store: Store, monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    """An answer has no more traces than fit into it, and at least one."""
    monkeypatch.setattr(search_module, bound, most)
    for index in range(1, 5):
        ingest_traces(nested(index, ["a", "b"]).SerializeToString(), store)
    assert len(search(store, QueryParams())) == 2
    ingest_traces(nested(9, ["a"] * 9).SerializeToString(), store)
    assert len(search(store, QueryParams("traceID=9"))) == 1
