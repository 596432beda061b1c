"""The viewer: receives OTLP, keeps it in one file of bounded size, and shows it.

On the way in: `receiver`, `grpc_receiver` → `intake` → `ingest` → `store`. On the way out: `query` (the language) →
`store` → `api` (the pages' own), `search`, `jaeger` and `jaeger_v3` (Jaeger's), `telemetry_json` (a trace as a file)
→ `app`.
"""
