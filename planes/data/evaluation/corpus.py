"""A judged corpus as documents of one tenant, chunked, embedded and published as uploads are."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from planes.data.evaluation.dataset import Entry
from planes.data.pipeline.batch import Vectors
from planes.data.pipeline.chunk import Chunker, TextChunk, embedded_text
from planes.data.pipeline.extracted import ExtractedText, HeadingSpan
from planes.data.pipeline.index import Indexer
from planes.data.pipeline.registry import Registry
from planes.data.pipeline.work import Work
from planes.shared.analysis import detect_language
from planes.shared.domain import new_id
from planes.shared.index_ports import ChunkWriter
from planes.shared.stores.postgres import Database

_WORKER = "evaluation"
_ENTRIES = 100  # that are written together

_REGISTER = """
WITH new AS (
    SELECT * FROM unnest($2::uuid[], $3::uuid[], $4::text[]) AS n (document, version, name)
), registered AS (
    INSERT INTO documents (id, tenant_id, owner_id, name, sha256, newest_version_id)
    SELECT document, $1, $1, name, uuid_send(version), version FROM new RETURNING id
)
INSERT INTO document_versions (id, tenant_id, document_id, number, sha256, size_bytes, media_type,
                               status, lease_owner)
SELECT version, $1, document, 1, uuid_send(version), 0, 'text/markdown', 'embedding', $5
FROM new JOIN registered ON registered.id = new.document
"""


@dataclass(frozen=True, slots=True)
class CorpusTools:
    """What a corpus is written with: embedder, who may write the registry, and the chunk store."""

    embed: Callable[[Sequence[str]], Vectors]
    owner: Database
    data: Database
    chunks: ChunkWriter


def whole(entry: Entry) -> list[TextChunk]:
    """Return an entry as one chunk with its title as heading, however long it is."""
    text = entry.text.strip()
    return [TextChunk(0, len(text), None, entry.title, text)] if text else []


def split_by(chunker: Chunker) -> Callable[[Entry], list[TextChunk]]:
    """Return what splits an entry as a document with its title on top is split."""

    def split(entry: Entry) -> list[TextChunk]:
        title = entry.title.strip()
        text = f"{title}\n\n{entry.text}" if title else entry.text
        headings = (HeadingSpan(1, 0, len(title)),) if title else ()
        return list(chunker.chunk(ExtractedText(text, headings=headings)))

    return split


class CorpusWriter:
    """Writes a corpus as the documents of one tenant."""

    def __init__(self, tools: CorpusTools, split: Callable[[Entry], list[TextChunk]]) -> None:
        """Store the tools, and what splits an entry."""
        self._tools = tools
        self._split = split
        self._registry = Registry(tools.data, worker=_WORKER)

    async def add_tenant(self) -> UUID:
        """Make a tenant with one user, who has its id, and return it."""
        tenant_id = new_id()
        async with self._tools.owner.tenant(tenant_id) as connection:
            await connection.execute(
                "INSERT INTO tenants (id, name) VALUES ($1, 'evaluation')", tenant_id
            )
            await connection.execute(
                "INSERT INTO users (id, email, email_key, password_hash, display_name) "
                "VALUES ($1, '', '', '', '')",
                tenant_id,
            )
        return tenant_id

    async def write(
        self, tenant_id: UUID, corpus: Sequence[Entry]
    ) -> AsyncIterator[dict[UUID, str]]:
        """Yield which document each of some more entries became, until all are searchable."""
        for first in range(0, len(corpus), _ENTRIES):
            yield await self._write(tenant_id, corpus[first : first + _ENTRIES])

    async def _write(self, tenant_id: UUID, entries: Sequence[Entry]) -> dict[UUID, str]:
        split = ((entry, self._split(entry)) for entry in entries)
        chunks, works, names = dict[UUID, list[TextChunk]](), list[Work](), dict[UUID, str]()
        for entry, some in split:
            if some:
                work = _work(tenant_id, entry, len(some))
                works.append(work)
                chunks[work.version_id], names[work.document_id] = some, entry.id
        await self._register(tenant_id, works, names)
        indexer = Indexer(self._registry, self._tools.chunks, _nothing)
        vectors = await asyncio.to_thread(self._vectors, chunks)
        written = await indexer.index(works, chunks, vectors)
        await self._registry.publish(written)
        return names

    def _vectors(self, chunks: Mapping[UUID, Sequence[TextChunk]]) -> dict[UUID, Vectors]:
        texts = [embedded_text(c.heading, c.text) for some in chunks.values() for c in some]
        vectors = self._tools.embed(texts)
        ends = np.cumsum([len(some) for some in chunks.values()])
        return dict(zip(chunks, np.split(vectors, ends[:-1]), strict=True))

    async def _register(
        self, tenant_id: UUID, works: Sequence[Work], names: Mapping[UUID, str]
    ) -> None:
        async with self._tools.owner.tenant(tenant_id) as connection:
            await connection.execute(
                _REGISTER,
                tenant_id,
                [work.document_id for work in works],
                [work.version_id for work in works],
                [names[work.document_id] for work in works],
                _WORKER,
            )


def _work(tenant_id: UUID, entry: Entry, chunk_count: int) -> Work:
    return Work(
        version_id=new_id(),
        tenant_id=tenant_id,
        document_id=new_id(),
        media_type="text/markdown",
        size_bytes=0,
        sha256="",
        generation=1,
        language=detect_language(entry.text),
        chunk_count=chunk_count,
    )


async def _nothing() -> None:
    """Do nothing between chunks."""
