"""Chunks in several stores: each generation of the index stands in one of them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from uuid import UUID

from planes.shared.domain import Arms, Chunk, Heading, SearchScope, VersionCount
from planes.shared.index_ports import Embedded, Vectors
from planes.shared.stores.generation_places import GenerationPlaces


class ChunksByGeneration(GenerationPlaces):
    """Passes each call on to the store that has the generation.

    What the port `ChunkStore` says holds here too. Besides, every method raises `Unavailable` where
    a generation stands in a store that this process has no address of.
    """

    async def search(
        self, question: str, vector: Vectors, *, scope: SearchScope, depth: int
    ) -> Arms:
        """Return the best `depth` chunks in `scope`, by meaning and by words."""
        store = await self.holding(scope.generation)
        return await store.search(question, vector, scope=scope, depth=depth)

    async def chunks_of(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> list[Chunk]:
        """Return the chunks with these ids, those that there are."""
        store = await self.holding(generation)
        return await store.chunks_of(tenant_id, chunk_ids, generation=generation)

    async def chunks_at(
        self, tenant_id: UUID, places: Sequence[tuple[UUID, int]], *, generation: int
    ) -> list[Chunk]:
        """Return the chunks at (version, ordinal)."""
        store = await self.holding(generation)
        return await store.chunks_at(tenant_id, places, generation=generation)

    async def chunks_around(
        self, tenant_id: UUID, spans: Sequence[tuple[UUID, int, int]], *, generation: int
    ) -> list[Chunk]:
        """Return every chunk that holds the whole of at least one span."""
        store = await self.holding(generation)
        return await store.chunks_around(tenant_id, spans, generation=generation)

    async def headings(
        self, tenant_id: UUID, version_id: UUID, *, generation: int, limit: int
    ) -> list[Heading]:
        """Return the first different headings of a version."""
        store = await self.holding(generation)
        return await store.headings(tenant_id, version_id, generation=generation, limit=limit)

    async def replace_versions(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Make `chunks` the whole content of their versions."""
        store = await self.holding(generation)
        await store.replace_versions(chunks, vectors, generation=generation)

    async def add_chunks(
        self, chunks: Sequence[Chunk], vectors: Vectors, *, generation: int
    ) -> None:
        """Add chunks; one with an id that is there already replaces it."""
        store = await self.holding(generation)
        await store.add_chunks(chunks, vectors, generation=generation)

    async def count_versions(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, int]:
        """Return how many chunks of each version a search would find."""
        store = await self.holding(generation)
        return await store.count_versions(tenant_id, version_ids, generation=generation)

    async def count_everywhere(self, tenant_id: UUID, version_ids: Sequence[UUID]) -> int:
        """Return how many chunks versions have in all generations of all stores together."""
        stores = await self.holding_any()
        return sum([await store.count_everywhere(tenant_id, version_ids) for store in stores])

    async def remove_everywhere(self, tenant_id: UUID, version_id: UUID) -> int:
        """Remove a version's chunks from every store and return how many there were."""
        stores = await self.holding_any()
        return sum([await store.remove_everywhere(tenant_id, version_id) for store in stores])

    async def remove_tenant(self, tenant_id: UUID) -> int:
        """Remove every chunk of a tenant from every store and return how many there were."""
        return sum([await store.remove_tenant(tenant_id) for store in await self.holding_any()])

    async def fingerprints(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> dict[UUID, str]:
        """Return a version's chunks by their ids, each with what `fingerprint` gives for it."""
        store = await self.holding(generation)
        return await store.fingerprints(tenant_id, version_id, generation=generation)

    async def remove_chunks(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> None:
        """Remove single chunks, those that there are."""
        store = await self.holding(generation)
        await store.remove_chunks(tenant_id, chunk_ids, generation=generation)

    async def pages(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> list[tuple[int, int, int]]:
        """Return (page, lowest start, highest end) of a version's pages with chunks, by page."""
        store = await self.holding(generation)
        return await store.pages(tenant_id, version_id, generation=generation)

    async def vectors(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, Vectors]:
        """Return the vectors of chunks, those that there are, as they were written."""
        store = await self.holding(generation)
        return await store.vectors(tenant_id, chunk_ids, generation=generation)

    async def embedded_chunks(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> AsyncGenerator[list[Embedded], None]:
        """Yield every chunk of versions with its vector, once, at most 500 at a time."""
        store = await self.holding(generation)
        found = store.embedded_chunks(tenant_id, version_ids, generation=generation)
        async with aclosing(found):
            async for some in found:
                yield some

    async def tenants(self, *, generation: int) -> list[UUID]:
        """Return the tenants that have chunks."""
        return await (await self.holding(generation)).tenants(generation=generation)

    async def version_counts(
        self, tenant_id: UUID, *, generation: int
    ) -> AsyncGenerator[list[VersionCount], None]:
        """Yield every version of a tenant that has chunks, once, about 1,000 at a time."""
        store = await self.holding(generation)
        async with aclosing(store.version_counts(tenant_id, generation=generation)) as found:
            async for some in found:
                yield some

    async def generations(self) -> dict[int, int]:
        """Return the dimensions of the generations, each where the registry says that it is."""
        found: dict[int, int] = {}
        kinds = await self.kinds()
        for kind in sorted(set(kinds.values())):
            held = await (await self.kept_in(kind)).generations()
            found |= {number: size for number, size in held.items() if kinds.get(number) == kind}
        return found

    async def create_generation(self, number: int, dimension: int) -> None:
        """Make room for a generation that the registry knows."""
        await (await self.holding(number)).create_generation(number, dimension)

    async def drop_generation(self, number: int) -> None:
        """Remove a generation that the registry knows, and all its chunks, if it is there."""
        await (await self.holding(number)).drop_generation(number)
