"""Secrets as files: a variable that the environment does not have may stand in a file of its name.

Compose and Kubernetes mount secrets so. What is in the environment is seen by whoever inspects the container, and
inherited by every child.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

SECRETS_DIR = Path("/run/secrets")


class SecretError(Exception):
    """A secret's file is there and cannot be read; the message names the file, and tells nothing of what is in it."""


def variable(name: str) -> str | None:
    """A variable of the environment, else of its file, or None.

    Raises:
        SecretError: The file cannot be read.
    """
    value = os.environ.get(name)
    return read_secret(name) if value is None else value


def read_secret(name: str) -> str | None:
    """What a variable's file says, without the line end after it, or None if there is no such file.

    Raises:
        SecretError: The file cannot be read.
    """
    path = SECRETS_DIR / name
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SecretError(f"the secret {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:  # which holds the secret
        raise SecretError(f"the secret {path} cannot be read: it is not UTF-8") from None


class SecretFiles(PydanticBaseSettingsSource):
    """The files as a source of settings whose fields have their variables as validation aliases.

    pydantic-settings' own source leaves a variable out, with no more than a warning, if its file cannot be used: the
    folder, say, that Docker makes in the place of a file to be mounted that is missing.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = field.validation_alias if isinstance(field.validation_alias, str) else field_name
        return read_secret(name), name, False

    def __call__(self) -> dict[str, Any]:
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {name: value for value, name, _ in found if value is not None}
