"""`python -m tests.observability.viewer.fuzz`: a hundred thousand hostile requests to a running viewer.

Fails if it dies, answers what the specification has not for it, no longer shows what it took, or grows.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import grpc
import httpx
import psutil

from tests.observability.viewer.hostile import Input, inputs
from tests.observability.viewer.process import RunningViewer, running_viewer

MAX_GROWTH_BYTES = 64 * 1024 * 1024
"""From a quarter of the way on, when the store's own cache is full."""
LOOK_EVERY = 5000
IDLE_S = 2.0
"""After which a connection is not used again, since the viewer may be closing it."""

_SERVICES = {"traces": "trace.v1.Trace", "logs": "logs.v1.Logs", "metrics": "metrics.v1.Metrics"}
_EXPECTED = {"200", "400", "413", "OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}


class _Sender:
    """Sends each input over HTTP and, if it is protobuf, its plain form over gRPC as well."""

    def __init__(self, viewer: RunningViewer, channel: grpc.Channel) -> None:
        self._connection = http.client.HTTPConnection(viewer.otlp.removeprefix("http://"), timeout=30)
        self._used = 0.0
        self._exports: dict[str, grpc.UnaryUnaryMultiCallable[bytes, bytes]] = {
            signal: channel.unary_unary(f"/opentelemetry.proto.collector.{name}Service/Export")
            for signal, name in _SERVICES.items()
        }

    def send(self, one: Input) -> list[str]:
        """What it was answered."""
        headers = {"content-type": one.content_type, "content-encoding": one.encoding}
        if time.monotonic() - self._used > IDLE_S:
            self._connection.close()
        self._connection.request("POST", f"/v1/{one.signal}", one.body, headers)
        answer = self._connection.getresponse()
        answer.read()
        self._used = time.monotonic()
        answers = [str(answer.status)]
        if one.content_type == "application/x-protobuf":
            try:
                self._exports[one.signal](one.plain, timeout=30)
                answers.append("OK")
            except grpc.RpcError as error:
                answers.append(error.code().name)
        return answers


def _look(viewer: RunningViewer) -> None:
    """Read what was taken, as the pages do."""
    with httpx.Client(base_url=viewer.page, timeout=30) as reader:
        for trace in reader.get("/api/find").raise_for_status().json()["traces"]:
            for path in (f"/api/recent/{trace['traceID']}", f"/api/traces/{trace['traceID']}"):
                reader.get(path).raise_for_status()


def main() -> None:
    """Send them all and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    options = parser.parse_args()
    print(f"{options.inputs} inputs of seed {options.seed}", flush=True)  # noqa: T201
    answers: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, running_viewer(Path(folder)) as viewer:
        process = psutil.Process(viewer.pid)
        with grpc.insecure_channel(viewer.grpc.removeprefix("http://")) as channel:
            sender = _Sender(viewer, channel)
            warm = 0
            for index, one in enumerate(inputs(options.seed, options.inputs), 1):
                found = sender.send(one)
                answers.update(found)
                if not _EXPECTED.issuperset(found):
                    sys.exit(f"input {index} was answered {found}: {one}")
                if index % LOOK_EVERY == 0:
                    _look(viewer)
                    print(f"{index}: {dict(answers)}, {process.memory_info().rss >> 20} MiB", flush=True)  # noqa: T201
                if index == options.inputs // 4:
                    warm = process.memory_info().rss
        grown = process.memory_info().rss - warm
    print(f"the viewer grew by {grown / 2**20:.1f} MiB")  # noqa: T201
    if grown > MAX_GROWTH_BYTES:
        sys.exit("that is too much")


if __name__ == "__main__":
    main()
