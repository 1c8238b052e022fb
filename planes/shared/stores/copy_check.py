"""Compares two generations that hold the same chunks, to the last bit, tenant by tenant."""

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from planes.shared.index_ports import ChunkWriter
from planes.shared.stores.chunk_digests import Digests, digests_of
from planes.shared.stores.postgres import Database
from planes.shared.stores.searchable_versions import SearchableVersion, searchable_versions

_GROUP = 10_000  # chunks that are read together, by what was counted of their versions
_BOTH = """
SELECT w.version_id FROM version_terms w
JOIN document_versions v ON v.id = w.version_id
WHERE w.tenant_id = $1 AND w.version_id = ANY ($2) AND w.generation = ANY ($3) AND w.counted
  AND v.visibility = 'live' AND v.status = 'ready'
GROUP BY 1 HAVING count(*) = 2
"""
_MISSING = """
SELECT count(*) FROM document_versions v JOIN documents d ON d.id = v.document_id
WHERE v.tenant_id = $1 AND v.id = ANY ($2) AND v.published_at < $4
  AND v.visibility = 'live' AND d.deleted_at IS NULL
  AND 2 > (SELECT count(*) FROM version_terms w
           WHERE w.version_id = v.id AND w.generation = ANY ($3) AND w.counted)
"""


@dataclass(slots=True)
class TenantComparison:
    """One tenant in both generations.

    Attributes:
        tenant_id: Whose.
        versions: Those that were compared: searchable, and counted in both.
        chunks: Of these versions, first in the one generation, then in the other.
        sha256: Over the versions by their ids, each with the digests of its chunks, in both.
        differing: Versions whose chunks or vectors are not the same.
        missing: How many more are searchable, but not whole in both.
    """

    tenant_id: UUID
    versions: int = 0
    chunks: tuple[int, int] = (0, 0)
    sha256: tuple[str, str] = ("", "")
    differing: list[UUID] = field(default_factory=list)
    missing: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs, and nothing is missing."""
        return not self.differing and not self.missing


class CopyCheck:
    """Reads both generations while documents come and go, and looks twice at what differs.

    It needs the owner of the schema. Every method raises `Unavailable` where a store does not
    answer.
    """

    def __init__(self, database: Database, store: ChunkWriter, *, source: int, target: int) -> None:
        """Store the registry, the chunks, and the numbers of both generations."""
        self._database = database
        self._store = store
        self._numbers = (source, target)

    async def compare(
        self, *, published_before: datetime | None = None
    ) -> AsyncIterator[TenantComparison]:
        """Yield the comparison of each tenant that has searchable documents, by its id.

        Args:
            published_before: What was published later may be missing; None: before this call.
        """
        until = published_before or await now_of(self._database)
        versions: dict[UUID, list[SearchableVersion]] = defaultdict(list)
        async for page in searchable_versions(self._database, self._numbers[1]):
            for version in page:
                versions[version.tenant_id].append(version)
        for tenant_id in sorted(versions):
            yield await self._compared(tenant_id, versions.pop(tenant_id), until)

    async def doubt(self, found: TenantComparison) -> None:
        """Have the builder look again at versions that differ."""
        async with self._database.tenant(found.tenant_id) as connection:
            await connection.execute(
                "SELECT doubt_versions($1, $2, $3)",
                found.tenant_id,
                found.differing,
                self._numbers[1],
            )

    async def _compared(
        self, tenant_id: UUID, versions: Sequence[SearchableVersion], until: datetime
    ) -> TenantComparison:
        found, hashes = TenantComparison(tenant_id), (hashlib.sha256(), hashlib.sha256())
        for group in _groups(versions):
            counted = await self._counted(tenant_id, group)
            if absent := list(set(group) - set(counted)):
                found.missing += await self._missing(tenant_id, absent, until)
            here, there = await self._read(tenant_id, counted)
            doubtful = [one for one in counted if here[one] != there[one]]
            if doubtful:  # what came, went or was replaced in between is no fault
                still = await self._counted(tenant_id, doubtful)
                again = await self._read(tenant_id, still)
                for one in doubtful:
                    here[one], there[one] = again[0][one], again[1][one]
                    if one in still and here[one] != there[one]:
                        found.differing.append(one)
                counted = [one for one in counted if one in still or one not in doubtful]
            found.versions += len(counted)
            found.chunks = (
                found.chunks[0] + sum(len(here[one]) for one in counted),
                found.chunks[1] + sum(len(there[one]) for one in counted),
            )
            for digests, total in ((here, hashes[0]), (there, hashes[1])):
                for one in sorted(counted):
                    total.update(one.bytes + b"".join(sorted(digests[one].values())))
        found.sha256 = (hashes[0].hexdigest(), hashes[1].hexdigest())
        return found

    async def _counted(self, tenant_id: UUID, ids: Sequence[UUID]) -> list[UUID]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_BOTH, tenant_id, list(ids), list(self._numbers))
        return [row["version_id"] for row in rows]

    async def _missing(self, tenant_id: UUID, ids: list[UUID], until: datetime) -> int:
        """Return how many of these are searchable since before `until`, and not whole in both."""
        async with self._database.tenant(tenant_id) as connection:
            numbers = list(self._numbers)
            return int(await connection.fetchval(_MISSING, tenant_id, ids, numbers, until))

    async def _read(self, tenant_id: UUID, ids: Sequence[UUID]) -> tuple[Digests, Digests]:
        """Return what both generations hold."""
        source, target = self._numbers
        return (
            await digests_of(self._store, tenant_id, ids, generation=source),
            await digests_of(self._store, tenant_id, ids, generation=target),
        )


async def now_of(database: Database) -> datetime:
    """Return the database's time, by which versions are published.

    Raises:
        Unavailable: It does not answer.
    """
    async with database.platform() as connection:
        now: datetime = await connection.fetchval("SELECT now()")
    return now


def _groups(versions: Sequence[SearchableVersion]) -> Iterator[list[UUID]]:
    group: list[UUID] = []
    chunks = 0
    for version in versions:
        if group and chunks + (version.chunks or 0) > _GROUP:
            yield group
            group, chunks = [], 0
        group.append(version.id)
        chunks += version.chunks or 0
    if group:
        yield group
