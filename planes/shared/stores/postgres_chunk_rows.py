"""A chunk as a row of a chunk table, and back."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import numpy as np
import orjson
from numpy.typing import NDArray

from planes.shared.domain import Chunk
from planes.shared.errors import Unavailable
from planes.shared.index_ports import Vectors
from planes.shared.stores.postgres import Connection, Database

_MAX_POSITION = 16_383

UPSERT = """
INSERT INTO {table} (id, tenant_id, document_id, version_id, ordinal, char_start, char_end, page,
                     heading, body, language, terms, embedding)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::int[],
                     $7::int[], $8::int[], $9::text[], $10::text[], $11::text[],
                     $12::text[]::tsvector[], $13::text[]::vector[])
ON CONFLICT (id) DO UPDATE SET
    tenant_id = excluded.tenant_id, document_id = excluded.document_id,
    version_id = excluded.version_id, ordinal = excluded.ordinal,
    char_start = excluded.char_start, char_end = excluded.char_end, page = excluded.page,
    heading = excluded.heading, body = excluded.body, language = excluded.language,
    terms = excluded.terms, embedding = excluded.embedding
"""


def columns_of(
    chunks: Sequence[Chunk], vectors: Vectors, terms_of: Sequence[Sequence[str]]
) -> tuple[list[object], ...]:
    """Return the columns of `UPSERT`; `terms_of` holds the `indexed_terms` of each chunk."""
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
            _terms_literal(found),
            vector_literal(vector),
        )
        for chunk, vector, found in zip(chunks, vectors, terms_of, strict=True)
    ]
    return tuple(list(column) for column in zip(*rows, strict=True))


def _terms_literal(terms_in_order: Sequence[str]) -> str:
    """Return a tsvector literal; terms hold word characters only, so quoting is enough."""
    positions: dict[str, list[str]] = {}
    for position, term in enumerate(terms_in_order, start=1):
        positions.setdefault(term, []).append(str(min(position, _MAX_POSITION)))
    return " ".join(f"{quoted(term)}:{','.join(at[:255])}" for term, at in positions.items())


def quoted(term: str) -> str:
    """Return a term as a tsquery names it."""
    return f"'{term}'"


def vector_literal(vector: NDArray[np.float32]) -> str:
    """Return a vector as pgvector reads it, each number as short as it can be told exactly."""
    numbers = np.ascontiguousarray(vector, np.float32)
    return orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def vector_of(literal: str) -> NDArray[np.float32]:
    """Return a vector as pgvector writes it."""
    return np.array(literal[1:-1].split(","), dtype=np.float32)


@asynccontextmanager
async def chunk_tables(database: Database, tenant_id: UUID) -> AsyncIterator[Connection]:
    """Open a transaction over the chunks of one tenant.

    Raises:
        Unavailable: The database does not answer, or holds no such generation.
    """
    try:
        async with database.tenant(tenant_id) as connection:
            yield connection
    except asyncpg.UndefinedTableError as error:
        raise Unavailable("The index does not hold this generation.") from error


def table_of(generation: int) -> str:
    """Return the name of a generation's chunk table."""
    return f"chunks_g{int(generation)}"


def vector_table_of(generation: int) -> str:
    """Return the name of a generation's table of vectors, which triggers of the other fill."""
    return f"vectors_g{int(generation)}"


CHUNK_COLUMNS = (
    "c.id, c.tenant_id, c.document_id, c.version_id, c.ordinal, c.char_start, c.char_end, c.page, "
    "c.heading, c.body, c.language"
)
"""Of a chunk table `c`, as `chunk_of` reads them."""


def chunk_of(row: asyncpg.Record) -> Chunk:
    """Return a chunk as it was written."""
    return Chunk(
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
