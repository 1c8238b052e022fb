"""What the data plane asks of chunks in MongoDB: counts, digests, pages, vectors."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from uuid import UUID

import numpy as np

from planes.shared.domain import VersionCount
from planes.shared.index_ports import Embedded, Vectors
from planes.shared.indexing import CHUNK_FIELDS, fingerprint, pages_of
from planes.shared.stores.mongo import Document, Mongo
from planes.shared.stores.mongo_documents import (
    VECTOR,
    any_of,
    chunk_of,
    texts,
    vector_of,
)
from planes.shared.stores.mongo_generations import MongoGenerations
from planes.shared.stores.mongo_search import MOST_CANDIDATES, IndexedSearch

_AT_ONCE = 1000
_READ = 500  # chunks with their vectors at a time
_FIRST_LOOK_S, _LOOK_S = 0.05, 1.0


class MongoChunkChecks:
    """Looks at what was written; what the port `ChunkWriter` says."""

    def __init__(
        self, mongo: Mongo, generations: MongoGenerations, indexes: IndexedSearch | None
    ) -> None:
        """Store the server, its collections, and its search indexes, which lag behind them."""
        self._mongo = mongo
        self._generations = generations
        self._indexes = indexes

    async def count_versions(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, int]:
        """Return how many chunks of each version a search finds, once it finds all of them.

        After the deadline it returns what the search indexes show until then.
        """
        stored = await self._stored(tenant_id, version_ids, generation)
        if self._indexes is None:
            return {UUID(version): count for version, count in stored.items()}
        shown: dict[UUID, int] = {}
        for some in _groups(stored):
            counts = await self._indexed(self._indexes, str(tenant_id), some, generation)
            shown |= {UUID(version): count for version, count in counts.items()}
        return shown

    async def _indexed(
        self, indexes: IndexedSearch, tenant_id: str, stored: Mapping[str, int], generation: int
    ) -> dict[str, int]:
        collection = self._generations.collection(generation)
        dimension = (await self._generations.dimensions())[generation]
        probe = np.full(dimension, dimension**-0.5, np.float32)
        loop, pause_s = asyncio.get_running_loop(), _FIRST_LOOK_S
        end = loop.time() + self._mongo.deadline_s
        while True:
            shown = await indexes.counts(collection, tenant_id, stored, probe)
            whole = {version: _shown(stored[version], count) for version, count in shown.items()}
            if whole == stored or loop.time() > end:
                return whole
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LOOK_S)

    async def count_everywhere(self, tenant_id: UUID, version_ids: Sequence[UUID]) -> int:
        """Return how many chunks versions have in all generations together."""
        count = 0
        for number in await self._generations.dimensions():
            count += sum((await self._stored(tenant_id, version_ids, number)).values())
        return count

    async def _stored(
        self, tenant_id: UUID, version_ids: Sequence[UUID], generation: int
    ) -> dict[str, int]:
        collection, versions = self._generations.collection(generation), texts(version_ids)
        counts: dict[str, int] = {}
        for first in range(0, len(versions), _AT_ONCE):
            wanted = _of(tenant_id) | {"version_id": any_of(versions[first : first + _AT_ONCE])}
            count = {"$group": {"_id": "$version_id", "chunks": {"$sum": 1}}}
            with self._mongo.waiting():
                async for row in await collection.aggregate([{"$match": wanted}, count]):
                    counts[row["_id"]] = row["chunks"]
        return counts

    async def fingerprints(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> dict[UUID, str]:
        """Return a version's chunks by their ids, each with what `fingerprint` gives for it."""
        wanted = _of(tenant_id) | {"version_id": str(version_id)}
        collection = self._generations.collection(generation)
        with self._mongo.waiting():
            found = collection.find(wanted, dict.fromkeys(CHUNK_FIELDS, 1))
            return {UUID(row["_id"]): fingerprint(chunk_of(row)) async for row in found}

    async def pages(
        self, tenant_id: UUID, version_id: UUID, *, generation: int
    ) -> list[tuple[int, int, int]]:
        """Return (page, lowest start, highest end) of a version's pages with chunks, by page."""
        wanted = _of(tenant_id) | {"version_id": str(version_id), "page": {"$ne": None}}
        return pages_of(await self._rows(wanted, ("page", "start", "end"), generation))

    async def vectors(
        self, tenant_id: UUID, chunk_ids: Sequence[UUID], *, generation: int
    ) -> dict[UUID, Vectors]:
        """Return the vectors of chunks, those that there are, as they were written."""
        found: dict[UUID, Vectors] = {}
        for first in range(0, len(chunk_ids), _AT_ONCE):
            some = texts(chunk_ids[first : first + _AT_ONCE])
            wanted = _of(tenant_id) | {"_id": {"$in": some}}
            rows = await self._rows(wanted, (VECTOR,), generation)
            found |= {UUID(row["_id"]): vector_of(row) for row in rows}
        return found

    async def embedded_chunks(
        self, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
    ) -> AsyncGenerator[list[Embedded], None]:
        """Yield every chunk of versions with its vector; each batch has the deadline of its own."""
        collection = self._generations.collection(generation)
        fields = dict.fromkeys((*CHUNK_FIELDS, VECTOR), 1)
        versions = texts(sorted(set(version_ids)))
        for first in range(0, len(versions), _AT_ONCE):
            some = versions[first : first + _AT_ONCE]
            wanted = _of(tenant_id) | {"version_id": any_of(some)}
            async with collection.find(wanted, fields, batch_size=_READ) as cursor:
                while True:
                    with self._mongo.waiting():
                        rows = await cursor.to_list(_READ)
                    if not rows:
                        break
                    yield [(chunk_of(row), vector_of(row)) for row in rows]

    async def tenants(self, *, generation: int) -> list[UUID]:
        """Return the tenants that have chunks."""
        each = {"$group": {"_id": "$tenant_id"}}
        with self._mongo.waiting():
            found = await self._generations.collection(generation).aggregate([each])
            return [UUID(row["_id"]) async for row in found]

    async def version_counts(
        self, tenant_id: UUID, *, generation: int
    ) -> AsyncGenerator[list[VersionCount], None]:
        """Yield every version of a tenant that has chunks, once, about 1,000 at a time."""
        counts: dict[str, list[int]] = {}  # of a version: chunks, ordinals, the last ordinal
        with self._mongo.waiting():
            found = self._generations.collection(generation).find(
                _of(tenant_id),
                {"_id": 0, "version_id": 1, "ordinal": 1},  # the index holds these
                sort=[("version_id", 1), ("ordinal", 1)],
            )
            async for row in found:
                count = counts.setdefault(row["version_id"], [0, 0, -1])
                count[0] += 1
                count[1] += row["ordinal"] != count[2]
                count[2] = row["ordinal"]
        versions = [VersionCount(UUID(one), count[0], count[1]) for one, count in counts.items()]
        for first in range(0, len(versions), _AT_ONCE):
            yield versions[first : first + _AT_ONCE]

    async def _rows(
        self, wanted: Document, fields: Sequence[str], generation: int
    ) -> list[Document]:
        collection = self._generations.collection(generation)
        with self._mongo.waiting():
            return await collection.find(wanted, dict.fromkeys(fields, 1)).to_list()


def _of(tenant_id: UUID) -> Document:
    return {"tenant_id": str(tenant_id)}


def _shown(stored: int, shown: int) -> int:
    """Return how many chunks of a version are shown, where more cannot be counted all of them."""
    return stored if shown >= MOST_CANDIDATES else shown


def _groups(stored: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Yield versions with 10,000 chunks together at most, and those with more alone."""
    group: dict[str, int] = {}
    for version, count in stored.items():
        if group and sum(group.values()) + count > MOST_CANDIDATES:
            yield group
            group = {}
        group[version] = count
    if group:
        yield group
