"""Writes, replaces and deletes documents as gateway and data plane do, with chunks made up."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import numpy as np

from planes.data.pipeline.chunk import TextChunk
from planes.data.pipeline.index import Indexer
from planes.data.pipeline.registry import Registry
from planes.data.pipeline.remove import DocumentStores, Remover
from planes.data.pipeline.work import Work
from planes.shared.domain import new_id
from planes.shared.embedding import DIMENSION
from planes.shared.stores.chunks_by_generation import ChunksByGeneration
from planes.shared.stores.objects import FolderObjects
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_generations import PostgresGenerations

_WORKER = "drill"
_WORDS = 100  # of a chunk
_VOCABULARY = 5000
_TENANT = """
WITH added AS (INSERT INTO tenants (id, name) VALUES ($1, 'drill'))
INSERT INTO users (id, email, email_key, password_hash, display_name)
VALUES ($1, $1::text, $1::text, '', '')
"""
_DOCUMENT = """
INSERT INTO documents (id, tenant_id, owner_id, name, sha256, newest_version_id)
VALUES ($2, $1, $1, 'a document', uuid_send($3), $3)
ON CONFLICT (id) DO UPDATE SET newest_version_id = excluded.newest_version_id
"""
_VERSION = """
INSERT INTO document_versions (id, tenant_id, document_id, number, sha256, size_bytes, media_type,
                               status, lease_owner)
SELECT $3, $1, $2, coalesce(max(number), 0) + 1, uuid_send($3), 0, 'text/plain', 'embedding', $4
FROM document_versions WHERE document_id = $2
"""
_TOMBSTONE = """
WITH gone AS (UPDATE documents SET deleted_at = now() WHERE id = $1
              RETURNING id, tenant_id, owner_id),
hidden AS (UPDATE document_versions SET visibility = 'hidden'
           WHERE document_id = $1 AND visibility = 'live')
INSERT INTO deletions (id, tenant_id, document_id, requested_by)
SELECT $2, tenant_id, id, owner_id FROM gone
"""


@dataclass
class Author:
    """Its bookkeeping says what has to be there in the end.

    Attributes:
        documents: Chunks of each document that is not deleted, by (tenant, document).
        deleted: Versions of deleted documents and of replaced ones, with their tenants.
        turn: Held for each act: whoever holds it keeps documents waiting, as a last turn does.
    """

    owner: Database
    data: Database
    chunks: ChunksByGeneration
    folder: Path
    documents: dict[tuple[UUID, UUID], int] = field(default_factory=dict)
    deleted: list[tuple[UUID, UUID]] = field(default_factory=list)
    acts: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _newest: dict[UUID, UUID] = field(default_factory=dict)
    _random: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - no secret

    async def add_tenant(self) -> UUID:
        tenant_id = new_id()
        async with self.owner.tenant(tenant_id) as connection:
            await connection.execute(_TENANT, tenant_id)
        return tenant_id

    async def publish(self, tenant_id: UUID, document_id: UUID, chunks: int) -> None:
        """Write a version of a document, new or not, to the live generation until it is there."""
        version_id = new_id()
        async with self.owner.tenant(tenant_id) as connection:
            await connection.execute(_DOCUMENT, tenant_id, document_id, version_id)
            await connection.execute(_VERSION, tenant_id, document_id, version_id, _WORKER)
        work = Work(
            version_id, tenant_id, document_id, "text/plain", 0, "", 1,
            language="en", chunk_count=chunks,
        )  # fmt: skip
        spans = {version_id: [self._chunk() for _ in range(chunks)]}
        vectors = np.random.default_rng(self.acts).normal(size=(chunks, DIMENSION))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        registry = Registry(self.data, worker=_WORKER)
        indexer = Indexer(registry, self.chunks, _nothing)
        published: Sequence[object] = ()
        while not published:  # where a switch came in between, to the other generation
            live = (await PostgresGenerations(self.data).live()).number
            written = await indexer.index(
                [replace(work, generation=live)], spans, {version_id: vectors}
            )
            published = list(await registry.publish(written)) if written else ()
        if (old := self._newest.get(document_id)) is not None:
            self.deleted.append((tenant_id, old))
        self._newest[document_id] = version_id
        self.documents[tenant_id, document_id] = chunks

    async def delete(self, tenant_id: UUID, document_id: UUID) -> None:
        async with self.owner.tenant(tenant_id) as connection:
            await connection.execute(_TOMBSTONE, document_id, new_id())
        del self.documents[tenant_id, document_id]
        self.deleted.append((tenant_id, self._newest.pop(document_id)))

    async def work(self, tenants: Sequence[UUID], stop: asyncio.Event) -> None:
        """Add, replace and delete, and have removed what is gone, until told to stop."""
        stores = DocumentStores(self.data, self.chunks, FolderObjects(self.folder))
        remover = Remover(stores, worker=_WORKER)
        while not stop.is_set():
            async with self.turn:
                await self._act(tenants)
                await self.clean(remover)
            await asyncio.sleep(0.5)
        await self.clean(remover)

    async def _act(self, tenants: Sequence[UUID]) -> None:
        self.acts += 1
        tenant_id, chunks = self._random.choice(tenants), self._random.randint(1, 99)
        document_id = new_id()
        if self.acts % 3:
            tenant_id, document_id = self._random.choice(list(self.documents))
        if self.acts % 3 == 1:
            await self.delete(tenant_id, document_id)
        else:
            await self.publish(tenant_id, document_id, chunks)

    async def clean(self, remover: Remover) -> None:
        await remover.remove_deleted(documents=100)
        await remover.remove_stale(versions=100)

    def _chunk(self) -> TextChunk:
        words = (f"w{self._random.randrange(_VOCABULARY)}" for _ in range(_WORDS))
        text = " ".join(words)
        return TextChunk(0, len(text), 1, "A heading", text)


async def _nothing() -> None:
    """Do nothing between chunks."""
