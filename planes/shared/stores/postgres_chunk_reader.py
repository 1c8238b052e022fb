"""Chunks in PostgreSQL with pgvector, as the serving plane reads them."""

from collections.abc import Sequence
from uuid import UUID

from planes.shared.domain import Arms, Candidate, Chunk, Heading, SearchScope
from planes.shared.index_ports import Vectors
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunk_rows import (
    CHUNK_COLUMNS,
    chunk_of,
    chunk_tables,
    table_of,
)
from planes.shared.stores.postgres_search import search_statement
from planes.shared.stores.postgres_search_registry import known_terms

_BY_ID = "SELECT {columns} FROM {table} c WHERE c.tenant_id = $1 AND c.id = ANY ($2)"
_AT = """
SELECT {columns} FROM {table} c
JOIN unnest($2::uuid[], $3::int[]) AS w (version_id, ordinal)
  ON w.version_id = c.version_id AND w.ordinal = c.ordinal
WHERE c.tenant_id = $1
"""
_AROUND = """
SELECT {columns} FROM {table} c WHERE c.tenant_id = $1 AND c.version_id = ANY ($2) AND EXISTS (
    SELECT FROM unnest($2::uuid[], $3::int[], $4::int[]) AS s (version_id, span_start, span_end)
    WHERE s.version_id = c.version_id AND c.char_start <= s.span_start AND c.char_end >= s.span_end
)
"""
_HEADINGS = """
SELECT heading, min(page) AS page FROM {table}
WHERE tenant_id = $1 AND version_id = $2 AND heading <> ''
GROUP BY heading ORDER BY min(char_start) LIMIT $3
"""


class PostgresChunkReader:
    """Reads chunks; inverse document frequencies come from the registry in the same transaction."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def search(
        self, question: str, vector: Vectors, *, scope: SearchScope, depth: int
    ) -> Arms:
        """Return the best `depth` chunks of both arms; the lexical score is idf x ts_rank.

        Raises:
            Unavailable: The database does not answer.
        """
        async with chunk_tables(self._database, scope.tenant_id) as connection:
            known = await known_terms(connection, question, scope)
            statement, arguments = search_statement(known, vector, scope, depth)
            rows = await connection.fetch(statement, *arguments)
        return Arms(tuple(Candidate(*row) for row in rows))

    async def chunks_of(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> list[Chunk]:
        """Return the chunks with these ids, those that there are."""
        query = _BY_ID.format(columns=CHUNK_COLUMNS, table=table_of(generation))
        async with chunk_tables(self._database, tenant_id) as connection:
            rows = await connection.fetch(query, tenant_id, chunk_ids)
        return [chunk_of(row) for row in rows]

    async def chunks_at(
        self, tenant_id: UUID, places: Sequence[tuple[UUID, int]], *, generation: int
    ) -> list[Chunk]:
        """Return the chunks at (version, ordinal), none twice."""
        query = _AT.format(columns=CHUNK_COLUMNS, table=table_of(generation))
        columns = [list(column) for column in zip(*set(places), strict=True)]
        versions, ordinals = columns or [[], []]
        async with chunk_tables(self._database, tenant_id) as connection:
            rows = await connection.fetch(query, tenant_id, versions, ordinals)
        return [chunk_of(row) for row in rows]

    async def chunks_around(
        self, tenant_id: UUID, spans: Sequence[tuple[UUID, int, int]], *, generation: int
    ) -> list[Chunk]:
        """Return every chunk that holds the whole of at least one span."""
        query = _AROUND.format(columns=CHUNK_COLUMNS, table=table_of(generation))
        columns = [list(column) for column in zip(*spans, strict=True)] or [[], [], []]
        async with chunk_tables(self._database, tenant_id) as connection:
            rows = await connection.fetch(query, tenant_id, *columns)
        return [chunk_of(row) for row in rows]

    async def headings(
        self, tenant_id: UUID, version_id: UUID, *, generation: int, limit: int
    ) -> list[Heading]:
        """Return the first different headings of a version."""
        query = _HEADINGS.format(table=table_of(generation))
        async with chunk_tables(self._database, tenant_id) as connection:
            rows = await connection.fetch(query, tenant_id, version_id, limit)
        return [Heading(row["heading"], row["page"]) for row in rows]
