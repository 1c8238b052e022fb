"""Chunks in MongoDB as the data plane writes and removes them; see the port `ChunkWriter`."""

from collections.abc import Sequence
from uuid import UUID

from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from planes.shared.domain import Chunk
from planes.shared.index_ports import Vectors
from planes.shared.stores.mongo import Collection, Document, Mongo
from planes.shared.stores.mongo_documents import any_of, document_of, texts
from planes.shared.stores.mongo_generations import MongoGenerations

_AT_ONCE = 1000
_DUPLICATE = 11000


class MongoChunkWriter:
    """Writes and removes, generation by generation."""

    def __init__(self, mongo: Mongo, generations: MongoGenerations, *, in_arrays: bool) -> None:
        """Store the server, its collections, and whether vectors are arrays of doubles."""
        self._mongo = mongo
        self._generations = generations
        self._in_arrays = in_arrays

    async def replace_versions(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Make `chunks` the whole content of their versions."""
        collection = self._generations.collection(generation)
        versions = texts(sorted({chunk.version_id for chunk in chunks}))
        for first in range(0, len(versions), _AT_ONCE):
            some = versions[first : first + _AT_ONCE]
            with self._mongo.waiting():
                await collection.delete_many(
                    {"tenant_id": str(chunks[0].tenant_id), "version_id": any_of(some)}
                )
        await self.add_chunks(chunks, vectors, generation=generation)

    async def add_chunks(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Add chunks; one with an id that is there already replaces it.

        Raises:
            Unavailable: The server does not answer, or the generation was not made.
        """
        await self._generations.require(generation)
        collection = self._generations.collection(generation)
        for first in range(0, len(chunks), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            documents = [
                document_of(chunk, vector, in_arrays=self._in_arrays)
                for chunk, vector in zip(chunks[some], vectors[some], strict=True)
            ]
            await self._insert(collection, documents)

    async def _insert(self, collection: Collection, documents: list[Document]) -> None:
        with self._mongo.waiting():
            try:
                await collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                failed = error.details["writeErrors"]
                is_durable = not error.details["writeConcernErrors"]
                if not is_durable or any(one["code"] != _DUPLICATE for one in failed):
                    raise
                there = [documents[one["index"]] for one in failed]
                await collection.bulk_write([_replacement(one) for one in there], ordered=False)

    async def remove_everywhere(self, tenant_id: UUID, version_id: UUID) -> int:
        """Remove a version's chunks from every generation and return how many there were."""
        return await self._remove_everywhere(
            {"tenant_id": str(tenant_id), "version_id": str(version_id)}
        )

    async def remove_tenant(self, tenant_id: UUID) -> int:
        """Remove every chunk of a tenant from every generation and return how many there were."""
        return await self._remove_everywhere({"tenant_id": str(tenant_id)})

    async def _remove_everywhere(self, wanted: Document) -> int:
        count = 0
        for number in await self._generations.dimensions():
            with self._mongo.waiting():
                removed = await self._generations.collection(number).delete_many(wanted)
            count += removed.deleted_count
        return count

    async def remove_chunks(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> None:
        """Remove single chunks, those that there are."""
        collection, ids = self._generations.collection(generation), texts(chunk_ids)
        for first in range(0, len(ids), _AT_ONCE):
            some = any_of(ids[first : first + _AT_ONCE])
            with self._mongo.waiting():
                await collection.delete_many({"tenant_id": str(tenant_id), "_id": some})


def _replacement(document: Document) -> ReplaceOne[Document]:
    key = {"_id": document["_id"], "tenant_id": document["tenant_id"]}
    return ReplaceOne(key, document, upsert=True)
