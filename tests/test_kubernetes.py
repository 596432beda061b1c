"""What the manifests promise, looked at as they are rendered."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import yaml

from deploy.kubernetes.check import OVERLAYS, ROOT, Manifest, mistakes, render, renderer
from observability.instrument import STOP_TIMEOUT_S
from service.orders.app import REQUEST_TIMEOUT_S
from service.settings import EventSettings

SERVICES = ("inventory", "orders", "payments", "shipping")
SHUTDOWN_TIMEOUT_S = 5.0
"""What `serve` gives requests in flight."""

_rendered: dict[str, list[Manifest]] = {}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    """Each of the overlays."""
    name: str = request.param
    return name


@pytest.fixture
def manifests(overlay: str) -> list[Manifest]:
    """The objects of an overlay."""
    command = renderer()
    if command is None:
        pytest.skip("neither kustomize nor kubectl is installed: make programs builds one")
    if overlay not in _rendered:
        _rendered[overlay] = render(command, overlay)
    return _rendered[overlay]


def _of(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] in kinds}


def _workloads(manifests: list[Manifest]) -> dict[str, Manifest]:
    return _of(manifests, "Deployment", "StatefulSet", "DaemonSet")


def _pods(manifests: list[Manifest]) -> dict[str, dict[str, Any]]:
    """The specification of each workload's pods."""
    return {name: one["spec"]["template"]["spec"] for name, one in _workloads(manifests).items()}


def _labels(manifests: list[Manifest]) -> dict[str, dict[str, str]]:
    return {name: one["spec"]["template"]["metadata"]["labels"] for name, one in _workloads(manifests).items()}


def _containers(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, pod in _pods(manifests).items():
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            yield name, container


def _ports(pod: dict[str, Any]) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for container in pod["containers"] for port in container["ports"]}


def _environment(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes a pod."""
    assert all(one["operator"] == "In" for one in selector.get("matchExpressions", ()))
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ())
    )


def test_valid(manifests: list[Manifest]) -> None:
    """The API server would take every object."""
    assert [found for one in manifests for found in mistakes(one)] == []


@pytest.mark.parametrize(
    ("kind", "field"), [("Deployment", "replica"), ("HTTPRoute", "hostname"), ("Namespace", "finaliser")]
)
def test_misspelt_field(kind: str, field: str) -> None:
    """A field that does not exist is a mistake, in Kubernetes' own objects and in the Gateway API's."""
    api = {"Deployment": "apps/v1", "HTTPRoute": "gateway.networking.k8s.io/v1", "Namespace": "v1"}[kind]
    (found,) = mistakes({"apiVersion": api, "kind": kind, "metadata": {"name": "it"}, "spec": {field: []}})
    assert field in found or "required" in found


def test_services(overlay: str, manifests: list[Manifest]) -> None:
    """Each service has its workload, its address and its account; several replicas where the cluster is large."""
    for kind in ("Deployment", "Service", "ServiceAccount"):
        assert _of(manifests, kind).keys() >= set(SERVICES)
    scalers = _of(manifests, "HorizontalPodAutoscaler")
    if overlay == "dev":
        assert not scalers
        return
    assert scalers.keys() == set(SERVICES)
    for name, scaler in scalers.items():
        assert scaler["spec"]["scaleTargetRef"]["name"] == name
        assert scaler["spec"]["minReplicas"] >= 2
        assert "replicas" not in _of(manifests, "Deployment")[name]["spec"], "every apply would undo the scaling"


def test_pod_security(manifests: list[Manifest]) -> None:
    """Every pod keeps the restricted standard, which its namespace enforces."""
    for namespace in _of(manifests, "Namespace").values():
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {one["metadata"]["namespace"] for one in manifests if one["kind"] != "Namespace"} == {"shop"}
    for pod in _pods(manifests).values():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        kinds = {kind for volume in pod.get("volumes", ()) for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "secret"}
        assert all("sizeLimit" in one["emptyDir"] for one in pod.get("volumes", ()) if "emptyDir" in one)
    for _, container in _containers(manifests):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert not any("hostPort" in port for port in container["ports"])


def test_no_token(manifests: list[Manifest]) -> None:
    """No pod can speak to the API server."""
    assert all(pod["automountServiceAccountToken"] is False for pod in _pods(manifests).values())
    assert all(one["automountServiceAccountToken"] is False for one in _of(manifests, "ServiceAccount").values())
    assert not _of(manifests, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


def test_bounds_and_probes(manifests: list[Manifest]) -> None:
    """Every container has bounds, an image of a certain version, and all three probes."""
    for name, container in _containers(manifests):
        assert container["resources"].keys() == {"requests", "limits"}, name
        assert all(bounds.keys() == {"cpu", "memory"} for bounds in container["resources"].values())
        assert re.search(r":[\w.-]*\d[\w.-]*$|:dev$|@sha256:", container["image"]), container["image"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), name
    for name in SERVICES:
        (container,) = _pods(manifests)[name]["containers"]
        paths = [container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")]
        assert paths == ["/startupz", "/livez", "/readyz"]


def test_drain(manifests: list[Manifest]) -> None:
    """A pod has time to drain, and drains for long enough that everyone has noticed."""
    for name in SERVICES:
        pod = _pods(manifests)[name]
        (container,) = pod["containers"]
        drain_s = float(_environment(container)["CLEARSPAN_DRAIN_DELAY"])
        close_s = float(_environment(container)["CLEARSPAN_CLOSE_TIMEOUT"])
        probe = container["readinessProbe"]
        assert drain_s > probe["periodSeconds"] * probe["failureThreshold"]
        assert drain_s + SHUTDOWN_TIMEOUT_S >= REQUEST_TIMEOUT_S, "what came before the signal would be cut off"
        ends_s = drain_s + SHUTDOWN_TIMEOUT_S + STOP_TIMEOUT_S + close_s
        assert ends_s < pod["terminationGracePeriodSeconds"]
        assert "lifecycle" not in container, "the kit drains by itself"
        rolling = _of(manifests, "Deployment")[name]["spec"]["strategy"]["rollingUpdate"]
        assert rolling == {"maxSurge": 1, "maxUnavailable": 0}


def test_disruptions(overlay: str, manifests: list[Manifest]) -> None:
    """What has several replicas is never taken away at once, and no budget keeps a node from being emptied."""
    budgets = _of(manifests, "PodDisruptionBudget")
    several = {name for name, one in _workloads(manifests).items() if one["spec"].get("replicas", 1) > 1}
    several |= _of(manifests, "HorizontalPodAutoscaler").keys()
    assert budgets.keys() == several
    for name, budget in budgets.items():
        assert budget["spec"]["maxUnavailable"] == 1
        assert [one for one, labels in _labels(manifests).items() if _selects(budget["spec"]["selector"], labels)] == [
            name
        ]
        assert len(_pods(manifests)[name]["topologySpreadConstraints"]) == 2
    assert several or overlay == "dev"


def test_references(manifests: list[Manifest]) -> None:
    """What an object names is there: pods and ports of a Service, accounts, ConfigMaps."""
    pods, labels = _pods(manifests), _labels(manifests)
    for name, service in _of(manifests, "Service").items():
        if service["spec"].get("type") == "ExternalName":
            continue
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP", "nothing has a way in of its own"
        assert [one for one in pods if _selects({"matchLabels": service["spec"]["selector"]}, labels[one])] == [name]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= _ports(pods[name]).keys()
    for pod in pods.values():
        assert pod.get("serviceAccountName", "default") in {"default", *SERVICES}
        maps = {one["configMap"]["name"] for one in pod.get("volumes", ()) if "configMap" in one}
        maps |= {one["configMapRef"]["name"] for container in pod["containers"] for one in container.get("envFrom", ())}
        assert maps <= _of(manifests, "ConfigMap").keys()


def test_config_files(manifests: list[Manifest]) -> None:
    """Each --config is a file of a ConfigMap that is mounted there."""
    maps = {name: one["data"] for name, one in _of(manifests, "ConfigMap").items()}
    for name, pod in _pods(manifests).items():
        mounted = {one["name"]: one["configMap"]["name"] for one in pod.get("volumes", ()) if "configMap" in one}
        for container in pod["containers"]:
            files = {
                f"{mount['mountPath']}/{file}"
                for mount in container.get("volumeMounts", ())
                for file in maps.get(mounted.get(mount["name"], ""), ())
            }
            named = re.findall(r"--config=(\S+)", " ".join(container.get("args", ())))
            assert set(named) <= files, name


def test_no_secrets(manifests: list[Manifest]) -> None:
    """No secret's value stands in a manifest: each comes from a Secret of the cluster, to a service as files."""
    assert not _of(manifests, "Secret")
    assert not re.search(r"://[^\s/:@]*:[^\s/@$]+@", yaml.safe_dump_all(manifests))
    for name, container in _containers(manifests):
        for variable in _environment(container):
            assert not re.search(r"PASSWORD$|TOKEN$|SECRET|DATABASE_URL|REDIS_URL|BROKER_URL", variable), name
    for name in SERVICES:
        (container,) = _pods(manifests)[name]["containers"]
        assert [one["name"] for one in container["volumeMounts"] if one["mountPath"] == "/run/secrets"] == ["secrets"]


def test_dev_secrets() -> None:
    """The script of the development overlay makes what the services and the databases read, anew each time."""
    script = ["sh", str(ROOT / "deploy/kubernetes/overlays/dev/secret.sh")]
    first, second = (
        list(yaml.safe_load_all(subprocess.run(script, capture_output=True, check=True).stdout)) for _ in range(2)
    )
    assert [found for one in first for found in mistakes(one)] == []
    values = {one["metadata"]["name"]: one["stringData"] for one in first}
    fields = EventSettings.model_fields
    aliases = {fields[name].validation_alias for name in ("database_url", "redis_url", "broker_url", "events_token")}
    assert values["shop"].keys() == aliases
    assert EventSettings(**values["shop"]).cache == values["shop"]["REDIS_URL"]
    assert values["databases"].keys() == {"POSTGRESQL_PASSWORD", "VALKEY_PASSWORD", "NATS_PASSWORD"}
    assert not {*values["shop"].values()} & {*second[1]["stringData"].values()}


def _allowed(manifests: list[Manifest], direction: str, name: str, other: str, port: str) -> bool:
    """Whether the policies of a pod let it talk with another one at that one's port, or be talked to at its own."""
    labels, key = _labels(manifests), "to" if direction == "Egress" else "from"
    number = _ports(_pods(manifests)[other if direction == "Egress" else name])[port]
    policies = [
        one["spec"]
        for one in _of(manifests, "NetworkPolicy").values()
        if direction in one["spec"]["policyTypes"] and _selects(one["spec"]["podSelector"], labels[name])
    ]
    assert policies, f"nothing restricts {name}"
    return any(
        any(one["port"] in (port, number) for one in rule["ports"])
        and any(peer.keys() == {"podSelector"} and _selects(peer["podSelector"], labels[other]) for peer in rule[key])
        for policy in policies
        for rule in policy.get(direction.lower(), ())
    )


def test_network(overlay: str, manifests: list[Manifest]) -> None:
    """Of all pods only those can talk that have to, at the ports that they need."""
    pods = _pods(manifests)
    ways = {
        (client, server, port)
        for client, server in product(pods, pods)
        for port in _ports(pods[server])
        if _allowed(manifests, "Egress", client, server, port) and _allowed(manifests, "Ingress", server, client, port)
    }
    calls = {("orders", "inventory", "http"), ("orders", "payments", "http")}
    if overlay == "dev":
        databases = {(service, one, one) for service in SERVICES for one in ("postgresql", "valkey", "nats")}
        telemetry = {(service, "collector", "otlp-http") for service in SERVICES} | {
            ("collector", "jaeger", "otlp-grpc")
        }
        assert ways == calls | databases | telemetry
    else:
        telemetry = {(service, "collector-agent", "otlp-http") for service in SERVICES}
        telemetry |= {("collector-agent", "collector", "otlp-grpc"), ("collector", "jaeger", "otlp-grpc")}
        assert ways == calls | telemetry


def test_one_way_in(overlay: str, manifests: list[Manifest]) -> None:
    """From outside there is a way to orders alone, under TLS, in production alone."""
    routes = _of(manifests, "HTTPRoute", "Ingress")
    assert routes.keys() == ({"orders"} if overlay == "production" else set())
    for route in routes.values():
        rules = route["spec"]["rules"]
        assert {backend["name"] for rule in rules for backend in rule["backendRefs"]} == {"orders"}
        assert {match["path"]["value"] for rule in rules for match in rule["matches"]} == {"/", "/orders"}
        assert all(float(rule["timeouts"]["request"].removesuffix("s")) > REQUEST_TIMEOUT_S for rule in rules)
    for gateway in _of(manifests, "Gateway").values():
        assert {one["protocol"] for one in gateway["spec"]["listeners"]} == {"HTTPS"}
