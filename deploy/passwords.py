"""The passwords of compose.yaml, a file each in `.secrets/`; the variable CLEARSPAN_SECRETS of `.env` says where.

    python3 deploy/passwords.py [FOLDER]

What is there stays as it is: the databases know their passwords from the day they were made.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from pathlib import Path
from urllib.parse import urlsplit

SERVICES = ("orders", "inventory", "payments", "shipping")
PASSWORDS = (
    "postgresql-password",
    "grafana-password",
    "elastic-password",
    "kibana-password",
    "kibana-encryption-key",
    "logstash-password",
)
CACHES = {
    # The commands of observability/resilience/shared.py, and of observability/cache/redis.py with those of its scripts.
    "orders": "~clearspan:breaker:* +get +set +pttl",
    "inventory": "~clearspan:1:* +eval +hmget +hget +hset +pexpire +pttl +del",
}
BROKERS = ("orders", "shipping")


def make(root: Path) -> Path:
    """Make the secrets that are not there yet.

    Args:
        root: Folder of compose.yaml.

    Returns:
        The folder of the secrets. Nobody else on the machine can enter it. In it anybody may read, since a secret of
        Compose is the file itself, and each container reads it as a user of its own.
    """
    folder = root / ".secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)

    for name in PASSWORDS:
        _once(folder / name, _password())
    for service in SERVICES:
        url = f"postgresql://{service}:{_password()}@postgresql:5432/{service}"
        _once(folder / f"{service}-database-url", url)
    cache_users = ["user default reset on nopass +ping"]
    for service, rights in CACHES.items():
        url = _once(folder / f"{service}-redis-url", f"valkey://{service}:{_password()}@valkey:6379/0")
        digest = hashlib.sha256(_password_of(url).encode()).hexdigest()
        cache_users.append(f"user {service} reset on #{digest} +@connection -@dangerous {rights}")
    _write(folder / "valkey-users", "\n".join(cache_users) + "\n")
    broker_users = []
    for service in BROKERS:
        url = _once(folder / f"{service}-broker-url", f"nats://{service}:{_password()}@nats:4222")
        broker_users.append(f'{service.upper()}_PASSWORD: "{_password_of(url)}"\n')
    _write(folder / "nats-users", "".join(broker_users))

    environment = root / ".env"
    known = environment.read_text() if environment.exists() else ""
    if not any(line.startswith("CLEARSPAN_SECRETS=") for line in known.splitlines()):
        separator = "" if known.endswith("\n") or not known else "\n"
        environment.write_text(f"{known}{separator}CLEARSPAN_SECRETS=./{folder.name}\n")
    return folder


def _password() -> str:
    """No part of it means anything in a URL, an option, or a line of configuration."""
    return secrets.token_hex(24)


def _password_of(url: str) -> str:
    password = urlsplit(url).password
    if password is None:
        raise SystemExit("a URL in .secrets has no password; delete its file to have a new one")
    return password


def _once(path: Path, text: str) -> str:
    if not path.exists():
        _write(path, text)
    return path.read_text()


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(0o444)


if __name__ == "__main__":
    made = make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
    print(f"the secrets are in {made}; grafana-password and elastic-password are those of the users admin and elastic")
