from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from observability.viewer.store import Store
from observability.viewer.store.statistics import MINUTE_NS, Bucket, bucket_from, bucket_of, quantile_ns
from tests.observability.viewer.samples import START_NS, add, span, trace_id


@given(st.integers(-5, 2**63 - 1))
def test_bucket(duration_ns: int) -> None:
    """Each duration is in the bucket whose bounds it is between, and those are no more than a quarter apart."""
    number = bucket_of(duration_ns)
    low, high = bucket_from(number), bucket_from(number + 1)
    assert low <= max(duration_ns, 0) < high
    assert high - low <= max(1, low / 4)


@given(st.lists(st.integers(0, 10**12), min_size=1), st.floats(0, 1))
def test_quantile(durations: list[int], share: float) -> None:
    """A quantile is in the bucket of the duration that it is of."""
    counts: dict[int, int] = {}
    for duration in durations:
        counts[bucket_of(duration)] = counts.get(bucket_of(duration), 0) + 1
    buckets = [Bucket(bucket_from(one), bucket_from(one + 1), counts[one], b"") for one in sorted(counts)]
    exact = sorted(durations)[max(0, -int(-share * len(durations) // 1) - 1)]
    found = quantile_ns(buckets, share)
    assert bucket_from(bucket_of(exact)) <= found <= bucket_from(bucket_of(exact) + 1)
    assert quantile_ns([], share) == 0
    assert statistics.fmean(durations) >= 0


def test_by_minute(store: Store) -> None:
    """An operation has its calls, errors and durations by minute and together, with an example of each bucket."""
    add(store, span(1), span(2, end_ns=4000, error=True), span(3, name="other"))
    add(store, span(4, start_ns=MINUTE_NS, end_ns=MINUTE_NS + 1000))
    one, other = store.operations_between(START_NS, START_NS + MINUTE_NS)
    assert (one.service, one.operation, one.kind, one.calls, one.errors) == ("orders", "GET /", 2, 3, 1)
    assert [(bucket.calls, bucket.example) for bucket in one.durations] == [(2, trace_id(4)), (1, trace_id(2))]
    assert [(minute.calls, minute.errors) for minute in one.minutes] == [(2, 1), (1, 0)]
    assert one.minutes[1].start_ns == (START_NS + MINUTE_NS) // MINUTE_NS * MINUTE_NS
    assert (other.operation, other.calls) == ("other", 1)
    assert len(store.operations_between(START_NS, START_NS)[0].minutes) == 1
