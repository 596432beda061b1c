"""Who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _breaches(files: list[Path], banned: tuple[str, ...]) -> list[str]:
    assert files
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in _imports(path)
        if any(name == one or name.startswith(f"{one}.") for one in banned)
    ]


def test_kit_knows_no_service() -> None:
    """The kit never imports the service."""
    assert _breaches(list((ROOT / "observability").rglob("*.py")), ("service",)) == []


def test_business_knows_no_framework() -> None:
    """Business modules know no web framework, no HTTP client, no database and no SDK."""
    business = [ROOT / "service" / name / f"{name}.py" for name in ("orders", "inventory", "payments", "shipping")]
    business += [ROOT / "service" / "orders" / name for name in ("order.py", "sweep.py")]
    business += [ROOT / "service" / name / "events.py" for name in ("orders", "shipping")]
    assert _breaches(business, ("fastapi", "starlette", "httpx", "sqlalchemy", "opentelemetry")) == []


def test_only_one_folder_needs_a_broker() -> None:
    """Who has no broker needs no nats-py."""
    nats = ROOT / "observability" / "events" / "nats"
    others = [path for part in ("observability", "service") for path in (ROOT / part).rglob("*.py")]
    assert _breaches([path for path in others if not path.is_relative_to(nats)], ("nats",)) == []


def test_service_knows_no_sdk() -> None:
    """The service speaks the OpenTelemetry API only."""
    assert _breaches(list((ROOT / "service").rglob("*.py")), ("opentelemetry.sdk",)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "observability" / "viewer").rglob("*.py")), ids=lambda path: path.name)
def test_viewer_stands_alone(path: Path) -> None:
    """The viewer imports nothing else of the kit."""
    assert [name for name in _imports(path) if name.split(".")[0] == "observability" and "viewer" not in name] == []
