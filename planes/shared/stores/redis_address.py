"""Where Redis is and who asks: what a URL and the settings beside it say."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, SecretStr, field_validator

from planes.shared.settings import AbsolutePath, SharedSettings

_PORT, _SENTINEL_PORT = 6379, 26379


class RedisSettings(SharedSettings):
    """Where Redis is and who asks; a deployable's own prefix stands before the first three."""

    redis_url: SecretStr | None = None
    redis_username: str | None = None
    redis_password: SecretStr | None = None
    redis_ca: AbsolutePath | None = Field(None, validation_alias="REDIS_CA")
    redis_sentinel_username: str | None = Field(None, validation_alias="REDIS_SENTINEL_USERNAME")
    redis_sentinel_password: SecretStr | None = Field(
        None, validation_alias="REDIS_SENTINEL_PASSWORD"
    )

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            RedisAddress.parse(url.get_secret_value())
        return url

    @property
    def redis_login(self) -> "RedisLogin":
        """What the address does not say."""
        password, of_sentinels = self.redis_password, self.redis_sentinel_password
        return RedisLogin(
            self.redis_username,
            password.get_secret_value() if password else None,
            self.redis_ca,
            self.redis_sentinel_username,
            of_sentinels.get_secret_value() if of_sentinels else None,
        )


class RedisKind(Enum):
    """How Redis is laid out."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES = {
    "redis": (RedisKind.SINGLE, False),
    "rediss": (RedisKind.SINGLE, True),
    "redis+sentinel": (RedisKind.SENTINEL, False),
    "rediss+sentinel": (RedisKind.SENTINEL, True),
    "redis+cluster": (RedisKind.CLUSTER, False),
    "rediss+cluster": (RedisKind.CLUSTER, True),
}


@dataclass(frozen=True, slots=True)
class RedisLogin:
    """Who asks, where the URL does not say it; `ca` holds the certificates that are trusted."""

    username: str | None = None
    password: str | None = None
    ca: Path | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One server, the sentinels of a service, or some nodes of a cluster."""

    kind: RedisKind
    is_encrypted: bool
    nodes: tuple[tuple[str, int], ...]
    service: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an address; `rediss` in place of `redis` means TLS.

        - `redis://user:password@host:port/database`
        - `redis+sentinel://user:password@host:port,host:port/service/database`: the hosts are
          sentinels, the user is that of the servers behind them.
        - `redis+cluster://user:password@host:port,host:port`: any of its nodes.

        User and password are percent-encoded, and may be left out, as ports and database may.

        Raises:
            ValueError: It is none of these; the message does not hold it.
        """
        split = urlsplit(url)
        if split.scheme not in _SCHEMES:
            raise ValueError(f"the address of Redis begins with one of {', '.join(_SCHEMES)}, ://")
        kind, is_encrypted = _SCHEMES[split.scheme]
        if split.query or split.fragment:
            raise ValueError("the address of Redis ends with its database; options are settings")
        login, _, hosts = split.netloc.rpartition("@")
        username, _, password = login.partition(":")
        nodes = tuple(
            _node(each, _SENTINEL_PORT if kind is RedisKind.SENTINEL else _PORT)
            for each in hosts.split(",")
        )
        if kind is RedisKind.SINGLE and len(nodes) > 1:
            raise ValueError("redis:// names one server; redis+cluster:// those of a cluster")
        service, database = _path(split, kind)
        return cls(
            kind,
            is_encrypted,
            nodes,
            service,
            database,
            unquote(username) or None,
            unquote(password) or None,
        )

    def options(self, login: RedisLogin) -> dict[str, Any]:
        """Return what each connection to a server of data needs; the URL's login goes first."""
        options: dict[str, Any] = {
            "db": self.database,
            "username": self.username or login.username,
            "password": self.password or login.password,
        }
        return options | self._encryption(login)

    def sentinel_options(self, login: RedisLogin) -> dict[str, Any]:
        """Return what each connection to a sentinel needs."""
        options = {"username": login.sentinel_username, "password": login.sentinel_password}
        return options | self._encryption(login)

    def _encryption(self, login: RedisLogin) -> dict[str, Any]:
        if not self.is_encrypted:
            return {}
        return {"ssl": True, "ssl_ca_certs": str(login.ca) if login.ca else None}


def _node(text: str, default_port: int) -> tuple[str, int]:
    try:
        split = urlsplit(f"//{text}")
        host, port = split.hostname, split.port
    except ValueError:
        host = port = None
    if not host:
        raise ValueError("the address of Redis names hosts: host:port, with commas between them")
    return host, port or default_port


def _path(split: SplitResult, kind: RedisKind) -> tuple[str, int]:
    """Return the service of the sentinels, else "", and the number of the database."""
    service, database = "", unquote(split.path).strip("/")
    if kind is RedisKind.SENTINEL:
        service, _, database = database.partition("/")
        if not service:
            raise ValueError("redis+sentinel:// ends with the service's name: …:26379/mymaster")
    number = int(database) if database.isdecimal() else 0
    if database and not database.isdecimal():
        raise ValueError("a database of Redis is a number")
    if kind is RedisKind.CLUSTER and number:
        raise ValueError("a cluster of Redis has database 0 alone")
    return service, number
