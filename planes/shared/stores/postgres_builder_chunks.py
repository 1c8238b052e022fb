"""Chunks of a generation that is not searched, as its builder keeps them in order."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from planes.shared.domain import Chunk
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunk_rows import (
    INSERT,
    Vectors,
    columns_of,
    indexed_terms,
    table_of,
)

_FINGERPRINTS = """
SELECT id, md5(concat_ws('|', ordinal, char_start, char_end, coalesce(page, 0), language, heading,
                         body)) AS fingerprint
FROM {table} WHERE version_id = $1
"""
_STILL_LIVE = """
SELECT true FROM document_versions
WHERE id = $1 AND visibility = 'live' AND published_at = $2 FOR SHARE
"""
_PAGES = """
SELECT page, min(char_start) AS char_start, max(char_end) AS char_end FROM {table}
WHERE version_id = $1 AND page IS NOT NULL GROUP BY page ORDER BY page
"""


class BuilderChunks:
    """The chunk tables in the hands of the one who builds a generation beside the live one.

    Every method raises `Unavailable` where the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def fingerprints(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> dict[UUID, str]:
        """Return a version's chunks by their ids, each with what `fingerprint` gives for it."""
        async with self._database.tenant(tenant_id) as connection:
            query = _FINGERPRINTS.format(table=table_of(generation))
            rows = await connection.fetch(query, version_id)
        return {row["id"]: row["fingerprint"] for row in rows}

    async def remove_chunks(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> None:
        """Remove single chunks."""
        async with self._database.tenant(tenant_id) as connection:
            query = f"DELETE FROM {table_of(generation)} WHERE id = ANY ($1)"  # noqa: S608 - a number
            await connection.execute(query, chunk_ids)

    async def add_to_published(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int, published_at: datetime
    ) -> bool:
        """Add chunks of a published version to a generation that is not searched.

        Args:
            chunks: At least one, all of one version, none of them there yet.
            vectors: Shape (len(chunks), dimension of the generation), unit length.
            generation: The chunk table.
            published_at: Of the publication whose text the chunks are of.

        Returns:
            False where the version was published again, replaced or deleted; nothing is written.
        """
        async with self._database.tenant(chunks[0].tenant_id) as connection:
            if not await connection.fetchval(_STILL_LIVE, chunks[0].version_id, published_at):
                return False
            columns = columns_of(chunks, vectors, [indexed_terms(chunk) for chunk in chunks])
            await connection.execute(INSERT.format(table=table_of(generation)), *columns)
        return True

    async def pages(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> list[tuple[int, int, int]]:
        """Return (page, start, end) of a version's pages that have chunks, in order."""
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_PAGES.format(table=table_of(generation)), version_id)
        return [(row["page"], row["char_start"], row["char_end"]) for row in rows]


def fingerprint(chunk: Chunk) -> str:
    """Return a digest of everything that a chunk's row is made of, but for its vector."""
    parts = (chunk.ordinal, chunk.start, chunk.end, chunk.page or 0, chunk.language)
    row = "|".join([*map(str, parts), chunk.heading, chunk.text])
    return hashlib.md5(row.encode(), usedforsecurity=False).hexdigest()
