"""The agent of a Kubernetes node, with its committed config, in front of two gateways."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.running_shop import ROOT
from tests.stack.otlp import Spans, send_spans
from tests.stack.programs import program
from tests.stack.stack import CONFIGS, Member

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

SPANS = 3
"""That each of two services adds to a trace."""


@dataclass
class Agent:
    """The agent, where it takes telemetry, and the gateways, each with the file of what it was given."""

    member: Member
    url: str
    gateways: list[Member]
    files: list[Path]

    def spans(self) -> list[Counter[str]]:
        """How many spans of each trace every gateway was given."""
        return [
            Counter(
                span["traceId"]
                for line in file.read_text().splitlines()
                for resource in json.loads(line).get("resourceSpans", ())
                for scope in resource["scopeSpans"]
                for span in scope["spans"]
            )
            for file in self.files
        ]

    def wait_for(self, count: int) -> list[Counter[str]]:
        """What the gateways were given as soon as that is so many spans."""
        deadline = time.monotonic() + 60
        while sum(one.total() for one in self.spans()) < count:
            assert time.monotonic() < deadline, f"lost: {count - sum(one.total() for one in self.spans())}"
            time.sleep(0.2)
        return self.spans()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent that finds its gateways by a list, in place of the cluster's DNS."""
    names = ("first", "second")
    *ports, grpc, http, health, metrics = free_ports(4 + 2 * len(names))
    gateways = [_gateway(tmp_path, name, *ports[2 * index : 2 * index + 2]) for index, name in enumerate(names)]
    addresses = [f"127.0.0.1:{port}" for port in ports[::2]]
    override = {
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{health}"}},
        "receivers": {
            "otlp": {
                "protocols": {"grpc": {"endpoint": f"127.0.0.1:{grpc}"}, "http": {"endpoint": f"127.0.0.1:{http}"}}
            }
        },
        "exporters": {
            "load_balancing": {"resolver": {"dns": None, "static": {"hostnames": addresses}}},
            "otlp_grpc": {"endpoint": addresses[0]},
        },
        "service": {
            "telemetry": {
                "metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": metrics}}}}]}
            }
        },
    }
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(override))
    command = [str(program("otelcol")), f"--config={CONFIGS / 'collector' / 'agent.yaml'}", f"--config={path}"]
    member = Member(["env", "GATEWAYS=gateways", *command], f"http://127.0.0.1:{health}", tmp_path / "agent.log")
    with ExitStack() as stack:
        for one in (*gateways, member):
            stack.callback(one.stop)
            one.start()
        yield Agent(member, f"http://127.0.0.1:{http}", gateways, [tmp_path / f"{name}.spans" for name in names])


def _gateway(folder: Path, name: str, port: int, health: int) -> Member:
    """What stands for a gateway: it writes down what it is given."""
    pipeline = {"receivers": ["otlp"], "exporters": ["file"]}
    config = {
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{health}"}},
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": {"file": {"path": str(folder / f"{name}.spans"), "append": True, "flush_interval": "100ms"}},
        "service": {
            "extensions": ["health_check"],
            "pipelines": dict.fromkeys(("traces", "metrics", "logs"), pipeline),
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    return Member([str(program("otelcol")), f"--config={path}"], f"http://127.0.0.1:{health}", folder / f"{name}.log")


def _send(agent: Agent, count: int) -> None:
    """Traces of two services, each of which sends its own part."""
    orders = [Spans("orders", SPANS) for _ in range(count)]
    send_spans(agent.url, orders)
    send_spans(agent.url, [Spans("inventory", SPANS, trace_id=one.trace_id) for one in orders])


def test_traces_stay_whole(agent: Agent) -> None:
    """All spans of a trace come to one gateway, whoever sent them, and both gateways get their share."""
    _send(agent, 200)
    first, second = agent.wait_for(200 * 2 * SPANS)
    assert not first.keys() & second.keys()
    assert set((first + second).values()) == {2 * SPANS}
    assert min(len(first), len(second)) > 50


def test_gateway_is_away(agent: Agent) -> None:
    """What a gateway does not take waits for it alone: the other one gets its own, and nobody gets anything twice."""
    agent.gateways[1].kill()
    _send(agent, 100)
    agent.wait_for(2 * SPANS)
    agent.gateways[1].start()
    first, second = agent.wait_for(100 * 2 * SPANS)
    assert not first.keys() & second.keys()
    assert set((first + second).values()) == {2 * SPANS}
    assert len(second) > 20


def test_agent_is_stopped(agent: Agent) -> None:
    """An agent that is told to stop hands on what it has."""
    _send(agent, 100)
    agent.member.stop()
    assert set(sum(agent.wait_for(100 * 2 * SPANS), Counter()).values()) == {2 * SPANS}


@pytest.mark.parametrize(
    ("name", "configs"),
    [
        ("otelcol", ["observability/stack/collector/agent.yaml"]),
        (
            "otelcol",
            [
                "observability/stack/collector/config.yaml",
                "deploy/kubernetes/overlays/dev/without-backends.yaml",
            ],
        ),
        (
            "otelcol",
            [
                "observability/stack/collector/config.yaml",
                "deploy/kubernetes/overlays/production/collector-instance.yaml",
            ],
        ),
        (
            "jaeger",
            [
                "observability/stack/jaeger/config.yaml",
                "deploy/kubernetes/overlays/production/jaeger-elasticsearch.yaml",
            ],
        ),
    ],
)
def test_configs(name: str, configs: list[str]) -> None:
    """The programs themselves find the configs valid that Kubernetes alone uses."""
    variables = {
        "GATEWAYS": "gateways",
        "POD_NAME": "collector-0",
        "ELASTICSEARCH_URL": "http://127.0.0.1:9200",
        "ELASTICSEARCH_USERNAME": "shop",
    }
    command = [str(program(name)), "validate", *(f"--config={ROOT / one}" for one in configs)]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
