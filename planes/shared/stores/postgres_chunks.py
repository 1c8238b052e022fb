"""Chunks and their vectors in PostgreSQL with pgvector."""

import math
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from planes.shared.analysis import terms
from planes.shared.domain import Arms, Chunk, SearchScope
from planes.shared.stores.postgres import Connection, Database
from planes.shared.stores.postgres_chunk_rows import (
    INSERT,
    Vectors,
    candidate_of,
    columns_of,
    indexed_terms,
    table_of,
)
from planes.shared.stores.postgres_search import search_statement

_ROWS = 1000  # in a statement

_COUNT_VERSIONS = """
SELECT version_id, count(*) AS chunks FROM {table} WHERE version_id = ANY ($1) GROUP BY 1
"""


class PostgresChunks:
    """Embedded chunks of every tenant, searchable by meaning and by words; a table a generation.

    Inverse document frequencies come from the registry's counts over live chunks.
    """

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def replace_versions(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> dict[UUID, Counter[str]]:
        """Make `chunks` the whole content of their versions; repeating it changes nothing.

        Args:
            chunks: Of one tenant; at least one of each version that is meant.
            vectors: Shape (len(chunks), dimension of the generation), unit length.
            generation: The chunk table.

        Returns:
            By version, in how many of its chunks each term occurs.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._database.tenant(chunks[0].tenant_id) as connection:
            old = f"DELETE FROM {table_of(generation)} WHERE version_id = ANY ($1)"  # noqa: S608 - a number in it
            await connection.execute(old, list({chunk.version_id for chunk in chunks}))
            return await _insert(connection, chunks, vectors, generation)

    async def add_chunks(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> dict[UUID, Counter[str]]:
        """Add to what `replace_versions` has begun, where versions are written piece by piece.

        Arguments, result and errors are those of `replace_versions`; no chunk may be there yet.
        """
        async with self._database.tenant(chunks[0].tenant_id) as connection:
            return await _insert(connection, chunks, vectors, generation)

    async def count_versions(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, int]:
        """Return how many chunks of each version the store shows; one without any is absent."""
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(
                _COUNT_VERSIONS.format(table=table_of(generation)), version_ids
            )
        return {row["version_id"]: row["chunks"] for row in rows}

    async def count_everywhere(self, tenant_id: UUID, version_ids: Sequence[UUID]) -> int:
        """Return how many chunks versions have in all generations together."""
        async with self._database.tenant(tenant_id) as connection:
            query = "SELECT count_version_chunks($1)"
            return int(await connection.fetchval(query, version_ids))

    async def remove_everywhere(self, tenant_id: UUID, version_id: UUID) -> int:
        """Remove a version's chunks from every generation and return how many there were."""
        async with self._database.tenant(tenant_id) as connection:
            return int(await connection.fetchval("SELECT remove_version_chunks($1)", version_id))

    async def search(
        self, question: str, vector: NDArray[np.float32], *, scope: SearchScope, depth: int
    ) -> Arms:
        """Return the best `depth` chunks in `scope` by meaning and by words, with both scores.

        The dense score is the cosine. The lexical score is the sum over the question's terms of
        idf x ts_rank, over chunks that hold one of the question's six rarest terms; chunks that
        only the dense arm found are scored by all terms too.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._database.tenant(scope.tenant_id) as connection:
            weights = await _term_weights(connection, question, scope)
            statement, arguments = search_statement(weights, vector, scope, depth)
            rows = await connection.fetch(statement, *arguments)
        return Arms(tuple(candidate_of(row) for row in rows))


async def _insert(
    connection: Connection, chunks: Sequence[Chunk], vectors: Vectors, generation: int
) -> dict[UUID, Counter[str]]:
    counts: dict[UUID, Counter[str]] = {chunk.version_id: Counter() for chunk in chunks}
    for first in range(0, len(chunks), _ROWS):
        some = chunks[first : first + _ROWS]
        terms_of = [indexed_terms(chunk) for chunk in some]
        for chunk, found in zip(some, terms_of, strict=True):
            counts[chunk.version_id].update(set(found))
        columns = columns_of(some, vectors[first : first + _ROWS], terms_of)
        await connection.execute(INSERT.format(table=table_of(generation)), *columns)
    return counts


async def _term_weights(
    connection: Connection, question: str, scope: SearchScope
) -> dict[str, float]:
    """Return the inverse document frequency (Robertson and Spärck Jones) of each known term."""
    languages = await connection.fetch(
        "SELECT language, chunks FROM corpus_languages WHERE tenant_id = $1 AND generation = $2",
        scope.tenant_id,
        scope.generation,
    )
    total = sum(row["chunks"] for row in languages)
    wanted = {term for row in languages for term in terms(question, row["language"])}
    counts = await connection.fetch(
        "SELECT term, chunks FROM term_frequencies "
        "WHERE tenant_id = $1 AND generation = $2 AND term = ANY ($3)",
        scope.tenant_id,
        scope.generation,
        sorted(wanted),
    )
    return {
        row["term"]: math.log(1 + (total - row["chunks"] + 0.5) / (row["chunks"] + 0.5))
        for row in counts
    }
