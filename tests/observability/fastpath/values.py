"""Whatever a span or a log record may hold, as hypothesis strategies."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

# Secrets too, so that what is cut is looked at as well.
SECRETS = st.sampled_from(
    [
        "https://u:p@host/?token=canary",
        "password=canary",
        "Bearer canarycanarycanary",
        "SELECT 'canary' -- canary",
        "/?a=b",
    ]
)
# Lone surrogates come too: `characters` gives every code point.
PLAIN_TEXTS = st.text(st.characters(codec=None), max_size=20)
TEXTS = st.one_of(PLAIN_TEXTS, SECRETS, st.text("é€😀\x00", max_size=300))
CLEAN_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.one_of(
    st.sampled_from(["http.route", "url.full", "url.query", "db.query.text", "password", "clearspan.scrubbed", "a"]),
    PLAIN_TEXTS,
)


def values(texts: st.SearchStrategy[str], ints: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    """Values of attributes, nested ones too."""
    scalars = st.one_of(
        st.none(), st.booleans(), ints, st.floats(), texts, st.binary(max_size=20), SECRETS.map(str.encode)
    )
    return st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
        max_leaves=6,
    )


VALUES = values(TEXTS, st.integers(-2, 70_000) | st.integers(-(1 << 65), 1 << 65))
CLEAN_VALUES = values(CLEAN_TEXTS, st.integers(-(1 << 63), (1 << 63) - 1))
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=6)
