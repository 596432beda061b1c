"""The viewer's file: records come in, are kept within bounds, and are found again.

`Store` in `store` is the way in and out; each other module has a concept, and its own tables in the same transaction.

- `wire` (a request, decoded one level deep), `traces` over `shares`, and `logs`: records by trace; `arriving`: what is
  known of the traces that spans come for now.
- `blocks`: many records in one row; `index`, `attributes`: which of them have which attributes; `vocabulary`: which
  attributes there are at all.
- `unfinished`: spans that still run; in memory, and forgotten when they come.
- `statistics` and `calls`, counted as spans come; `metrics`.
- `retention`: what goes; `database`: the file.
- `outline`: traces without the bodies of their spans, many at a time; `bodies`: these, of many traces;
  `links`: what is at the other ends of links.
- `find` over `records` (one, as a query looks at it) and `fields`; `completion`; `stored`: what comes out.
"""

from observability.viewer.store.store import Store

__all__ = ["Store"]
