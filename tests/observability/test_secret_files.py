"""Variables from files."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings

from observability import secret_files
from observability.secret_files import SecretError, SecretFiles, read_secret, variable


class _Settings(BaseSettings):
    token: str = Field(default="none", validation_alias="TOKEN")


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of secrets in the place of the container's."""
    monkeypatch.setattr(secret_files, "SECRETS_DIR", tmp_path)
    monkeypatch.delenv("TOKEN", raising=False)
    return tmp_path


@pytest.mark.parametrize("text", ["canary", "canary\n", "canary\r\n"])
def test_file(secrets: Path, text: str) -> None:
    """A variable is what the file of its name says, less the line end that editors and `echo` leave."""
    (secrets / "TOKEN").write_text(text)
    assert variable("TOKEN") == "canary"


@pytest.mark.parametrize("value", ["other", ""])
def test_environment_wins(secrets: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The environment has the last word, also to say that there is none."""
    (secrets / "TOKEN").write_text("canary")
    monkeypatch.setenv("TOKEN", value)
    assert variable("TOKEN") == value


def test_no_file(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such file, no such folder, and something else in the folder's place are all no secret."""
    assert read_secret("TOKEN") is None
    monkeypatch.setattr(secret_files, "SECRETS_DIR", secrets / "missing")
    assert read_secret("TOKEN") is None
    (secrets / "missing").write_text("")
    assert read_secret("TOKEN") is None


def test_link(secrets: Path) -> None:
    """A file may be a link to a link, as Kubernetes makes them to change all at once."""
    (secrets / "..2026").mkdir()
    (secrets / "..2026" / "TOKEN").write_text("canary")
    (secrets / "..data").symlink_to("..2026")
    (secrets / "TOKEN").symlink_to("..data/TOKEN")
    assert read_secret("TOKEN") == "canary"


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _binary(path: Path) -> None:
    path.write_bytes(b"canary\xff")


@pytest.mark.parametrize(
    ("make", "reason"),
    [(_folder, "Is a directory"), (_loop, "Too many levels of symbolic links"), (_binary, "it is not UTF-8")],
)
def test_unreadable(secrets: Path, make: Callable[[Path], None], reason: str) -> None:
    """A file that cannot be read is an error that names it, and nowhere shows what is in it."""
    make(secrets / "TOKEN")
    with pytest.raises(SecretError) as caught:
        read_secret("TOKEN")
    assert str(caught.value) == f"the secret {secrets / 'TOKEN'} cannot be read: {reason}"
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is None


def test_settings(secrets: Path) -> None:
    """Settings find the files of their fields' variables, and fields without a file keep their default."""
    assert SecretFiles(_Settings)() == {}
    (secrets / "TOKEN").write_text("canary\n")
    (secrets / "OTHER").write_text("unasked")
    assert SecretFiles(_Settings)() == {"TOKEN": "canary"}
