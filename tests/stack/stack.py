"""The real collector, Jaeger, Prometheus and Loki with the committed configs: only addresses and folders differ."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from observability.launcher import end_with_parent
from tests.ports import free_ports
from tests.running_shop import ROOT
from tests.stack.programs import program

CONFIGS = ROOT / "observability" / "stack"
START_TIMEOUT_S, STOP_TIMEOUT_S = 30.0, 20.0


@dataclass
class Member:
    """One program of the stack, which a test may kill and start again.

    Attributes:
        command: How it is started.
        health: What answers 200 as soon as it is ready.
        log: Where its output goes.
    """

    command: list[str]
    health: str
    log: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it, and return when it is ready."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start it, and do not wait for it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - before any thread
            )

    def wait(self) -> None:
        """Return when it is ready."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, f"not ready in time:\n{self.log.read_text()[-4000:]}"
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.health, timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None


@dataclass(frozen=True)
class Ports:
    """Of the stack, all on loopback, under the names of the committed configs."""

    otlp_grpc: int
    otlp_http: int
    collector_health: int
    collector_metrics: int
    jaeger_otlp: int
    jaeger_page: int
    jaeger_grpc: int
    jaeger_health: int
    jaeger_metrics: int
    prometheus: int
    loki: int
    loki_grpc: int
    viewer_page: int
    viewer_otlp: int


@dataclass
class Stack:
    """The programs, running, and where they answer."""

    folder: Path
    ports: Ports
    collector: Member
    jaeger_server: Member
    prometheus_server: Member
    loki_server: Member
    viewer_server: Member

    @property
    def otlp(self) -> str:
        """Where the collector takes OTLP over HTTP."""
        return f"http://127.0.0.1:{self.ports.otlp_http}"

    @property
    def jaeger(self) -> str:
        """Jaeger's pages and API."""
        return f"http://127.0.0.1:{self.ports.jaeger_page}"

    @property
    def prometheus(self) -> str:
        """Prometheus' API."""
        return f"http://127.0.0.1:{self.ports.prometheus}"

    @property
    def loki(self) -> str:
        """Loki's API."""
        return f"http://127.0.0.1:{self.ports.loki}"

    @property
    def viewer(self) -> str:
        """The embedded viewer, which has every span, sampled or not."""
        return f"http://127.0.0.1:{self.ports.viewer_page}"

    @property
    def logs(self) -> Path:
        """The log records that Logstash would read."""
        return self.folder / "logs.json"


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """The stack around a block; what its programs keep is in the folder."""
    ports = Ports(*free_ports(len(Ports.__annotations__)))
    collector = _collector(folder, ports)
    receivers = [make(folder, ports) for make in (_jaeger, _prometheus, _loki, _viewer)]
    with ExitStack() as stack:
        for receiver in receivers:
            stack.callback(receiver.stop)
            receiver.begin()
        for receiver in receivers:
            receiver.wait()
        stack.callback(collector.stop)  # last, and so it ends first
        collector.start()
        yield Stack(folder, ports, collector, *receivers)


def _collector(folder: Path, ports: Ports) -> Member:
    queue, viewer = str(folder / "queue"), f"http://127.0.0.1:{ports.viewer_otlp}"
    override = {
        "extensions": {
            "health_check": {"endpoint": f"127.0.0.1:{ports.collector_health}"},
            "file_storage": {"directory": queue, "compaction": {"directory": queue}},
        },
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"127.0.0.1:{ports.otlp_grpc}"},
                    "http": {"endpoint": f"127.0.0.1:{ports.otlp_http}"},
                }
            }
        },
        "exporters": {
            "otlp_grpc/jaeger": {"endpoint": f"127.0.0.1:{ports.jaeger_otlp}"},
            "otlp_http/prometheus": {"metrics_endpoint": f"http://127.0.0.1:{ports.prometheus}/api/v1/otlp/v1/metrics"},
            "otlp_http/loki": {"logs_endpoint": f"http://127.0.0.1:{ports.loki}/otlp/v1/logs"},
            "file/logstash": {"path": str(folder / "logs.json")},
            # Beside what is committed: every span, to compare.
            "otlp_http/viewer": {"endpoint": viewer},
        },
        "service": {
            "telemetry": {"metrics": {"readers": [_reader(ports.collector_metrics)]}},
            "pipelines": {"traces": {"exporters": ["span_metrics", "service_graph", "forward", "otlp_http/viewer"]}},
        },
    }
    path = _written(folder / "collector.json", override)
    return Member(
        [str(program("otelcol")), f"--config={CONFIGS / 'collector' / 'config.yaml'}", f"--config={path}"],
        f"http://127.0.0.1:{ports.collector_health}/",
        folder / "collector.log",
    )


def _jaeger(folder: Path, ports: Ports) -> Member:
    override = {
        "extensions": {
            "jaeger_storage": {
                "metric_backends": {"prometheus": {"prometheus": {"endpoint": f"http://127.0.0.1:{ports.prometheus}"}}}
            },
            "jaeger_query": {
                "http": {"endpoint": f"127.0.0.1:{ports.jaeger_page}"},
                "grpc": {"endpoint": f"127.0.0.1:{ports.jaeger_grpc}"},
                "ui": {"config_file": str(CONFIGS / "jaeger" / "ui.json")},
            },
            "healthcheckv2": {"http": {"endpoint": f"127.0.0.1:{ports.jaeger_health}"}},
        },
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{ports.jaeger_otlp}"}}}},
        "service": {"telemetry": {"metrics": {"readers": [_reader(ports.jaeger_metrics)]}}},
    }
    path = _written(folder / "jaeger.json", override)
    return Member(
        [str(program("jaeger")), f"--config={CONFIGS / 'jaeger' / 'config.yaml'}", f"--config={path}"],
        f"http://127.0.0.1:{ports.jaeger_health}/status",
        folder / "jaeger.log",
    )


def _prometheus(folder: Path, ports: Ports) -> Member:
    committed = CONFIGS / "prometheus"
    config = (committed / "prometheus.yaml").read_text()
    for address, port in {
        "localhost:9090": ports.prometheus,
        "collector:8888": ports.collector_metrics,
        "jaeger:8888": ports.jaeger_metrics,
    }.items():
        assert config.count(address) == 1
        config = config.replace(address, f"127.0.0.1:{port}")
    config = config.replace("rules/*.yaml", f"{committed}/rules/*.yaml")
    path = folder / "prometheus.yaml"
    path.write_text(config)
    return Member(
        [
            str(program("prometheus")),
            f"--config.file={path}",
            f"--web.listen-address=127.0.0.1:{ports.prometheus}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            "--web.enable-otlp-receiver",
            "--enable-feature=exemplar-storage",
        ],
        f"http://127.0.0.1:{ports.prometheus}/-/ready",
        folder / "prometheus.log",
    )


def _loki(folder: Path, ports: Ports) -> Member:
    own = folder / "loki"
    return Member(
        [
            str(program("loki")),
            f"-config.file={CONFIGS / 'loki' / 'config.yaml'}",
            "-server.http-listen-address=127.0.0.1",
            f"-server.http-listen-port={ports.loki}",
            f"-server.grpc-listen-port={ports.loki_grpc}",
            f"-common.path-prefix={own}",
            f"-common.storage.filesystem.chunk-directory={own / 'chunks'}",
            f"-common.storage.filesystem.rules-directory={own / 'rules'}",
            f"-compactor.working-directory={own / 'compactor'}",
        ],
        f"http://127.0.0.1:{ports.loki}/ready",
        folder / "loki.log",
    )


def _viewer(folder: Path, ports: Ports) -> Member:
    options = (f"--port={ports.viewer_page}", f"--otlp-port={ports.viewer_otlp}", f"--data-dir={folder / 'viewer'}")
    return Member(
        [sys.executable, "-m", "observability.cli", "viewer", *options],
        f"http://127.0.0.1:{ports.viewer_page}/api/services",
        folder / "viewer.log",
    )


def _reader(port: int) -> Mapping[str, Any]:
    # Lists are replaced, and so the flags that the committed config has for Jaeger stand here again.
    names = {"without_type_suffix": True, "without_units": True, "without_scope_info": True}
    return {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": port, **names}}}}


def _written(path: Path, config: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(config, indent=1))
    return path
