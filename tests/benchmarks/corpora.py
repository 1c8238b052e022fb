"""Tenants with many chunks, which the data plane's own writer puts into PostgreSQL.

Vectors are drawn around a thousand centres, as those of texts lie in topics. Texts are of this
repository's documentation. The indexes of words and of the graph are made when all chunks are
there, as after a restore: kept up to date by every write they took most of the time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from planes.shared.domain import Chunk, new_id
from planes.shared.embedding import DIMENSION
from planes.shared.stores.postgres import Database
from tests.evaluation import texts as prose
from tests.fakes_serving import add_tenant, chunk, publish, register

Vectors: TypeAlias = NDArray[np.float32]
Document: TypeAlias = tuple[Sequence[Chunk], Vectors]
"""Its chunks, and a vector each."""
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_DOCUMENT_CHUNKS = 1_000  # at most
_CENTRES, _SPREAD = 1_000, 0.8
_TEXTS, _TEXT_BYTES = 2_000, 900
_AT_ONCE = 4  # documents; this process prepares one while the database writes another
_TOLD = 20_000  # chunks
_SLOW_INDEXES = """
SELECT indexname AS name, indexdef AS definition FROM pg_indexes
WHERE tablename IN ('chunks_g1', 'vectors_g1') AND indexdef ~ 'USING (gin|hnsw)'
"""
_console = Console(stderr=True, highlight=False)


class Drawn:
    """Vectors in place of an embedder's."""

    def __init__(self) -> None:
        """Draw the centres, the same ones every time."""
        self._source = np.random.default_rng(1)
        self._centres = self._around(np.zeros((_CENTRES, DIMENSION), np.float32))

    def vectors(self, count: int) -> Vectors:
        """Return unit vectors, each near one of the centres."""
        return self._around(self._centres[self._source.integers(_CENTRES, size=count)])

    def _around(self, places: Vectors) -> Vectors:
        moved = places + _SPREAD * _unit(self._source.standard_normal(places.shape))
        return _unit(moved).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Corpus:
    """A tenant's chunks: their ids, and a vector each."""

    tenant_id: UUID
    ids: Sequence[UUID]
    vectors: Vectors

    def nearest(self, vector: Vectors, count: int) -> list[UUID]:
        """Return the exact nearest chunks, the nearest first."""
        cosines = np.vecdot(self.vectors, vector)  # `@` would take several threads
        found = np.argpartition(-cosines, min(count, len(cosines)) - 1)[:count]
        return [self.ids[place] for place in found[np.argsort(-cosines[found])]]


def texts() -> list[str]:
    """Return the texts of which every corpus consists, in turn."""
    return [text.decode() for text in prose.texts(_TEXTS, size_bytes=_TEXT_BYTES)]


async def written(
    urls: Mapping[str, str], drawn: Drawn, shapes: Mapping[str, tuple[int, int]]
) -> dict[str, list[Corpus]]:
    """Write tenants with so many chunks each, by the shape's name, and tell how far it is."""
    owner = await asyncpg.connect(urls["admin"])
    database = Database(urls["data"], service="benchmark", max_connections=_AT_ONCE)
    await database.open()
    bodies, corpora = texts(), dict[str, list[Corpus]]()
    tell = _teller(sum(tenants * chunks for tenants, chunks in shapes.values()))
    async with _indexes_made_afterwards(owner):
        for shape, (tenants, chunks) in shapes.items():
            documents, corpora[shape] = list[Document](), list[Corpus]()
            for _ in range(tenants):
                corpus, of_tenant = await _registered(owner, drawn.vectors(chunks), bodies)
                corpora[shape].append(corpus)
                documents += of_tenant
            await _publish(database, documents, tell)
    await database.close()
    await owner.execute("VACUUM ANALYZE")  # as autovacuum would at some time
    await owner.close()
    return corpora


@asynccontextmanager
async def _indexes_made_afterwards(owner: Connection) -> AsyncIterator[None]:
    """Drop the indexes that are slow to keep, and make them again in the end."""
    slow = await owner.fetch(_SLOW_INDEXES)
    for index in slow:
        await owner.execute(f"DROP INDEX {index['name']}")
    yield
    await owner.execute("SET maintenance_work_mem = '512MB'")
    for index in slow:
        _console.print(f"indexing: {index['name']}")
        await owner.execute(index["definition"])


async def _registered(
    owner: Connection, vectors: Vectors, bodies: Sequence[str]
) -> tuple[Corpus, list[Document]]:
    """Add a tenant whose documents are to have these vectors together."""
    tenant_id, documents = await add_tenant(owner), list[Document]()
    for first in range(0, len(vectors), _DOCUMENT_CHUNKS):
        some = vectors[first : first + _DOCUMENT_CHUNKS]
        document_id, version_id = new_id(), new_id()
        chunks = [
            chunk(
                bodies[(first + ordinal) % len(bodies)],
                tenant_id=tenant_id,
                document_id=document_id,
                version_id=version_id,
                ordinal=ordinal,
            )
            for ordinal in range(len(some))
        ]
        await register(owner, f"{first}.txt", chunks[0])
        documents.append((chunks, some))
    ids = [each.id for chunks, _ in documents for each in chunks]
    return Corpus(tenant_id, ids, vectors), documents


async def _publish(
    database: Database, documents: Sequence[Document], tell: Callable[[int], None]
) -> None:
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(chunks: Sequence[Chunk], vectors: Vectors) -> None:
        async with room:
            await publish(database, chunks, vectors)
            tell(len(chunks))

    await asyncio.gather(*(one(*document) for document in documents))


def _teller(chunks: int) -> Callable[[int], None]:
    """Return what is told of chunks that are written, and says now and then how many are."""
    written = 0

    def tell(more: int) -> None:
        nonlocal written
        before, written = written, written + more
        if before // _TOLD < written // _TOLD:
            _console.print(f"writing: {written:,} of {chunks:,} chunks")

    return tell


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    lengths: NDArray[np.floating] = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.floating] = vectors / lengths
    return unit
