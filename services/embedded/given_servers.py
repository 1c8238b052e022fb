"""The schema on servers that somebody else runs, such as those of `docker-compose.yml`."""

from typing import Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from planes.shared.settings import SharedSettings
from services.embedded.postgres import DAGSTER_ROLE, SERVICE_ROLES
from services.embedded.schema import bootstrap

_ROLES = (*SERVICE_ROLES, DAGSTER_ROLE)


class GivenServers(SharedSettings):
    """Who owns the schema of a PostgreSQL server, and the passwords of the services' roles."""

    model_config = SettingsConfigDict(env_prefix="POLYPLANE_")

    owner_url: SecretStr | None = Field(None, validation_alias="DATABASE_OWNER_URL")
    gateway_password: SecretStr | None = None
    serving_password: SecretStr | None = None
    data_password: SecretStr | None = None
    dagster_password: SecretStr | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        missing = [role.upper() for role in _ROLES if self._password(role) is None]
        if self.owner_url is not None and missing:
            names = ", ".join(f"{name}_PASSWORD" for name in missing)
            raise ValueError(f"DATABASE_OWNER_URL needs {names} too")
        return self

    def url(self, database: str) -> str:
        """Return the address of a database for the owner."""
        assert self.owner_url is not None  # noqa: S101 (asked for only where it is set)
        parts = urlsplit(self.owner_url.get_secret_value())
        return urlunsplit(parts._replace(path=f"/{database}"))

    def passwords(self) -> dict[str, str]:
        """Return the passwords by role."""
        given = {role: self._password(role) for role in _ROLES}
        return {role: secret.get_secret_value() for role, secret in given.items() if secret}

    def _password(self, role: str) -> SecretStr | None:
        password: SecretStr | None = getattr(self, f"{role.removeprefix('polyplane_')}_password")
        return password


def migrate(servers: GivenServers) -> None:
    """Make databases and roles, and bring the schema to this version. Repeatable."""
    bootstrap(servers.url, servers.passwords())
