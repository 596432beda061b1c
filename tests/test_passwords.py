"""The files that hold the passwords of compose.yaml."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import passwords

ROOT = Path(__file__).parents[1]


def test_all_of_them(tmp_path: Path) -> None:
    """Each secret of compose.yaml is made, and no other."""
    folder = passwords.make(tmp_path)
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert {path.name for path in folder.iterdir()} == compose["secrets"].keys()
    assert all(Path(secret["file"]).name == name for name, secret in compose["secrets"].items())
    used = {
        secret if isinstance(secret, str) else secret["source"]
        for service in compose["services"].values()
        for secret in service.get("secrets", [])
    }
    assert used == compose["secrets"].keys()


def test_who_may_read(tmp_path: Path) -> None:
    """Nobody else may enter the folder; who has a file of it mounted may read that one."""
    folder = passwords.make(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}


def test_again(tmp_path: Path) -> None:
    """A second time changes nothing, and adds what is missing."""
    folder = passwords.make(tmp_path)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    (folder / "grafana-password").unlink()
    passwords.make(tmp_path)
    after = {path.name: path.read_text() for path in folder.iterdir()}
    assert after.pop("grafana-password") != before.pop("grafana-password")
    assert after == before


def test_new_password_of_the_cache(tmp_path: Path) -> None:
    """Who deletes a URL has a new password in it, and its server is told."""
    folder = passwords.make(tmp_path)
    before = (folder / "valkey-users").read_text(), (folder / "nats-users").read_text()
    (folder / "orders-redis-url").unlink()
    (folder / "orders-broker-url").unlink()
    passwords.make(tmp_path)
    after = (folder / "valkey-users").read_text(), (folder / "nats-users").read_text()
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_different(tmp_path: Path) -> None:
    """No two passwords are the same, nor those of two folders."""
    values = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        folder = passwords.make(tmp_path / name)
        values += [path.read_text() for path in folder.iterdir()]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "CLEARSPAN_SECRETS=./.secrets\n"),
        ("A=b", "A=b\nCLEARSPAN_SECRETS=./.secrets\n"),
        ("CLEARSPAN_SECRETS=/elsewhere\n", "CLEARSPAN_SECRETS=/elsewhere\n"),
    ],
)
def test_environment(tmp_path: Path, before: str | None, after: str) -> None:
    """Compose is told where they are, unless it knows."""
    if before is not None:
        (tmp_path / ".env").write_text(before)
    passwords.make(tmp_path)
    assert (tmp_path / ".env").read_text() == after


def test_command(tmp_path: Path) -> None:
    """The script says where they are, and shows none."""
    told = subprocess.run(
        [sys.executable, ROOT / "deploy/passwords.py", tmp_path], capture_output=True, text=True, check=True
    ).stdout
    assert str(tmp_path / ".secrets") in told
    assert not any(path.read_text() in told for path in (tmp_path / ".secrets").iterdir())


def test_not_committed() -> None:
    """Git does not see them."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/.secrets/", "/.env"} <= set(ignored)
