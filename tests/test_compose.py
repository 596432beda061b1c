"""What compose.yaml promises of each container, and of all of them together."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.compose.check import mistakes
from observability.server import serve

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SHOP = ("orders", "inventory", "payments", "shipping")
PUBLISHED = {"orders": 8000, "jaeger": 16686, "grafana": 3000, "kibana": 5601}
GO = ("collector", "jaeger", "prometheus", "loki", "grafana", "nats")
MEBIBYTE = 1024**2

each_service = pytest.mark.parametrize("name", SERVICES)


def test_schema() -> None:
    """The file is what the Compose Specification says."""
    assert mistakes(ROOT / "compose.yaml") == []


def test_misspelt_key(tmp_path: Path) -> None:
    """A key that the specification does not know is a mistake."""
    misspelt = tmp_path / "compose.yaml"
    misspelt.write_text(yaml.safe_dump({"services": {"orders": {"image": "clearspan:0.1.0", "mem_limits": "1m"}}}))
    (found,) = mistakes(misspelt)
    assert "mem_limits" in found


@each_service
def test_contained(name: str) -> None:
    """A container writes nowhere but on its volumes, has no rights, cannot get any, and is no root."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])


@each_service
def test_bounded(name: str) -> None:
    """A container's memory, processes, log and files in memory have a bound."""
    service = SERVICES[name]
    assert _bytes(service["mem_limit"]) > 0
    assert service["pids_limit"] > 0
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert all("size=" in mounted for mounted in service.get("tmpfs", []))


@each_service
def test_pinned(name: str) -> None:
    """An image is named with its whole version."""
    assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+(-[\w.]+)?", SERVICES[name]["image"])


def test_own_image() -> None:
    """The shop's image has the version of the project, and is built once, by what all others of it come after."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    (builder,) = (name for name, service in SERVICES.items() if "build" in service)
    own = {name for name, service in SERVICES.items() if service["image"] == f"clearspan:{version[1]}"}
    assert own > {*SHOP, builder}
    assert all(SERVICES[name]["pull_policy"] == "never" for name in own)
    assert all(builder in _before(name) for name in own - {builder, "nats-volume"})


def _before(name: str) -> set[str]:
    """What has to be there before a service, however far."""
    needed = set(SERVICES[name].get("depends_on", {}))
    return needed.union(*(_before(one) for one in needed))


def test_elastic_versions() -> None:
    """What is Elastic's is of one version."""
    images = [service["image"] for service in SERVICES.values() if "docker.elastic.co" in service["image"]]
    assert len({image.partition(":")[2] for image in images}) == 1


def test_memory() -> None:
    """All that goes on running without Elastic's programs fits into 3 GB."""
    limits = {
        name: _bytes(service["mem_limit"])
        for name, service in SERVICES.items()
        if "elk" not in service.get("profiles", []) and service["restart"] != "no"
    }
    assert sum(limits.values()) <= 3 * 1000**3


@pytest.mark.parametrize("name", GO)
def test_go_memory(name: str) -> None:
    """A Go program collects its garbage before the kernel ends it."""
    limit = SERVICES[name]["environment"]["GOMEMLIMIT"]
    assert limit.endswith("MiB")
    assert int(limit.removesuffix("MiB")) * MEBIBYTE <= 0.9 * _bytes(SERVICES[name]["mem_limit"])


def test_published() -> None:
    """The user's addresses, on the loopback, and no others."""
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {name: [f"127.0.0.1:{port}:{port}"] for name, port in PUBLISHED.items()}


@each_service
def test_networks(name: str) -> None:
    """What is not published has internal networks alone; what is published has one that is not."""
    external = {one for one in _networks(name) if not COMPOSE["networks"][one].get("internal")}
    assert bool(external) == (name in PUBLISHED)
    assert SERVICES[name].get("network_mode", "none") == "none"


def test_separation() -> None:
    """The databases see the shop alone; of all the telemetry's programs the shop sees the collector alone."""
    databases, shop = {"postgresql", "valkey", "nats"}, set(SHOP)
    assert _neighbours(databases) == databases | shop
    assert _neighbours(shop) == databases | shop | {"load", "collector", "collector-health"}


@each_service
def test_mounted(name: str) -> None:
    """What is mounted from here exists, and cannot be written; what else is mounted is a volume."""
    for mount in SERVICES[name].get("volumes", []):
        source, _, rest = mount.partition(":")
        if source.startswith("./"):
            assert (ROOT / source).exists()
            assert rest.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


@each_service
def test_health(name: str) -> None:
    """A container can be asked how it is, or is done when it has ended, or is one that nobody waits for."""
    service = SERVICES[name]
    if name in ("collector", "load"):  # the one is asked by collector-health, the other asks
        assert "test" not in service.get("healthcheck", {})
    elif service["restart"] == "no":
        awaited = [other["depends_on"].get(name) for other in SERVICES.values() if "depends_on" in other]
        assert {"condition": "service_completed_successfully"} in awaited  # or `up --wait` takes its end for a failure
    else:
        assert service["healthcheck"]["start_interval"]
        assert name in SHOP or service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@each_service
def test_order(name: str) -> None:
    """What a service waits for can be waited for, in the profiles in which it runs."""
    for other, how in SERVICES[name].get("depends_on", {}).items():
        needed = SERVICES[other]
        match how["condition"]:
            case "service_healthy":
                assert not needed["healthcheck"].get("disable")
            case "service_completed_successfully":
                assert needed["restart"] == "no"
            case "service_started":
                assert other in ("collector", "jaeger", "prometheus", "loki")
        assert set(needed.get("profiles", [])) <= set(SERVICES[name].get("profiles", []))


@pytest.mark.parametrize("name", SHOP)
def test_grace(name: str) -> None:
    """A service has the time that it takes to stop."""
    service = SERVICES[name]
    in_flight_s = inspect.signature(serve).parameters["shutdown_timeout_s"].default
    drain_s, close_s = (
        float(service["environment"][f"CLEARSPAN_{which}"]) for which in ("DRAIN_DELAY", "CLOSE_TIMEOUT")
    )
    assert float(service["stop_grace_period"].removesuffix("s")) >= drain_s + in_flight_s + close_s + 5


@pytest.mark.parametrize("name", SHOP)
def test_telemetry(name: str) -> None:
    """A service sends all of its telemetry to the collector, under the names that the dashboards know."""
    environment = SERVICES[name]["environment"]
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"
    assert environment["OTEL_TRACES_SAMPLER"] == "parentbased_always_on"
    assert environment["OTEL_RESOURCE_ATTRIBUTES"].startswith("service.namespace=shop,deployment.environment.name=")


@each_service
def test_no_passwords(name: str) -> None:
    """No environment and no command line holds a password or an URL with one; files do."""
    service = SERVICES[name]
    for variable, value in (service.get("environment") or {}).items():
        assert not re.search(r"PASSWORD|TOKEN|SECRET|_KEY", variable) or value.startswith("/run/secrets/")
        assert not re.search(r"://[^/]*@", value)
    assert "password" not in " ".join(service.get("command", [])).lower()


def test_anonymous() -> None:
    """Who has not logged in to Grafana may look, if he is no web page of elsewhere; nobody can make himself a user."""
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert environment["GF_SERVER_ENFORCE_DOMAIN"] == "true"


def _bytes(text: str) -> int:
    assert text.endswith("m")
    return int(text.removesuffix("m")) * MEBIBYTE


def _networks(name: str) -> set[str]:
    return set(SERVICES[name].get("networks", []))


def _neighbours(names: set[str]) -> set[str]:
    seen = {network for name in names for network in _networks(name)}
    return {name for name in SERVICES if _networks(name) & seen}
