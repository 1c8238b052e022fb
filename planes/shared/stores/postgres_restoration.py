"""The tables of a backup, put into an empty database."""

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import BinaryIO
from uuid import UUID

import asyncpg

from planes.shared.errors import Conflict, Unavailable
from planes.shared.stores.postgres import Connection, Database
from planes.shared.stores.postgres_snapshot import COPY_S, LedgerTotal, ledger_totals

_BEGUN = "SELECT to_regclass('public.unfinished_restore') IS NOT NULL"
_BEGIN = """
CREATE TABLE IF NOT EXISTS unfinished_restore (backup uuid NOT NULL);
ALTER TABLE unfinished_restore ADD COLUMN IF NOT EXISTS loaded boolean NOT NULL DEFAULT false;
"""
_NOTE = """
INSERT INTO unfinished_restore (backup)
SELECT $1 WHERE NOT EXISTS (SELECT FROM unfinished_restore)
"""
_IS_EMPTY = """
SELECT NOT EXISTS (SELECT FROM tenants) AND NOT EXISTS (SELECT FROM users)
   AND NOT EXISTS (SELECT FROM chat_messages)
"""
_CONNECTED = """
SELECT usename::text FROM pg_stat_activity
WHERE datname = current_database() AND usename = ANY ($1) LIMIT 1
"""
_REFERENCES = """
SELECT conrelid::regclass::text AS table_name, confrelid::regclass::text AS needs
FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace
"""
_CONNECT_S = 10.0
_FAR = 1_000_000  # versions of a corpus that no cache of before can have seen
_AFTERWARDS = f"""
UPDATE generations SET state = 'dropped', build_wanted = false WHERE state <> 'live';
DELETE FROM version_terms WHERE generation <> (SELECT number FROM generations WHERE state = 'live');
DELETE FROM term_frequencies
WHERE generation <> (SELECT number FROM generations WHERE state = 'live');
DELETE FROM corpus_languages
WHERE generation <> (SELECT number FROM generations WHERE state = 'live');
UPDATE tenants SET corpus_version = corpus_version + {_FAR};
UPDATE sessions SET ended_at = now(), end_reason = 'restored' WHERE ended_at IS NULL;
"""  # noqa: S608 (constants)
_PLACE = """
UPDATE generations SET store = $1, copy_of = NULL, verified = NULL WHERE state = 'live'
"""
_PLACE_LOG = """
UPDATE chat_log_place SET live = $1, also = NULL, copied_to = NULL, verified = NULL
"""
_SERVICES = ["polyplane_gateway", "polyplane_serving", "polyplane_data"]


async def is_migrated(url: str) -> bool:
    """Return whether there is a database with the platform's tables.

    Args:
        url: Of that database, for its owner.

    Raises:
        Unavailable: The server does not answer, or does not let the owner in.
    """
    try:
        connection = await asyncpg.connect(url, timeout=_CONNECT_S, command_timeout=_CONNECT_S)
    except asyncpg.InvalidCatalogNameError:
        return False
    except (asyncpg.PostgresError, asyncpg.InternalClientError, OSError) as error:
        raise Unavailable(f"The database does not answer: {error or 'too late'}") from error
    try:
        return bool(await connection.fetchval("SELECT to_regclass('public.tenants') IS NOT NULL"))
    finally:
        connection.terminate()


async def is_repetition(database: Database, backup: UUID) -> bool:
    """Return whether a restore of a backup was begun in a migrated database and not finished.

    Raises:
        Conflict: One of another backup was, the database is in use, or it is not empty.
        Unavailable: The database does not answer.
    """
    async with database.platform() as connection:
        if user := await connection.fetchval(_CONNECTED, _SERVICES):
            raise Conflict(f"{user} is connected to the database: stop the platform first.")
        if not await connection.fetchval(_BEGUN):
            if not await connection.fetchval(_IS_EMPTY):
                raise Conflict("The database is not empty: a restore wants empty stores.")
            return False
        other = await connection.fetchval(
            "SELECT backup FROM unfinished_restore WHERE backup <> $1", backup
        )
    if other is not None:
        raise Conflict(
            f"The restore of backup {other} was begun here and not finished: repeat that one, "
            "or begin with empty stores."
        )
    return True


class Restoration:
    """One restore into a database; services refuse to start on it until `finish`.

    Every method raises `Unavailable` where the database does not answer.
    """

    def __init__(
        self, database: Database, backup: UUID, *, chunk_store: str, chat_log: str
    ) -> None:
        """Store where what goes.

        Args:
            database: As the owner of its schema.
            backup: Which one comes.
            chunk_store: The store that gets its chunks: postgres, mongo or qdrant.
            chat_log: The log that gets its messages: postgres or cql.
        """
        self._database = database
        self._backup = backup
        self._chunk_store = chunk_store
        self._chat_log = chat_log

    async def is_repetition(self) -> bool:
        """Return whether a restore of this backup was begun here before and not finished.

        Raises:
            Conflict: One of another backup was, the database is in use, or it is not empty.
        """
        return await is_repetition(self._database, self._backup)

    async def revision(self) -> str:
        """Return the schema's revision."""
        async with self._database.platform() as connection:
            return str(await connection.fetchval("SELECT version_num FROM alembic_version"))

    async def begin(self) -> None:
        """Close the database to services; to repeat it changes nothing."""
        async with self._database.platform() as connection, connection.transaction():
            await connection.execute(_BEGIN)
            await connection.execute(_NOTE, self._backup)

    async def is_loaded(self) -> bool:
        """Return whether the tables hold the backup's rows already."""
        async with self._database.platform() as connection:
            return bool(await connection.fetchval("SELECT loaded FROM unfinished_restore"))

    async def load(
        self, tables: Mapping[str, tuple[Sequence[str], BinaryIO]], sequences: Mapping[str, int]
    ) -> dict[str, int]:
        """Make rows the whole content of the tables, in one transaction; return their numbers.

        What does not come along is put right: other generations than the live one are dropped,
        sessions end, and caches of before are not found any more.

        Args:
            tables: By name their columns, and their rows as `COPY` writes them.
            sequences: Their last values.
        """
        rows: dict[str, int] = {}
        async with self._database.platform() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = '{COPY_S:.0f}s'")
            names = [f'public."{table}"' for table in tables]
            for name in names:  # what they note stands in the backup already
                await connection.execute(f"ALTER TABLE {name} DISABLE TRIGGER USER")
            await connection.execute(f"TRUNCATE {', '.join(names)}")
            for table in await _in_order(connection, tables):
                columns, source = tables[table]
                done = await connection.copy_to_table(
                    table, schema_name="public", columns=columns, source=source, timeout=COPY_S
                )
                rows[table] = int(done.split()[-1])
            await connection.execute(_AFTERWARDS, timeout=COPY_S)
            for sequence, value in sequences.items():
                await connection.execute("SELECT setval($1::text::regclass, $2)", sequence, value)
            for name in names:
                await connection.execute(f"ALTER TABLE {name} ENABLE TRIGGER USER")
            await connection.execute("UPDATE unfinished_restore SET loaded = true")
        return rows

    async def place(self) -> None:
        """Note which stores get chunks and messages; in this version's schema, and repeatable."""
        async with self._database.platform() as connection, connection.transaction():
            await connection.execute(_PLACE, self._chunk_store)
            await connection.execute(_PLACE_LOG, self._chat_log)

    async def ledger(self) -> dict[UUID, LedgerTotal]:
        """Return the totals of the ledger by tenant, as they are now."""
        async with self._database.platform() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL statement_timeout = '{COPY_S:.0f}s'")
            return await ledger_totals(connection)

    async def finish(self) -> None:
        """Open the database to services."""
        async with self._database.platform() as connection:
            await connection.execute("DROP TABLE unfinished_restore")


async def _in_order(connection: Connection, tables: Mapping[str, object]) -> list[str]:
    """Return tables so that each comes after those that it refers to."""
    needs: dict[str, set[str]] = {table: set() for table in tables}
    for row in await connection.fetch(_REFERENCES):
        table, needed = row["table_name"], row["needs"]
        if table in needs and needed in needs and table != needed:
            needs[table].add(needed)
    return list(TopologicalSorter(needs).static_order())
