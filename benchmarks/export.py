"""`python -m benchmarks.export`: what a span and a log record cost, from their start until they were sent.

The SDK's batch processors with the official exporters take turns with the fast path, in one process, against one local
server on another core. Counted is the CPU time of this process, which holds the request's share and the exporter
thread's. Only the ratios mean something on another machine.
"""
