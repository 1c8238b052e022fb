"""Servers that somebody else runs: a data centre's, a cloud's, those of `docker-compose.yml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from planes.shared.settings import SettingsWrong, SharedSettings
from services.embedded.home import Home
from services.embedded.parts import Part
from services.embedded.postgres import (
    DAGSTER_DATABASE,
    DAGSTER_ROLE,
    PLATFORM_DATABASE,
    SERVICE_ROLES,
)

_ROLES = (*SERVICE_ROLES, DAGSTER_ROLE)
_EXAMPLE = "postgresql://owner:password@host:5432/postgres"
_NOT_IN_QUERY = {"user", "password", "passfile", "service", "dbname"}
_NEEDED = {
    "DATABASE_OWNER_URL": f"as in {_EXAMPLE}",
    "REDIS_URL": "as in redis://user:password@host:6379/0",
    "S3_BUCKET or OBJECTS_DIR": "a bucket, or a folder, for the files",
}


class GivenServerSettings(SharedSettings):
    """Who owns the schema of a PostgreSQL server, and the passwords of the services' roles."""

    model_config = SettingsConfigDict(env_prefix="POLYPLANE_")

    owner_url: SecretStr | None = Field(None, validation_alias="DATABASE_OWNER_URL")
    pooler_url: SecretStr | None = None
    gateway_password: SecretStr | None = None
    serving_password: SecretStr | None = None
    data_password: SecretStr | None = None
    dagster_password: SecretStr | None = None

    @field_validator("owner_url", "pooler_url")
    @classmethod
    def _check_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in {"postgresql", "postgres"} or not parts.hostname:
            raise ValueError(f"this is the address of a PostgreSQL server, like {_EXAMPLE}")
        if wrong := _NOT_IN_QUERY & {name for name, _ in parse_qsl(parts.query, True)}:
            raise ValueError(  # services get the query too, and drivers let it win
                f"`{min(wrong)}` cannot stand after the question mark: user, password and database "
                f"stand before it, as in {_EXAMPLE}"
            )
        return SecretStr(urlunsplit(parts._replace(scheme="postgresql")))

    @field_validator("owner_url")
    @classmethod
    def _check_owner_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and "pooler=" in urlsplit(url.get_secret_value()).query:
            raise ValueError(
                "migrations need PostgreSQL itself; POLYPLANE_POOLER_URL is the pooler of services"
            )
        return url

    def password(self, role: str) -> str | None:
        """Return what a role logs in with, where it is given."""
        given: SecretStr | None = getattr(self, _password_field(role))
        return given.get_secret_value() if given else None


@dataclass(frozen=True, slots=True)
class GivenServers:
    """PostgreSQL by its owner's address; Redis and the other stores as the variables name them.

    Attributes:
        settings: With `owner_url`.
        secrets: Passwords of roles for which none is given, by the roles' names.
    """

    settings: GivenServerSettings
    secrets: Mapping[str, str]

    @classmethod
    def of(cls, environment: Mapping[str, str], secrets: Mapping[str, str]) -> Self:
        """Return the servers that the variables name.

        Raises:
            SettingsWrong: What must be named is not; one line each.
        """
        return cls(GivenServerSettings.of(environment), secrets)

    def prepare(self) -> None:
        """Do nothing: they are there."""

    def parts(self) -> list[Part]:
        """Return none: somebody else runs them."""
        return []

    def owner_url(self, database: str) -> str:
        """Return the address of a database for the owner of the schema.

        Args:
            database: `postgres` is that of the address, from which others are made.
        """
        url = urlsplit(self._owner_url)
        named = url.path.strip("/")
        path = named if database == "postgres" and named else database
        return urlunsplit(url._replace(path=f"/{path}"))

    def role_url(self, role: str) -> str:
        """Return the address of the database of a service role, or of Dagster's role.

        Services go through the pooler, if there is one; Dagster sets up its sessions, and does not.
        """
        pooler = self.settings.pooler_url
        if role == DAGSTER_ROLE or pooler is None:
            base = urlsplit(self._owner_url)
        else:
            base = urlsplit(pooler.get_secret_value())
        database = DAGSTER_DATABASE if role == DAGSTER_ROLE else PLATFORM_DATABASE
        login = f"{role}:{quote(self.passwords()[role], safe='')}"
        host = base.netloc.rpartition("@")[2]
        return urlunsplit(base._replace(netloc=f"{login}@{host}", path=f"/{database}"))

    def passwords(self) -> dict[str, str]:
        """Return the passwords of these roles by their names.

        Raises:
            SettingsWrong: One is neither given nor known.
        """
        found = {role: self.settings.password(role) or self.secrets.get(role) for role in _ROLES}
        missing = [
            f"POLYPLANE_{_password_field(role).upper()}" for role in _ROLES if not found[role]
        ]
        if missing:
            raise SettingsWrong(f"DATABASE_OWNER_URL needs {', '.join(missing)} too")
        return {role: password for role, password in found.items() if password}

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return an operator's variables, which say where Redis and the files are."""
        return dict(given)

    @property
    def _owner_url(self) -> str:
        if self.settings.owner_url is None:
            raise SettingsWrong(f"DATABASE_OWNER_URL: set it, like {_EXAMPLE}")
        return self.settings.owner_url.get_secret_value()


def require_given(environment: Mapping[str, str], home: Home) -> None:
    """Make sure that all is named that server mode cannot do without.

    Raises:
        SettingsWrong: One line for each variable that is missing, with an example.
    """
    named = {name.removesuffix("_FILE") for name, value in environment.items() if value}
    missing = [
        f"{name}: server mode needs it, {meaning}"
        for name, meaning in _NEEDED.items()
        if not set(name.split(" or ")) & named
    ]
    folder = environment.get("OBJECTS_DIR")
    if folder and "S3_BUCKET" not in named and Path(folder).absolute().is_relative_to(home.root):
        missing.append(f"OBJECTS_DIR: choose a folder outside of {home.root}, which reset deletes")
    if missing:
        raise SettingsWrong("\n".join(missing))


def _password_field(role: str) -> str:
    return f"{role.removeprefix('polyplane_')}_password"
