"""Chunks and their vectors in PostgreSQL with pgvector."""

import math
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from planes.shared.analysis import terms
from planes.shared.domain import Arms, Candidate, Chunk, SearchScope
from planes.shared.stores.postgres import Connection, Database

Vectors = NDArray[np.float32]
_MAX_POSITION = 16_383
_RAREST_TERMS = 3
_ROWS = 1000  # in a statement, so that the largest document stays within its deadline

_SEARCH = """
WITH weights AS MATERIALIZED (
    SELECT term::tsquery AS term, idf FROM unnest($7::text[], $8::float8[]) AS w (term, idf)
), scope AS MATERIALIZED (
    SELECT id, terms, embedding FROM {table}
    WHERE tenant_id = $1 AND NOT version_id = ANY ($2)
      AND ($3::uuid[] IS NULL OR document_id = ANY ($3))
), dense AS (
    SELECT id FROM scope ORDER BY embedding <=> $4::vector, id LIMIT $5
), lexical AS (
    SELECT s.id FROM scope s WHERE s.terms @@ $6::tsquery
    ORDER BY (SELECT sum(w.idf * ts_rank(s.terms, w.term, 1)) FROM weights w) DESC, s.id LIMIT $5
)
SELECT c.id, c.tenant_id, c.document_id, c.version_id, c.ordinal, c.char_start, c.char_end, c.page,
       c.heading, c.body, c.language, 1 - (c.embedding <=> $4::vector) AS dense_score,
       coalesce((SELECT sum(w.idf * ts_rank(c.terms, w.term, 1)) FROM weights w), 0)
           AS lexical_score
FROM {table} c WHERE c.id IN (SELECT id FROM dense UNION SELECT id FROM lexical)
"""

_INSERT = """
INSERT INTO {table} (id, tenant_id, document_id, version_id, ordinal, char_start, char_end, page,
                     heading, body, language, terms, embedding)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::int[],
                     $7::int[], $8::int[], $9::text[], $10::text[], $11::text[],
                     $12::text[]::tsvector[], $13::text[]::vector[])
"""


class PostgresChunks:
    """Embedded chunks of every tenant, searchable by meaning and by words; a table a generation.

    Inverse document frequencies come from the registry's counts over live chunks.
    """

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def replace_version(
        self, version_id: UUID, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Make `chunks` the whole content of a version; repeating it changes nothing.

        Args:
            version_id: The version; its chunks all belong to it and to one tenant.
            chunks: At least one.
            vectors: Shape (len(chunks), dimension of the generation), unit length.
            generation: The chunk table.

        Raises:
            Unavailable: The database does not answer.
        """
        table = _table(generation)
        async with self._database.tenant(chunks[0].tenant_id) as connection:
            old = f"DELETE FROM {table} WHERE version_id = $1"  # noqa: S608 - a number in it
            await connection.execute(old, version_id)
            for first in range(0, len(chunks), _ROWS):
                rows = slice(first, first + _ROWS)
                columns = _columns(chunks[rows], vectors[rows])
                await connection.execute(_INSERT.format(table=table), *columns)

    async def count_version(self, tenant_id: UUID, version_id: UUID, *, generation: int) -> int:
        """Return how many chunks of a version the store shows."""
        async with self._database.tenant(tenant_id) as connection:
            table = _table(generation)
            query = f"SELECT count(*) FROM {table} WHERE version_id = $1"  # noqa: S608 - a number
            return int(await connection.fetchval(query, version_id))

    async def remove_version(self, tenant_id: UUID, version_id: UUID, *, generation: int) -> int:
        """Remove a version's chunks and return how many there were."""
        async with self._database.tenant(tenant_id) as connection:
            table = _table(generation)
            query = f"DELETE FROM {table} WHERE version_id = $1"  # noqa: S608 - a number in it
            return int((await connection.execute(query, version_id)).split()[-1])

    async def search(
        self, question: str, vector: NDArray[np.float32], *, scope: SearchScope, depth: int
    ) -> Arms:
        """Return the best `depth` chunks in `scope` by meaning and by words, with both scores.

        The dense score is the cosine. The lexical score is the sum over the question's terms of
        idf x ts_rank, over chunks that hold one of the question's three rarest terms; chunks that
        only the dense arm found are scored by all terms too.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._database.tenant(scope.tenant_id) as connection:
            weights = await _term_weights(connection, question, scope)
            rarest = sorted(weights, key=lambda term: (-weights[term], term))[:_RAREST_TERMS]
            rows = await connection.fetch(
                _SEARCH.format(table=_table(scope.generation)),
                scope.tenant_id,
                list(scope.hidden_versions),
                None if scope.document_ids is None else list(scope.document_ids),
                _vector_literal(vector),
                depth,
                " | ".join(map(_quoted, rarest)),
                [_quoted(term) for term in weights],
                list(weights.values()),
            )
        return Arms(tuple(_candidate(row) for row in rows))


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


def _columns(chunks: Sequence[Chunk], vectors: Vectors) -> tuple[list[object], ...]:
    rows = [
        (
            chunk.id,
            chunk.tenant_id,
            chunk.document_id,
            chunk.version_id,
            chunk.ordinal,
            chunk.start,
            chunk.end,
            chunk.page,
            chunk.heading,
            chunk.text,
            chunk.language,
            _terms_literal(chunk),
            _vector_literal(vector),
        )
        for chunk, vector in zip(chunks, vectors, strict=True)
    ]
    return tuple(list(column) for column in zip(*rows, strict=True))


def indexed_terms(chunk: Chunk) -> list[str]:
    """Return the terms by which a chunk is found: those of its heading and of its text."""
    return terms(f"{chunk.heading}\n{chunk.text}", chunk.language)


def _terms_literal(chunk: Chunk) -> str:
    """Return a tsvector literal; terms hold word characters only, so quoting is enough."""
    positions: dict[str, list[str]] = {}
    for position, term in enumerate(indexed_terms(chunk), start=1):
        positions.setdefault(term, []).append(str(min(position, _MAX_POSITION)))
    return " ".join(f"{_quoted(term)}:{','.join(at[:255])}" for term, at in positions.items())


def _quoted(term: str) -> str:
    return f"'{term}'"


def _vector_literal(vector: NDArray[np.float32]) -> str:
    return "[" + ",".join(map(str, vector.tolist())) + "]"


def _table(generation: int) -> str:
    return f"chunks_g{int(generation)}"


def _candidate(row: asyncpg.Record) -> Candidate:
    chunk = Chunk(
        id=row["id"],
        tenant_id=row["tenant_id"],
        document_id=row["document_id"],
        version_id=row["version_id"],
        ordinal=row["ordinal"],
        start=row["char_start"],
        end=row["char_end"],
        page=row["page"],
        heading=row["heading"],
        text=row["body"],
        language=row["language"],
    )
    return Candidate(chunk, dense=row["dense_score"], lexical=row["lexical_score"])
