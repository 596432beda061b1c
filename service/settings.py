"""Every environment variable of the services, or file of its name, validated once and frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AnyHttpUrl, AnyUrl, Field, UrlConstraints, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from observability.database import database_url, usable_url
from observability.inbound import InboundContext
from observability.secret_files import SecretFiles

HttpUrl = Annotated[AnyHttpUrl, UrlConstraints(max_length=2048)]
RedisUrl = Annotated[
    AnyUrl,
    UrlConstraints(max_length=2048, allowed_schemes=["redis", "rediss", "valkey", "valkeys"], host_required=True),
]


class ServiceSettings(BaseSettings):
    """What every service is told by its environment."""

    # A URL may hold a password, so an error names the variable and not its value.
    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True)

    data_dir: Path = Field(default=Path(".clearspan"), validation_alias="CLEARSPAN_DATA_DIR")
    """Where SQLite files live while no database is named."""

    database_url: str | None = Field(default=None, repr=False, validation_alias="DATABASE_URL")
    """PostgreSQL's URL, or SQLAlchemy's with an asyncio driver; by default a SQLite file of the service's own."""

    redis_url: RedisUrl | None = Field(default=None, repr=False, validation_alias="REDIS_URL")
    """Redis or Valkey, which the replicas of a service share as a cache; by default each has its own memory."""

    inbound_context: InboundContext = Field(default="continue", validation_alias="CLEARSPAN_INBOUND_CONTEXT")
    """Whether a caller's trace is continued, linked to, or ignored."""

    faults: bool = Field(default=False, validation_alias="CLEARSPAN_FAULTS")
    """Whether faults may be asked for at `/faults`; for drills, and never at the public edge."""

    @field_validator("redis_url", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("faults")
    @classmethod
    def _behind_the_edge(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("inbound_context") != "continue":
            raise ValueError("faults are for the services behind the public edge, and this one stands at it")
        return value

    @field_validator("database_url")
    @classmethod
    def _usable(cls, value: str | None) -> str | None:
        return usable_url(value) if value else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where values come from; the first that has one wins."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    @property
    def cache(self) -> str | None:
        """The URL of the shared cache, if there is one."""
        return str(self.redis_url) if self.redis_url is not None else None

    def database(self, service_name: str) -> str:
        """The SQLAlchemy URL of a service's database."""
        return database_url(service_name, self.data_dir, self.database_url)


class EventSettings(ServiceSettings):
    """A service that tells events, and takes some."""

    orders_url: HttpUrl = Field(default=AnyHttpUrl("http://127.0.0.1:8000"), validation_alias="ORDERS_URL")
    shipping_url: HttpUrl = Field(default=AnyHttpUrl("http://127.0.0.1:8003"), validation_alias="SHIPPING_URL")
    broker_url: str | None = Field(default=None, repr=False, validation_alias="BROKER_URL")
    """NATS (`nats://` or `tls://`; several, separated by commas, for a cluster); by default events go over HTTP."""

    events_token: str | None = Field(default=None, repr=False, validation_alias="CLEARSPAN_EVENTS_TOKEN")
    """What proves to a service that an event is from one of its own; without it none takes any over HTTP."""

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str | None) -> str | None:
        if value and not all(one.startswith(("nats://", "tls://")) for one in value.split(",")):
            raise ValueError("not the URL of a broker; write one like nats://localhost:4222")
        return value or None

    @field_validator("events_token")
    @classmethod
    def _fits_a_header(cls, value: str | None) -> str | None:
        if value and (not value.isascii() or not value.isprintable() or " " in value):
            raise ValueError("not a token; use letters, digits and punctuation, without spaces or line ends")
        return value or None


class OrdersSettings(EventSettings):
    """The orders service stands at the public edge and calls the others."""

    inbound_context: InboundContext = Field(default="link", validation_alias="CLEARSPAN_INBOUND_CONTEXT")
    inventory_url: HttpUrl = Field(default=AnyHttpUrl("http://127.0.0.1:8001"), validation_alias="INVENTORY_URL")
    payments_url: HttpUrl = Field(default=AnyHttpUrl("http://127.0.0.1:8002"), validation_alias="PAYMENTS_URL")
    external_service_url: HttpUrl | None = Field(default=None, validation_alias="EXTERNAL_SERVICE_URL")
    """What `/call_external_service/` fetches; by default the root of inventory."""
