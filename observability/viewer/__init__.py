"""The viewer: receives OTLP, keeps it in one file of bounded size, and shows it.

On the way in: `receiver`, `grpc_receiver` → `intake` → `ingest` → `store`. The store's parts, each of which reads and
writes its own tables in the transaction of `store`: `traces` (over `shares`) and `logs` over `blocks` (many in
one row); `index` and `attributes` (which of a block's records have which attributes), `vocabulary` (which there are);
`statistics` and `calls` (counted as spans come), `metrics`; `retention` (what goes) and `database` (the file). On the
way out: `query` (the language) → `find` over `records` (one, as a query looks at it), `completion`; `search` and
`jaeger` (Jaeger's API), `recent` (the pages'), `app`.
"""
