"""One moment of the database, read table by table."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import BinaryIO
from uuid import UUID

from planes.shared.domain import IndexRecipe
from planes.shared.stores.postgres import Connection, Database

COPY_S = 3600.0
"""The longest that one table may take."""

_NOT_DUMPED = (
    "alembic_version", "chat_log_place", "chat_messages", "removal_holds", "unfinished_restore",
)  # fmt: skip
_COLUMNS = """
SELECT c.relname AS table_name, array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  AND c.relname <> ALL ($1::text[]) AND c.relname !~ '^(chunks|vectors)_g[0-9]+$'
GROUP BY 1 ORDER BY 1
"""
_SEQUENCES = """
SELECT sequencename, last_value FROM pg_sequences
WHERE schemaname = 'public' AND last_value IS NOT NULL
"""
_LEDGER = "SELECT tenant_id, count(*) AS rows, sum(cost_usd) AS usd FROM ledger GROUP BY 1"
_LIVE = "SELECT number, embedder, chunker, dimension FROM generations WHERE state = 'live'"
_VERSIONS = """
SELECT row_to_json(x) FROM (
    SELECT v.tenant_id, v.document_id, v.id AS version_id, v.status,
           v.visibility = 'live' AS is_live, encode(v.sha256, 'hex') AS sha256,
           CASE WHEN v.visibility = 'live' THEN coalesce(w.chunks, v.chunk_count) END AS chunks
    FROM document_versions v JOIN documents d ON d.id = v.document_id
    JOIN tenants t ON t.id = v.tenant_id
    LEFT JOIN version_terms w ON w.version_id = v.id AND w.counted
        AND w.generation = (SELECT g.number FROM generations g WHERE g.state = 'live')
    WHERE d.deleted_at IS NULL AND t.deleted_at IS NULL
    ORDER BY v.tenant_id, v.document_id, v.id) x
"""
_CONVERSATIONS = """
SELECT row_to_json(x) FROM (
    SELECT c.tenant_id, c.id AS conversation_id, c.created_at, c.message_count,
           (SELECT coalesce(json_object_agg(a.message_id, a.seq), '{}') FROM answers a
            WHERE a.conversation_id = c.id) AS answers,
           (SELECT coalesce(json_object_agg(o.id, o.seq), '{}') FROM outbox o
            WHERE o.conversation_id = c.id) AS waiting
    FROM conversations c JOIN tenants t ON t.id = c.tenant_id
    WHERE c.deleted_at IS NULL AND t.deleted_at IS NULL
    ORDER BY c.tenant_id, c.id) x
"""


@dataclass(frozen=True, slots=True)
class LiveGeneration:
    """The searched generation of the index."""

    number: int
    recipe: IndexRecipe
    dimension: int


@dataclass(frozen=True, slots=True)
class LedgerTotal:
    """A tenant's rows in the ledger, and their sum in USD."""

    rows: int
    usd: Decimal


class Snapshot:
    """The database as it was when the snapshot began, whatever is written meanwhile."""

    def __init__(self, connection: Connection) -> None:
        """Store the connection, in a transaction of its own."""
        self._connection = connection

    async def taken_at(self) -> datetime:
        """Return when it began, by the database's clock."""
        taken: datetime = await self._connection.fetchval("SELECT now()")
        return taken

    async def revision(self) -> str:
        """Return the schema's revision."""
        return str(await self._connection.fetchval("SELECT version_num FROM alembic_version"))

    async def live_generation(self) -> LiveGeneration:
        """Return the searched generation."""
        row = await self._connection.fetchrow(_LIVE)
        assert row is not None  # noqa: S101 (the first migration makes one, and a switch is one step)
        return LiveGeneration(
            row["number"], IndexRecipe(row["embedder"], row["chunker"]), row["dimension"]
        )

    async def ledger(self) -> dict[UUID, LedgerTotal]:
        """Return the totals of the ledger by tenant."""
        return await ledger_totals(self._connection)

    async def tables(self) -> dict[str, list[str]]:
        """Return the tables that hold the platform's state, with their columns.

        Chunks and messages are not among them: they have ports of their own.
        """
        rows = await self._connection.fetch(_COLUMNS, _NOT_DUMPED)
        return {row["table_name"]: row["columns"] for row in rows}

    async def sequences(self) -> Mapping[str, int]:
        """Return the sequences' last values; they may be newer than the snapshot."""
        rows = await self._connection.fetch(_SEQUENCES)
        return {row["sequencename"]: row["last_value"] for row in rows}

    async def copy_table(self, table: str, columns: list[str], output: BinaryIO) -> int:
        """Write a table as `COPY` writes it, and return how many rows it has."""
        done = await self._connection.copy_from_table(
            table, schema_name="public", columns=columns, output=output, timeout=COPY_S
        )
        return int(done.split()[-1])

    async def copy_versions(self, output: BinaryIO) -> None:
        """Write the versions of documents that are not deleted, by tenant, a JSON object a line."""
        await self._connection.copy_from_query(_VERSIONS, output=output, timeout=COPY_S)

    async def copy_conversations(self, output: BinaryIO) -> None:
        """Write the conversations that are not deleted, by tenant, a JSON object a line.

        Each with the places of its answers, and of its messages that wait in the outbox.
        """
        await self._connection.copy_from_query(_CONVERSATIONS, output=output, timeout=COPY_S)


@asynccontextmanager
async def open_snapshot(database: Database) -> AsyncIterator[Snapshot]:
    """Open a transaction that sees one moment of all tables.

    Args:
        database: As the owner of its schema, whom row-level security does not bind.

    Raises:
        Unavailable: The database does not answer.
    """
    async with (
        database.platform() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(f"SET LOCAL statement_timeout = '{COPY_S:.0f}s'")
        yield Snapshot(connection)


async def ledger_totals(connection: Connection) -> dict[UUID, LedgerTotal]:
    """Return the totals of the ledger by tenant, as a connection of the owner sees it."""
    rows = await connection.fetch(_LEDGER, timeout=COPY_S)
    return {row["tenant_id"]: LedgerTotal(row["rows"], row["usd"]) for row in rows}
