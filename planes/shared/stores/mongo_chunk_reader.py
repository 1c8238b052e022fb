"""Chunks in MongoDB as the serving plane reads them; what the port `ChunkReader` says."""

from collections.abc import Sequence
from uuid import UUID

from planes.shared.domain import Arms, Chunk, Heading, SearchScope, chunk_id
from planes.shared.index_ports import Vectors
from planes.shared.indexing import CHUNK_FIELDS, headings_of
from planes.shared.stores.mongo import Document, Mongo
from planes.shared.stores.mongo_documents import chunk_of, texts
from planes.shared.stores.mongo_exact import ExactSearch
from planes.shared.stores.mongo_generations import MongoGenerations
from planes.shared.stores.mongo_search import IndexedSearch
from planes.shared.stores.postgres_search_registry import SearchRegistry

_IDS_AT_ONCE = 10_000
_SPANS_AT_ONCE = 200
_CHUNK = dict.fromkeys(CHUNK_FIELDS, 1)


class MongoChunkReader:
    """Searches, and reads chunks by their place."""

    def __init__(
        self,
        mongo: Mongo,
        generations: MongoGenerations,
        registry: SearchRegistry,
        search: IndexedSearch | ExactSearch,
    ) -> None:
        """Store the server, its collections, what knows the corpus, and how to search."""
        self._mongo = mongo
        self._generations = generations
        self._registry = registry
        self._search = search

    async def search(
        self, question: str, vector: Vectors, *, scope: SearchScope, depth: int
    ) -> Arms:
        """Return the best `depth` chunks in `scope` by meaning and by words."""
        corpus = await self._registry.corpus(question, scope)
        if corpus.document_ids == ():
            return Arms(())
        collection = self._generations.collection(scope.generation)
        return await self._search.search(collection, vector, corpus, scope=scope, depth=depth)

    async def chunks_at(
        self, tenant_id: UUID, places: Sequence[tuple[UUID, int]], *, generation: int
    ) -> list[Chunk]:
        """Return the chunks at (version, ordinal), those that there are, in no order."""
        ids = [chunk_id(version_id, ordinal) for version_id, ordinal in set(places)]
        return await self.chunks_of(tenant_id, ids, generation=generation)

    async def chunks_of(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> list[Chunk]:
        """Return the chunks with these ids, those that there are, none twice, in no order."""
        ids = texts(sorted(set(chunk_ids)))
        found: list[Chunk] = []
        for first in range(0, len(ids), _IDS_AT_ONCE):
            wanted = {"_id": {"$in": ids[first : first + _IDS_AT_ONCE]}}
            found += await self._chunks(tenant_id, wanted, generation)
        return found

    async def chunks_around(
        self, tenant_id: UUID, spans: Sequence[tuple[UUID, int, int]], *, generation: int
    ) -> list[Chunk]:
        """Return every chunk that holds the whole of at least one span, none twice."""
        found: dict[UUID, Chunk] = {}
        for first in range(0, len(spans), _SPANS_AT_ONCE):
            some = [
                {"version_id": str(version_id), "start": {"$lte": start}, "end": {"$gte": end}}
                for version_id, start, end in spans[first : first + _SPANS_AT_ONCE]
            ]
            chunks = await self._chunks(tenant_id, {"$or": some}, generation)
            found |= {chunk.id: chunk for chunk in chunks}
        return list(found.values())

    async def headings(
        self, tenant_id: UUID, version_id: UUID, *, generation: int, limit: int
    ) -> list[Heading]:
        """Return the first `limit` different headings of a version, with their lowest pages."""
        wanted = {
            "tenant_id": str(tenant_id),
            "version_id": str(version_id),
            "heading": {"$ne": ""},
        }
        collection = self._generations.collection(generation)
        with self._mongo.waiting():
            rows = await collection.find(wanted, {"heading": 1, "start": 1, "page": 1}).to_list()
        return headings_of(rows, limit=limit)

    async def _chunks(self, tenant_id: UUID, wanted: Document, generation: int) -> list[Chunk]:
        collection = self._generations.collection(generation)
        with self._mongo.waiting():
            found = collection.find({"tenant_id": str(tenant_id), **wanted}, _CHUNK)
            return [chunk_of(row) async for row in found]
