"""What registry and chunk store count, tenant by tenant, while documents come and go."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from planes.shared.domain import VersionCount
from planes.shared.index_ports import ChunkWriter
from planes.shared.stores.postgres import Database

_KNOWN = """
SELECT id, chunk_count, visibility = 'live' AND status = 'ready' AS is_settled
FROM document_versions
WHERE tenant_id = $1 AND visibility IN ('live', 'hidden') AND ($2::uuid[] IS NULL OR id = ANY ($2))
"""
_LIVE = "SELECT number FROM generations WHERE state = 'live'"
_NONE = VersionCount(UUID(int=0), 0, 0)


@dataclass(frozen=True, slots=True)
class TenantCounts:
    """Of one tenant, in the live generation.

    Attributes:
        tenant_id: Whose.
        versions: Searchable versions that are not in work.
        registry_chunks: Their chunks by the registry.
        index_chunks: Their chunks by the index.
        differing: Versions where these differ.
        orphans: Chunks without a version that may have some.
        repeated: Chunks whose place in their version another one has too.
    """

    tenant_id: UUID
    versions: int
    registry_chunks: int
    index_chunks: int
    differing: int
    orphans: int
    repeated: int


@dataclass(frozen=True, slots=True)
class _Known:
    chunks: int
    is_settled: bool


class IndexCounter:
    """Counts in the registry and in the chunk store, and looks twice at what differs.

    Raises `Unavailable` where one of them does not answer.
    """

    def __init__(self, database: Database, store: ChunkWriter) -> None:
        """Store both."""
        self._database = database
        self._store = store

    async def count(self) -> list[TenantCounts]:
        """Return the counts of every tenant that has versions or chunks, by its id.

        Where another generation goes live meanwhile, it counts anew in that one.
        """
        while True:
            generation = await self._live()
            tenants = await self._tenants(generation)
            counts = [await self._of(tenant_id, generation) for tenant_id in tenants]
            if await self._live() == generation:
                return counts

    async def _of(self, tenant_id: UUID, generation: int) -> TenantCounts:
        # the chunks first: a version that is known later is known with all that it has
        found = {
            one.version_id: one
            async for some in self._store.version_counts(tenant_id, generation=generation)
            for one in some
        }
        known = await self._known(tenant_id, None)
        doubtful = {
            id_
            for id_ in known.keys() | found.keys()
            if _differs(known.get(id_), found.get(id_, _NONE).chunks)
        }
        shown = {id_: one.chunks for id_, one in found.items()}
        if doubtful:  # what came or went in between is no fault
            again = await self._store.count_versions(
                tenant_id, list(doubtful), generation=generation
            )
            still = await self._known(tenant_id, doubtful)
            shown |= {id_: again.get(id_, 0) for id_ in doubtful}
            known = {id_: one for id_, one in known.items() if id_ not in doubtful} | still
        settled = {id_: one for id_, one in known.items() if one.is_settled}
        return TenantCounts(
            tenant_id,
            versions=len(settled),
            registry_chunks=sum(one.chunks for one in settled.values()),
            index_chunks=sum(shown.get(id_, 0) for id_ in settled),
            differing=sum(one.chunks != shown.get(id_, 0) for id_, one in settled.items()),
            orphans=sum(chunks for id_, chunks in shown.items() if id_ not in known),
            repeated=sum(one.chunks - one.places for one in found.values()),
        )

    async def _known(self, tenant_id: UUID, only: Iterable[UUID] | None) -> dict[UUID, _Known]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_KNOWN, tenant_id, None if only is None else list(only))
        return {row["id"]: _Known(row["chunk_count"] or 0, row["is_settled"]) for row in rows}

    async def _tenants(self, generation: int) -> list[UUID]:
        async with self._database.platform() as connection:
            rows = await connection.fetch("SELECT registered_tenants() AS id")
        registered = {row["id"] for row in rows}
        return sorted(registered.union(await self._store.tenants(generation=generation)))

    async def _live(self) -> int:
        async with self._database.platform() as connection:
            return int(await connection.fetchval(_LIVE))


def _differs(known: _Known | None, chunks: int) -> bool:
    """Tell whether a version is unknown but has chunks, or has another number of them."""
    if known is None:
        return chunks > 0
    return known.is_settled and known.chunks != chunks
