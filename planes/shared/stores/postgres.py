"""PostgreSQL: connections, and transactions that see one tenant."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import orjson
import structlog

from planes.shared.deadlines import seconds_left
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
    asyncpg.InvalidCachedStatementError,  # a newer version has migrated: prepared anew next time
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,  # a replica ends what hinders its recovery
    asyncpg.DiskFullError,
)
_SERVER_IS_GONE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)

SCHEMA_REVISION = "0019"  # the newest of planes/shared/stores/migrations
_NO_ANSWER = "The database does not answer. Try again in a moment."
_BUSY = "Too many requests are waiting for the database. Try again in a moment."
_STATE = """
SELECT version_num, to_regclass('public.unfinished_restore') IS NOT NULL FROM alembic_version
"""
_HALF_RESTORED = (
    "A restore into this database was begun and not finished. Run `polyplane restore` again with "
    "the same backup, or begin with an empty database."
)
_ACQUIRE_S = 5.0  # for a connection, while nobody else gets one either
_QUEUE_S = 30.0  # while others do
_STATEMENT_S = 30.0
_RELEASE_S = 1.0
_LEAST_S = 0.5  # to put things right after a task's deadline
_log = structlog.get_logger(__name__)


class SchemaMismatch(RuntimeError):
    """The database's schema is not the one that this code needs."""


class RestoreUnfinished(SchemaMismatch):
    """Somebody began to put a backup into the database, and has not finished."""

    def __init__(self) -> None:
        """Say what is to be done."""
        super().__init__(_HALF_RESTORED)


class Database:
    """A pool of connections to one PostgreSQL database; every wait has a deadline."""

    def __init__(
        self,
        url: str,
        *,
        service: str,
        max_connections: int = 10,
        max_waiting: int = 1000,
        deadline_s: float = 300.0,
    ) -> None:
        """Store where the database is; `open` connects.

        Args:
            url: `postgresql://user:password@host:port/database`; with `?pooler=transaction` it is
                that of a pooler which lends server connections for one transaction each, as
                PgBouncer does in that mode.
            service: Shown in `pg_stat_activity`.
            max_connections: Upper bound of the pool.
            max_waiting: How many may wait for a connection; more are refused at once.
            deadline_s: How long one use of a connection may take, the wait for it included; then
                the connection is cut. A server that lives ends a statement half a second before.
                Less where less is left of `task_within`.
        """
        self._url, self._is_pooled = _without_pooler(url)
        self._service = service
        self._max_connections = max_connections
        self._max_waiting = max_waiting
        self._deadline_s = deadline_s
        self._waiting = 0
        self._lent_at = float("-inf")
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
                timeout=_ACQUIRE_S,
                command_timeout=_STATEMENT_S,
                init=_prepare,
                reset=_leave,
                server_settings=self._server_settings(),
                **self._pooler_options(),
            )
        except _UNREACHABLE as error:
            raise Unavailable(_NO_ANSWER) from error

    def _server_settings(self) -> dict[str, str]:
        """Have the server end long statements, and free the locks of one of us that froze."""
        names = {"application_name": self._service, "timezone": "UTC"}
        return names if self._is_pooled else names | self._limits()

    def _limits(self) -> dict[str, str]:
        limit_ms = max(500, round(self._deadline_s * 1000) - 500)
        return {
            "statement_timeout": str(min(limit_ms, round(_STATEMENT_S * 1000))),
            "idle_in_transaction_session_timeout": str(limit_ms),
        }

    def _pooler_options(self) -> dict[str, Any]:
        """Leave nothing behind in a server connection that serves somebody else next.

        A pooler refuses other settings at the start of a session than it keeps by itself, and
        prepared statements are of a server connection that the next transaction does not get.
        """
        return {"statement_cache_size": 0} if self._is_pooled else {}

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
        beginning = self._beginning(tenant_id, user_id)
        async with self._connection() as connection:
            try:
                await connection.execute(beginning)
                yield connection
            except BaseException:
                with suppress(*_UNREACHABLE):  # what failed first is what the caller hears
                    await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")

    def _beginning(self, tenant_id: UUID | None, user_id: UUID | None) -> str:
        """Return the statements that open a transaction for somebody: one round trip for all.

        They take no arguments, so ids stand in them as text, and must be ids.
        """
        if not all(isinstance(each, UUID | None) for each in (tenant_id, user_id)):
            raise TypeError("a tenant and a user are known by their UUIDs")
        settings = {"app.tenant_id": str(tenant_id or ""), "app.user_id": str(user_id or "")}
        if self._is_pooled:  # as the session's settings do without a pooler
            settings |= self._limits()
        return ";".join(
            ["BEGIN", *(f"SET LOCAL {name} = '{setting}'" for name, setting in settings.items())]
        )

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[Connection]:
        """Open a connection that sees no tenant's rows: for platform tables and named functions."""
        async with self._connection() as connection:
            yield connection

    async def check_schema(self, revision: str) -> None:
        """Refuse to run on another schema, and on half a backup.

        Raises:
            SchemaMismatch: It names both revisions and the command that mends it.
            RestoreUnfinished: It names the command.
        """
        async with self.platform() as connection:
            found, is_half = await connection.fetchrow(_STATE)  # type: ignore[misc]
        if is_half:
            raise RestoreUnfinished
        if found != revision:
            raise SchemaMismatch(
                f"The database is at schema {found}, this version needs {revision}: "
                "run `polyplane migrate`."
            )

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """Lend a connection, and cut it at the deadline.

        Cutting fails the statement under way at once. A cancellation would wait for the server's
        consent, which a server that is stopped never gives.
        """
        pool = self._pool
        if pool is None:
            raise Unavailable("The database is not open.")
        loop = asyncio.get_running_loop()
        use_s = min(self._deadline_s, max(seconds_left(), _LEAST_S))
        deadline = loop.time() + use_s
        try:
            connection = await self._acquire(pool, use_s)
            cut = loop.call_at(deadline, _cut, connection)
            try:
                yield connection
            finally:
                cut.cancel()
                await _release(pool, connection)
        except AttributeError as error:
            if not _was_cut(error):
                raise
            raise Unavailable(_NO_ANSWER) from error
        except asyncpg.DataError:  # a subclass of InterfaceError, and our own mistake
            raise
        except _UNREACHABLE as error:
            raise Unavailable(_NO_ANSWER) from error

    async def _acquire(self, pool: "asyncpg.Pool[asyncpg.Record]", within_s: float) -> Connection:
        """Wait for a connection; a queue that moves is long, and no sign of a silent server.

        It is one wait, because who begins anew stands behind those who came later. The pool's own
        timeout would make a task of it.
        """
        if self._waiting >= self._max_waiting:
            raise Unavailable(_BUSY, retry_after_s=1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        end = began + min(within_s, _QUEUE_S)
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            due = min(end, max(began, self._lent_at) + _ACQUIRE_S)
            if loop.time() < due:
                timer = loop.call_at(due, look)
            else:
                limit.reschedule(loop.time())

        timer = loop.call_at(min(end, began + _ACQUIRE_S), look)
        self._waiting += 1
        try:
            async with asyncio.timeout(None) as limit:
                connection = await pool.acquire()
        except TimeoutError as error:
            if self._lent_at <= began:
                raise
            raise Unavailable(_BUSY, retry_after_s=1) from error
        finally:
            timer.cancel()
            self._waiting -= 1
        self._lent_at = loop.time()
        return connection


def was_rolled_back(error: BaseException) -> bool:
    """Tell whether a statement failed in such a way that it certainly has changed nothing.

    That is where a server that lives refused it, or it was not sent.
    """
    cause = error.__cause__ if isinstance(error, Unavailable) else error
    if isinstance(cause, asyncpg.DataError):
        return True
    return isinstance(cause, asyncpg.PostgresError) and not isinstance(cause, _SERVER_IS_GONE)


def _was_cut(error: AttributeError) -> bool:
    """Tell whether asyncpg asked for the protocol that a connection loses when it is cut."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return error.obj is None and raised_in.startswith("asyncpg.")


def _cut(connection: Connection) -> None:
    with suppress(asyncpg.InterfaceError):  # given back in this very moment
        connection.terminate()


async def _release(pool: "asyncpg.Pool[asyncpg.Record]", connection: Connection) -> None:
    """Give a connection back; where that fails it is closed, and what was committed stays so."""
    with suppress(*_UNREACHABLE):
        await pool.release(connection, timeout=_RELEASE_S)


async def enter_tenant(connection: Connection, tenant_id: UUID) -> None:
    """Show another tenant in a transaction of `Database.tenant`, for acts that touch several."""
    await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(tenant_id))


def _without_pooler(url: str) -> tuple[str, bool]:
    """Return the address as drivers know it, and whether a pooler by transactions is there.

    Raises:
        ValueError: It is a pooler of another kind.
    """
    split = urlsplit(url)
    options = parse_qsl(split.query)
    kinds = {value for name, value in options if name == "pooler"}
    if not kinds <= {"transaction"}:
        raise ValueError("the pooler of a database is `transaction`, or there is none")
    query = urlencode([option for option in options if option[0] != "pooler"])
    return urlunsplit(split._replace(query=query)), bool(kinds)


async def _leave(connection: Any) -> None:
    """Reset nothing: whatever a transaction has set ends with it.

    Nobody here sets anything for longer, holds session locks, listens, or leaves cursors open; the
    driver rolls a transaction back that was left. Asking the server to make sure would be a round
    trip for every use of a connection, as dear as most statements.
    """
    del connection


@contextmanager
def warnings_logged(connection: Connection) -> Iterator[None]:
    """Log as errors what functions of the database warn of meanwhile."""
    connection.add_log_listener(_log_warning)
    try:
        yield
    finally:
        with suppress(asyncpg.InterfaceError):  # the connection is lost, and its listeners
            connection.remove_log_listener(_log_warning)


def _log_warning(_: object, message: Any) -> None:
    if message.severity_en == "WARNING":
        _log.error("the database warns", reason=message.message)


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb", encoder=_encode_json, decoder=orjson.loads, schema="pg_catalog", format="text"
    )


def _encode_json(value: object) -> str:
    return orjson.dumps(value, default=_encode_id).decode()


def _encode_id(value: object) -> str:
    if isinstance(value, UUID):  # the driver's own kind, which orjson does not know
        return str(value)
    raise TypeError(f"no JSON: {type(value).__name__}")
