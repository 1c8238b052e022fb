"""The servers of embedded mode, which the platform brings and runs itself."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from services.embedded.accounts import unprivileged_account
from services.embedded.home import Home
from services.embedded.parts import Part
from services.embedded.postgres import (
    DAGSTER_DATABASE,
    DAGSTER_ROLE,
    PLATFORM_DATABASE,
    SERVICE_ROLES,
    Postgres,
)
from services.embedded.processes import INSTANCE_VARIABLE, PART_VARIABLE
from services.embedded.redis import Redis

_NOT_ASKED = ("REDIS_URL", "REDIS_USERNAME", "REDIS_PASSWORD", "DATABASE_", "OBJECTS_DIR")
_OF_PLANES = ("SERVING_REDIS_URL", "DATA_REDIS_URL")


@dataclass(frozen=True, slots=True)
class OwnServers:
    """PostgreSQL and Redis on loopback, and a folder for files, all in the home."""

    home: Home
    ports: Mapping[str, int]
    secrets: Mapping[str, str]

    @property
    def postgres(self) -> Postgres:
        """The database server."""
        return Postgres(
            self.home.postgres,
            port=self.ports["postgres"],
            owner_password=self.secrets["polyplane_owner"],
        )

    @property
    def redis(self) -> Redis:
        """The Redis server."""
        return Redis(
            self.home.redis,
            port=self.ports["redis"],
            password=self.secrets["redis"],
            serving_password=self.secrets["redis_serving"],
            data_password=self.secrets["redis_data"],
        )

    def prepare(self) -> None:
        """Write the servers' data folders and configurations. Repeatable."""
        self.home.link_postgres()
        self.postgres.prepare()
        self.redis.prepare()

    def parts(self) -> list[Part]:
        """Return both servers."""
        postgres, redis = self.postgres, self.redis
        return [
            Part(
                name="postgres",
                command=postgres.command(),
                environment={**postgres.environment(), **self._marks("postgres")},
                folder=postgres.folder,
                is_ready=postgres.is_ready,
                account=unprivileged_account(),
                stop_signal=signal.SIGINT,
                stop_s=30,
                stop_order=3,
            ),
            Part(
                name="redis",
                command=redis.command(),
                environment={**redis.environment(), **self._marks("redis")},
                folder=redis.folder,
                is_ready=redis.is_ready,
                stop_order=3,
            ),
        ]

    def owner_url(self, database: str) -> str:
        """Return the address of a database for the owner of the schema."""
        return self.postgres.url(database)

    def role_url(self, role: str) -> str:
        """Return the address of the database of a service role, or of Dagster's role."""
        database = DAGSTER_DATABASE if role == DAGSTER_ROLE else PLATFORM_DATABASE
        return self.postgres.url(database, role=role, password=self.secrets[role])

    def passwords(self) -> dict[str, str]:
        """Return the passwords of these roles by their names."""
        return {role: self.secrets[role] for role in (*SERVICE_ROLES, DAGSTER_ROLE)}

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return an operator's variables such that they say where Redis and the files are.

        Another Redis may be given to the planes for their caches.
        """
        redis = self.redis
        own = {"SERVING_REDIS_URL": redis.serving_url(), "DATA_REDIS_URL": redis.data_url()}
        asked = {name: value for name, value in given.items() if not name.startswith(_NOT_ASKED)}
        elsewhere = {name for name in _OF_PLANES if name in asked or f"{name}_FILE" in asked}
        own = {name: value for name, value in own.items() if name not in elsewhere}
        return {**asked, **own, "REDIS_URL": redis.url(), "OBJECTS_DIR": str(self.home.objects)}

    def _marks(self, part: str) -> dict[str, str]:
        return {INSTANCE_VARIABLE: self.home.instance, PART_VARIABLE: part}
