"""Chunks in PostgreSQL with pgvector, as the data plane writes, checks and removes them."""

from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

from planes.shared.domain import Chunk, VersionCount
from planes.shared.index_ports import Embedded, Vectors
from planes.shared.indexing import indexed_terms
from planes.shared.stores.postgres import Connection, Database
from planes.shared.stores.postgres_chunk_rows import (
    CHUNK_COLUMNS,
    UPSERT,
    chunk_of,
    chunk_tables,
    columns_of,
    table_of,
    vector_of,
)

_ROWS = 1000  # in a statement
_VERSIONS = 1000  # in a page
_READ = 500  # chunks with their vectors at a time
_READ_VERSIONS = 50  # looked through for them
_REMOVED = 5000  # rows in a transaction

_REPLACED = "DELETE FROM {table} WHERE tenant_id = $1 AND version_id = ANY ($2)"
_COUNT_VERSIONS = """
SELECT version_id, count(*) AS chunks FROM {table}
WHERE tenant_id = $1 AND version_id = ANY ($2) GROUP BY 1
"""
_REMOVE_SOME = """
DELETE FROM {table} WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
    SELECT ctid FROM {table} WHERE tenant_id = $1 LIMIT $2))
"""
_FINGERPRINTS = """
SELECT id, md5(concat_ws('|', ordinal, char_start, char_end, coalesce(page, 0), language, heading,
                         body)) AS fingerprint
FROM {table} WHERE tenant_id = $1 AND version_id = $2
"""
_PAGES = """
SELECT page, min(char_start) AS char_start, max(char_end) AS char_end FROM {table}
WHERE tenant_id = $1 AND version_id = $2 AND page IS NOT NULL GROUP BY page ORDER BY page
"""
_VECTORS = "SELECT id, embedding::text FROM {table} WHERE tenant_id = $1 AND id = ANY ($2)"
_EMBEDDED = """
SELECT {columns}, c.embedding::text AS vector FROM {table} c
WHERE c.tenant_id = $1 AND c.version_id = ANY ($2) AND (c.version_id, c.ordinal) > ($3, $4)
ORDER BY c.version_id, c.ordinal LIMIT $5
"""
_VERSION_COUNTS = """
SELECT version_id, count(*) AS chunks, count(DISTINCT ordinal) AS places FROM {table}
WHERE tenant_id = $1 GROUP BY 1
"""


class PostgresChunkWriter:
    """Writes, counts and removes chunks; every write happens in one transaction."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def replace_versions(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Make `chunks` the whole content of their versions; repeating it changes nothing."""
        tenant_id, old = chunks[0].tenant_id, _REPLACED.format(table=table_of(generation))
        async with chunk_tables(self._database, tenant_id) as connection:
            await connection.execute(old, tenant_id, list({chunk.version_id for chunk in chunks}))
            await _upsert(connection, chunks, vectors, generation)

    async def add_chunks(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Add chunks; one with an id that is there already replaces it."""
        if chunks:
            async with chunk_tables(self._database, chunks[0].tenant_id) as connection:
                await _upsert(connection, chunks, vectors, generation)

    async def count_versions(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, int]:
        """Return how many chunks of each version a search finds; one without any is absent."""
        query = _COUNT_VERSIONS.format(table=table_of(generation))
        async with chunk_tables(self._database, tenant_id) as connection:
            rows = await connection.fetch(query, tenant_id, version_ids)
        return {row["version_id"]: row["chunks"] for row in rows}

    async def count_everywhere(self, tenant_id: UUID, version_ids: Sequence[UUID]) -> int:
        """Return how many chunks versions have in all generations together."""
        async with chunk_tables(self._database, tenant_id) as connection:
            query = "SELECT count_version_chunks($1)"
            return int(await connection.fetchval(query, version_ids))

    async def remove_everywhere(self, tenant_id: UUID, version_id: UUID) -> int:
        """Remove a version's chunks from every generation and return how many there were."""
        async with chunk_tables(self._database, tenant_id) as connection:
            return int(await connection.fetchval("SELECT remove_version_chunks($1)", version_id))

    async def remove_tenant(self, tenant_id: UUID) -> int:
        """Remove every chunk of a tenant from every generation and return how many there were."""
        async with self._database.platform() as connection:
            tables = await connection.fetchval("SELECT chunk_tables()")
        removed = 0
        for table in tables:
            while count := await self._remove_some(tenant_id, table):
                removed += count
        return removed

    async def _remove_some(self, tenant_id: UUID, table: str) -> int:
        async with chunk_tables(self._database, tenant_id) as connection:
            # no table is dropped meanwhile
            await connection.execute("SELECT pg_advisory_xact_lock_shared(generations_lock())")
            if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table):
                return 0
            done = await connection.execute(_REMOVE_SOME.format(table=table), tenant_id, _REMOVED)
        return int(done.split()[-1])

    async def fingerprints(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> dict[UUID, str]:
        """Return a version's chunks by their ids, each with what `fingerprint` gives for it."""
        query = _FINGERPRINTS.format(table=table_of(generation))
        async with chunk_tables(self._database, tenant_id) as connection:
            rows = await connection.fetch(query, tenant_id, version_id)
        return {row["id"]: row["fingerprint"] for row in rows}

    async def remove_chunks(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> None:
        """Remove single chunks, those that there are."""
        query = f"DELETE FROM {table_of(generation)} WHERE tenant_id = $1 AND id = ANY ($2)"  # noqa: S608 - a number
        async with chunk_tables(self._database, tenant_id) as connection:
            await connection.execute(query, tenant_id, chunk_ids)

    async def pages(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> list[tuple[int, int, int]]:
        """Return (page, lowest start, highest end) of a version's pages with chunks, by page."""
        query = _PAGES.format(table=table_of(generation))
        async with chunk_tables(self._database, tenant_id) as connection:
            rows = await connection.fetch(query, tenant_id, version_id)
        return [(row["page"], row["char_start"], row["char_end"]) for row in rows]

    async def vectors(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, Vectors]:
        """Return the vectors of chunks, those that there are, as they were written."""
        query = _VECTORS.format(table=table_of(generation))
        async with chunk_tables(self._database, tenant_id) as connection:
            rows = await connection.fetch(query, tenant_id, chunk_ids)
        return {row["id"]: vector_of(row["embedding"]) for row in rows}

    async def embedded_chunks(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> AsyncGenerator[list[Embedded], None]:
        """Yield every chunk of versions with its vector, in the order of version and place."""
        query = _EMBEDDED.format(columns=CHUNK_COLUMNS, table=table_of(generation))
        ids = sorted(set(version_ids))
        for first in range(0, len(ids), _READ_VERSIONS):
            left, last = ids[first : first + _READ_VERSIONS], -1
            while left:
                async with chunk_tables(self._database, tenant_id) as connection:
                    rows = await connection.fetch(query, tenant_id, left, left[0], last, _READ)
                if rows:
                    yield [(chunk_of(row), vector_of(row["vector"])) for row in rows]
                if len(rows) < _READ:
                    break
                left = [one for one in left if one >= rows[-1]["version_id"]]
                last = rows[-1]["ordinal"]

    async def tenants(self, *, generation: int) -> list[UUID]:
        """Return the tenants that have chunks."""
        async with self._database.platform() as connection:
            rows = await connection.fetch("SELECT chunk_tenants($1) AS id", generation)
        return [row["id"] for row in rows]

    async def version_counts(
        self, tenant_id: UUID, *, generation: int
    ) -> AsyncGenerator[list[VersionCount], None]:
        """Yield every version of a tenant that has chunks."""
        async with chunk_tables(self._database, tenant_id) as connection:
            rows = await connection.fetch(
                _VERSION_COUNTS.format(table=table_of(generation)), tenant_id
            )
        for first in range(0, len(rows), _VERSIONS):
            yield [VersionCount(*row) for row in rows[first : first + _VERSIONS]]


async def _upsert(
    connection: Connection, chunks: Sequence[Chunk], vectors: Vectors, generation: int
) -> None:
    for first in range(0, len(chunks), _ROWS):
        some = chunks[first : first + _ROWS]
        terms_of = [indexed_terms(chunk) for chunk in some]
        columns = columns_of(some, vectors[first : first + _ROWS], terms_of)
        await connection.execute(UPSERT.format(table=table_of(generation)), *columns)
