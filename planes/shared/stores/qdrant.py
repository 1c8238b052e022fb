"""Chunks and their vectors in Qdrant."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from uuid import UUID

from qdrant_client import AsyncQdrantClient, models

from planes.shared.domain import Arms, Chunk, SearchScope
from planes.shared.errors import Unavailable
from planes.shared.index_ports import Vectors
from planes.shared.stores.postgres_search_registry import SearchRegistry
from planes.shared.stores.qdrant_collections import QdrantCollections
from planes.shared.stores.qdrant_points import belongs_to, has_id, point_of
from planes.shared.stores.qdrant_reading import PAGE, QdrantReading, in_pages, of_versions
from planes.shared.stores.qdrant_search import QdrantSearch
from planes.shared.stores.qdrant_server import CollectionAbsent, QdrantServer
from planes.shared.stores.qdrant_settings import QdrantSettings

_POINTS = 200  # in a request: about 2 MB


class QdrantChunks(QdrantReading):
    """Embedded chunks of every tenant in one collection a generation.

    A point has the chunk's vector, a sparse vector of its terms' weights, and the chunk. Inverse
    document frequencies come from the registry with every question, so that no point is rewritten
    when others come or go. `planes/shared/index_ports.py` says what each method promises.
    """

    def __init__(self, settings: QdrantSettings, registry: SearchRegistry) -> None:
        """Store where Qdrant is, and who knows terms and documents."""
        self._settings = settings
        self._registry = registry
        server = QdrantServer(settings)
        super().__init__(server, QdrantCollections(server, settings))

    async def open(self) -> None:
        """Connect, and look whether the server can do what is needed.

        Raises:
            InvalidInput: It refuses the key, or is too old.
            Unavailable: It does not answer.
        """
        await self._server.open()

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def describe(self) -> dict[str, str]:
        """Return what the server is, and how it is searched."""
        by_meaning = "exact" if self._settings.qdrant_exact_search else "graphs of each tenant"
        return {
            "store": f"Qdrant {await self._server.version()}",
            "by meaning": by_meaning,
            "by words": "BM25 as sparse vectors",
            "generations": ", ".join(map(str, await self._collections.numbers())) or "none",
        }

    async def generations(self) -> dict[int, int]:
        """Return the dimensions of the generations that the store holds, by number."""
        return await self._collections.generations()

    async def create_generation(self, number: int, dimension: int) -> None:
        """Make a collection with its indexes.

        Raises:
            Conflict: It is there with another dimension.
            Unavailable: Qdrant does not answer.
        """
        await self._collections.create_generation(number, dimension)

    async def drop_generation(self, number: int) -> None:
        """Remove a generation and all its chunks, if it is there."""
        await self._collections.drop_generation(number)

    async def search(
        self, question: str, vector: Vectors, *, scope: SearchScope, depth: int
    ) -> Arms:
        """Return the best `depth` chunks in `scope` by meaning and by words, with both scores.

        The lexical score is BM25 over all of the question's terms (`planes/shared/lexical.py`).
        Which of several chunks that tie at an arm's end stay is left to Qdrant.

        Raises:
            InvalidInput: The filter means more than 50,000 documents.
            Unavailable: Qdrant or the registry does not answer.
        """
        corpus = await self._registry.corpus(question, scope)
        if corpus.document_ids == ():
            return Arms(())
        collection = self._collections.name(scope.generation)
        return await QdrantSearch(self._server, collection, self._settings).search(
            vector,
            corpus.weights,
            scope=scope,
            document_ids=corpus.document_ids,
            depth=depth,
        )

    async def replace_versions(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Make `chunks` the whole content of their versions: what was there goes first."""
        versions = sorted({chunk.version_id for chunk in chunks})
        for some in in_pages(versions, PAGE):
            await self._remove(generation, of_versions(chunks[0].tenant_id, some))
        await self.add_chunks(chunks, vectors, generation=generation)

    async def add_chunks(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Add chunks of one tenant; one with an id that is there already replaces it."""
        for some in in_pages(range(len(chunks)), _POINTS):
            points = [point_of(chunks[row], vectors[row]) for row in some]
            await self._upsert(generation, points)

    async def count_everywhere(self, tenant_id: UUID, version_ids: Sequence[UUID]) -> int:
        """Return how many chunks versions have in all generations together."""
        return sum(
            [
                sum((await self.count_versions(tenant_id, version_ids, generation=one)).values())
                for one in await self._collections.numbers()
            ]
        )

    async def remove_everywhere(self, tenant_id: UUID, version_id: UUID) -> int:
        """Remove a version's chunks from every generation and return how many there were."""
        return await self._remove_counted(of_versions(tenant_id, [version_id]))

    async def remove_tenant(self, tenant_id: UUID) -> int:
        """Remove every chunk of a tenant from every generation and return how many there were."""
        return await self._remove_counted(belongs_to(tenant_id))

    async def remove_chunks(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> None:
        """Remove single chunks, those that there are."""
        for some in in_pages(chunk_ids, PAGE):
            await self._remove(generation, belongs_to(tenant_id, has_id(some)))

    async def _remove_counted(self, wanted: models.Filter) -> int:
        removed = 0
        for generation in await self._collections.numbers():
            name = self._collections.name(generation)
            with suppress(CollectionAbsent):  # dropped in this moment
                answer = await self._server.call(partial(_count, name=name, wanted=wanted))
                await self._remove(generation, wanted)
                removed += answer.count
        return removed

    async def _upsert(self, generation: int, points: list[models.PointStruct]) -> None:
        name = self._collections.name(generation)
        try:
            await self._server.write(
                lambda client: client.upsert(
                    name, points, wait=True, ordering=models.WriteOrdering.STRONG
                )
            )
        except CollectionAbsent as error:
            raise Unavailable(
                f"Qdrant holds no generation {generation}: run `polyplane migrate`."
            ) from error

    async def _remove(self, generation: int, wanted: models.Filter) -> None:
        name = self._collections.name(generation)
        with suppress(CollectionAbsent):
            await self._server.write(
                lambda client: client.delete(
                    name,
                    models.FilterSelector(filter=wanted),
                    wait=True,
                    ordering=models.WriteOrdering.STRONG,
                )
            )


async def _count(
    client: AsyncQdrantClient, *, name: str, wanted: models.Filter
) -> models.CountResult:
    return await client.count(name, wanted, exact=True)
