"""The services' environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import make_url

from observability import secret_files
from service.settings import EventSettings, OrdersSettings, ServiceSettings


def test_defaults() -> None:
    """Without a database URL a service has a SQLite file of its own; orders alone stands at the public edge."""
    settings = ServiceSettings(data_dir=Path("data"))
    assert settings.database("payments") == "sqlite+aiosqlite:///data/payments.db"
    assert (settings.inbound_context, OrdersSettings().inbound_context) == ("continue", "link")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DATABASE_URL", "canary", "not a database URL"),
        ("DATABASE_URL", "sqlite:///canary.db", "not asynchronous"),
        ("INVENTORY_URL", "canary", "valid URL"),
        ("SHIPPING_URL", "canary", "valid URL"),
        ("BROKER_URL", "amqp://canary", "not the URL of a broker"),
        ("BROKER_URL", "nats://here,http://canary", "not the URL of a broker"),
        ("CLEARSPAN_EVENTS_TOKEN", "canary\n", "not a token"),
        ("CLEARSPAN_EVENTS_TOKEN", "canäry", "not a token"),
        ("REDIS_URL", "canary", "valid URL"),
        ("REDIS_URL", "http://canary", "scheme"),
        ("REDIS_URL", "redis:///canary", "host"),
        ("CLEARSPAN_INBOUND_CONTEXT", "canary", "'link', 'continue' or 'ignore'"),
        ("CLEARSPAN_FAULTS", "canary", "valid boolean"),
        ("CLEARSPAN_FAULTS", "true", "behind the public edge"),
    ],
)
def test_bad_value(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    """A bad value is refused with the variable's name and never echoed, since it may hold a password."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError, match=message) as caught:
        OrdersSettings()
    assert variable in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("", None),
        ("redis://localhost", "redis://localhost"),
        ("rediss://user:p%40ss@host:1/2", "rediss://user:p%40ss@host:1/2"),
        ("valkey://localhost/0", "valkey://localhost/0"),
    ],
)
def test_redis(monkeypatch: pytest.MonkeyPatch, value: str, url: str | None) -> None:
    """Redis is named by its URL, which is left as it is; empty means that there is none."""
    monkeypatch.setenv("REDIS_URL", value)
    assert ServiceSettings().cache == url


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("postgres://user:p%40ss@host/shop", "postgresql+asyncpg://user:p%40ss@host/shop"),
        ("postgresql://host:1/shop?sslmode=require", "postgresql+asyncpg://host:1/shop?ssl=require"),
        ("postgresql+asyncpg://host/shop", "postgresql+asyncpg://host/shop"),
        ("sqlite+aiosqlite:///shop.db", "sqlite+aiosqlite:///shop.db"),
    ],
)
def test_database(monkeypatch: pytest.MonkeyPatch, value: str, url: str) -> None:
    """A database is named by SQLAlchemy's URL, or by the one of PostgreSQL that platforms hand out."""
    monkeypatch.setenv("DATABASE_URL", value)
    assert ServiceSettings().database("orders") == url


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL without its driver is refused with what to install."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.setenv("DATABASE_URL", "postgres://canary@host/shop")
    with pytest.raises(
        ValidationError, match=r"'asyncpg' is not installed; it comes with clearspan\[postgresql\]"
    ) as caught:
        ServiceSettings()
    assert "canary" not in str(caught.value)


def test_odd_folder() -> None:
    """A folder's name is a name, whatever characters it has."""
    url = ServiceSettings(data_dir=Path("/a?b=c#d%41 e")).database("orders")
    assert make_url(url).database == "/a?b=c#d%41 e/orders.db"


@pytest.mark.parametrize("url", ["sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:"])
def test_database_in_memory(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A database in memory is refused: its one connection cannot serve requests side by side."""
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ValidationError, match="name a file"):
        ServiceSettings()


@pytest.mark.parametrize("value", ["nats://user:pass@one:4222", "tls://one,tls://two"])
def test_broker(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A broker is named by its URL, or by several of a cluster; empty means that there is none."""
    assert OrdersSettings().broker_url is None
    monkeypatch.setenv("BROKER_URL", value)
    assert OrdersSettings().broker_url == value
    monkeypatch.setenv("BROKER_URL", "")
    assert OrdersSettings().broker_url is None


def test_events_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token of events is read, and not told by the text of the settings."""
    assert OrdersSettings().events_token is None
    monkeypatch.setenv("CLEARSPAN_EVENTS_TOKEN", "canary")
    assert OrdersSettings().events_token == "canary"
    assert "canary" not in repr(OrdersSettings())


def test_frozen() -> None:
    """Settings do not change."""
    settings = ServiceSettings()
    with pytest.raises(ValidationError):
        settings.data_dir = Path("elsewhere")  # type: ignore[misc]  # the mistake


def test_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service behind the public edge takes faults if its environment says so."""
    assert not ServiceSettings().faults
    monkeypatch.setenv("CLEARSPAN_FAULTS", "true")
    assert ServiceSettings().faults


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may hold a password is in no text that is made of the settings."""
    monkeypatch.setenv("REDIS_URL", "redis://user:canary@host/0")
    monkeypatch.setenv("BROKER_URL", "nats://user:canary@host")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:canary@host/shop")
    monkeypatch.setenv("CLEARSPAN_EVENTS_TOKEN", "canary")
    settings = EventSettings()
    assert settings.broker_url is not None
    assert "canary" not in repr(settings)


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of secrets in the place of the container's."""
    monkeypatch.setattr(secret_files, "SECRETS_DIR", tmp_path)
    return tmp_path


def test_secret_files(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable may stand in a file of its name; the environment, and what is passed, come first."""
    url = "postgresql+asyncpg://user:secret@host/shop"
    for name, text in {
        "DATABASE_URL": url,
        "REDIS_URL": "redis://user:secret@host",
        "BROKER_URL": "nats://user:secret@host",
        "CLEARSPAN_EVENTS_TOKEN": "secret",
    }.items():
        monkeypatch.delenv(name, raising=False)
        (secrets / name).write_text(f"{text}\n")
    settings = OrdersSettings()
    assert settings.database("orders") == url
    assert settings.cache == "redis://user:secret@host"
    assert settings.broker_url == "nats://user:secret@host"
    assert settings.events_token == "secret"
    monkeypatch.setenv("CLEARSPAN_EVENTS_TOKEN", "other")
    assert OrdersSettings().events_token == "other"
    assert OrdersSettings(events_token="passed").events_token == "passed"


def test_bad_secret(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad value in a file is refused like one of the environment: with the variable's name, and not echoed."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (secrets / "DATABASE_URL").write_text("canary")
    with pytest.raises(ValidationError, match="DATABASE_URL") as caught:
        ServiceSettings()
    assert "canary" not in str(caught.value)
