"""PostgreSQL: connections, and transactions that see one tenant."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import orjson

from planes.shared.errors import Unavailable

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

_UNREACHABLE = (
    ConnectionError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DeadlockDetectedError,
    asyncpg.DiskFullError,
)


SCHEMA_REVISION = "0002"  # the newest of planes/shared/stores/migrations
_NO_ANSWER = "The database does not answer. Try again in a moment."


class SchemaMismatch(RuntimeError):
    """The database's schema is not the one that this code needs."""


class Database:
    """A pool of connections to one PostgreSQL database; every wait has a deadline."""

    def __init__(self, url: str, *, service: str, max_connections: int = 10) -> None:
        """Store where the database is; `open` connects.

        Args:
            url: `postgresql://user:password@host:port/database`.
            service: Shown in `pg_stat_activity`.
            max_connections: Upper bound of the pool.
        """
        self._url = url
        self._service = service
        self._max_connections = max_connections
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Make the pool, with one connection.

        Raises:
            Unavailable: The database does not answer.
        """
        try:
            self._pool = await asyncpg.create_pool(
                self._url,
                min_size=1,
                max_size=self._max_connections,
                timeout=5,
                command_timeout=30,
                init=_prepare,
                server_settings={"application_name": self._service, "timezone": "UTC"},
            )
        except _UNREACHABLE as error:
            raise Unavailable(_NO_ANSWER) from error

    async def close(self) -> None:
        """Close every connection, waiting at most five seconds for those in use."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                async with asyncio.timeout(5):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    @asynccontextmanager
    async def tenant(
        self, tenant_id: UUID | None, user_id: UUID | None = None
    ) -> AsyncIterator[Connection]:
        """Open a transaction in which row-level security shows one tenant, or one user's own rows.

        Raises:
            Unavailable: The database does not answer; nothing was committed, or it is unknown
                whether the commit arrived.
        """
        async with self._connection() as connection, connection.transaction():
            await connection.execute(
                "SELECT set_config('app.tenant_id', $1, true), set_config('app.user_id', $2, true)",
                str(tenant_id or ""),
                str(user_id or ""),
            )
            yield connection

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[Connection]:
        """Open a connection that sees no tenant's rows: for platform tables and named functions."""
        async with self._connection() as connection:
            yield connection

    async def check_schema(self, revision: str) -> None:
        """Refuse to run on another schema.

        Raises:
            SchemaMismatch: It names both revisions and the command that mends it.
        """
        async with self.platform() as connection:
            found = await connection.fetchval("SELECT version_num FROM alembic_version")
        if found != revision:
            raise SchemaMismatch(
                f"The database is at schema {found}, this version needs {revision}: "
                "run `polyplane migrate`."
            )

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        if self._pool is None:
            raise Unavailable("The database is not open.")
        try:
            async with self._pool.acquire(timeout=5) as connection:
                yield connection
        except asyncpg.DataError:  # a subclass of InterfaceError, and our own mistake
            raise
        except _UNREACHABLE as error:
            raise Unavailable(_NO_ANSWER) from error


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb", encoder=_encode_json, decoder=orjson.loads, schema="pg_catalog", format="text"
    )


def _encode_json(value: object) -> str:
    return orjson.dumps(value).decode()
