"""Chunks in Qdrant as they are read, counted and listed."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID

from qdrant_client import AsyncQdrantClient, models

from planes.shared.domain import Chunk, Heading, VersionCount, chunk_id
from planes.shared.errors import InvalidInput
from planes.shared.index_ports import Embedded, Vectors
from planes.shared.indexing import fingerprint, headings_of, pages_of
from planes.shared.stores.qdrant_collections import QdrantCollections
from planes.shared.stores.qdrant_points import (
    DENSE,
    TENANT,
    VERSION,
    belongs_to,
    chunk_of,
    dense_vector_of,
    has_id,
    holds_one_of,
    one_of,
    payload_of,
)
from planes.shared.stores.qdrant_server import CollectionAbsent, QdrantServer

PAGE = 1000  # points or ids in a request
_READ = 500  # chunks with their vectors
_SPANS = 100
_MOST_VALUES = 1_000_000

Item = TypeVar("Item")


class QdrantReading:
    """Reads chunks by what they are; `planes/shared/index_ports.py` has what is promised."""

    def __init__(self, server: QdrantServer, collections: QdrantCollections) -> None:
        """Store the server and its collections."""
        self._server = server
        self._collections = collections

    async def chunks_at(
        self, tenant_id: UUID, places: Sequence[tuple[UUID, int]], *, generation: int
    ) -> list[Chunk]:
        """Return the chunks at (version, ordinal), those that there are."""
        ids = [chunk_id(version_id, ordinal) for version_id, ordinal in places]
        return await self.chunks_of(tenant_id, ids, generation=generation)

    async def chunks_of(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> list[Chunk]:
        """Return the chunks with these ids, those that there are, none twice."""
        return [
            chunk_of(point)
            for some in in_pages(sorted(set(chunk_ids)), PAGE)
            async for point in self._scroll(generation, belongs_to(tenant_id, has_id(some)))
        ]

    async def chunks_around(
        self, tenant_id: UUID, spans: Sequence[tuple[UUID, int, int]], *, generation: int
    ) -> list[Chunk]:
        """Return every chunk that holds the whole of at least one span, none twice."""
        found: dict[UUID, Chunk] = {}
        for some in in_pages(spans, _SPANS):
            wanted = belongs_to(tenant_id, holds_one_of(some))
            async for point in self._scroll(generation, wanted):
                chunk = chunk_of(point)
                found[chunk.id] = chunk
        return list(found.values())

    async def headings(
        self, tenant_id: UUID, version_id: UUID, *, generation: int, limit: int
    ) -> list[Heading]:
        """Return the first different headings of a version, each with its lowest page."""
        fields = ["heading", "start", "page"]
        rows = await self._rows(tenant_id, version_id, generation, fields)
        return headings_of(rows, limit=limit)

    async def pages(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> list[tuple[int, int, int]]:
        """Return (page, lowest start, highest end) of a version's pages with chunks, by page."""
        fields = ["page", "start", "end"]
        return pages_of(await self._rows(tenant_id, version_id, generation, fields))

    async def fingerprints(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> dict[UUID, str]:
        """Return a version's chunks by their ids, each with what `fingerprint` gives for it."""
        chunks = [
            chunk_of(point)
            async for point in self._scroll(generation, of_versions(tenant_id, [version_id]))
        ]
        return {chunk.id: fingerprint(chunk) for chunk in chunks}

    async def vectors(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, Vectors]:
        """Return the vectors of chunks, those that there are, as they were written."""
        return {
            UUID(str(point.id)): dense_vector_of(point)
            for some in in_pages(chunk_ids, PAGE)
            async for point in self._scroll(
                generation, belongs_to(tenant_id, has_id(some)), fields=[], with_vectors=[DENSE]
            )
        }

    async def embedded_chunks(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> AsyncGenerator[list[Embedded], None]:
        """Yield every chunk of versions with its vector, by their ids."""
        for some in in_pages(sorted(set(version_ids)), PAGE):
            wanted = of_versions(tenant_id, some)
            rows: list[Embedded] = []
            async for point in self._scroll(generation, wanted, with_vectors=[DENSE]):
                rows.append((chunk_of(point), dense_vector_of(point)))
                if len(rows) == _READ:
                    yield rows
                    rows = []
            if rows:
                yield rows

    async def count_versions(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, int]:
        """Return how many chunks of each version a search would find; Qdrant lags behind nothing.

        Every write waits until its points can be searched.
        """
        counts: dict[UUID, int] = {}
        for some in in_pages(version_ids, PAGE):
            wanted = of_versions(tenant_id, some)
            counts |= await self._count_by(VERSION, generation, wanted, limit=PAGE)
        return counts

    async def tenants(self, *, generation: int) -> list[UUID]:
        """Return the tenants that have chunks.

        Raises:
            InvalidInput: There are a million and more.
        """
        return list(await self._count_by(TENANT, generation, None, limit=_MOST_VALUES))

    async def version_counts(
        self, tenant_id: UUID, *, generation: int
    ) -> AsyncGenerator[list[VersionCount], None]:
        """Yield every version of a tenant that has chunks, once, 1,000 at a time.

        A chunk's id is that of its place, so there are as many places as chunks.

        Raises:
            InvalidInput: There are a million and more.
        """
        counts = await self._count_by(
            VERSION, generation, belongs_to(tenant_id), limit=_MOST_VALUES
        )
        for some in in_pages(list(counts.items()), PAGE):
            yield [VersionCount(version_id, chunks, chunks) for version_id, chunks in some]

    async def _count_by(
        self, field: str, generation: int, wanted: models.Filter | None, *, limit: int
    ) -> dict[UUID, int]:
        """Return how many points have each value of a field, of those that are wanted."""
        name = self._collections.name(generation)
        try:
            answer = await self._server.write(
                lambda client: client.facet(name, field, wanted, limit=limit, exact=True)
            )
        except CollectionAbsent:
            return {}
        if len(answer.hits) == _MOST_VALUES:
            raise InvalidInput(f"Qdrant counts no more than {_MOST_VALUES:,} values of {field}.")
        return {UUID(str(hit.value)): hit.count for hit in answer.hits if hit.count}

    async def _rows(
        self, tenant_id: UUID, version_id: UUID, generation: int, fields: list[str]
    ) -> list[dict[str, Any]]:
        wanted = of_versions(tenant_id, [version_id])
        return [
            dict(payload_of(point))
            async for point in self._scroll(generation, wanted, fields=fields)
        ]

    async def _scroll(
        self,
        generation: int,
        wanted: models.Filter,
        *,
        fields: list[str] | None = None,
        with_vectors: list[str] | None = None,
    ) -> AsyncGenerator[models.Record, None]:
        """Yield points by their ids, with all fields or some, and with no vector or some."""
        name, after = self._collections.name(generation), None

        async def page(client: AsyncQdrantClient) -> tuple[list[models.Record], Any]:
            return await client.scroll(
                name,
                wanted,
                limit=PAGE,
                offset=after,
                with_payload=True if fields is None else fields or False,
                with_vectors=with_vectors or False,
            )

        while True:
            try:
                points, after = await self._server.call(page)
            except CollectionAbsent:
                return
            for point in points:
                yield point
            if after is None:
                return


def of_versions(tenant_id: UUID, version_ids: Sequence[UUID]) -> models.Filter:
    """Return a filter on the chunks of versions."""
    return belongs_to(tenant_id, one_of(VERSION, version_ids))


def in_pages(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Yield items, at most `size` at a time."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
