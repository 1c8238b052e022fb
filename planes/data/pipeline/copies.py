"""Copies versions' chunks from the live generation to one that holds the same, in another store.

A group of versions is read from both, what the other lacks is written while the versions are held
in the registry, and the group is read back: a version counts in the copy only where every chunk and
vector came back as the live generation has it. A copy that was killed writes only what is not there
yet, and what is published, replaced or deleted meanwhile is as in any other generation.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import numpy as np
import structlog

from planes.data.pipeline.turn import Built, Turn
from planes.shared.errors import Unavailable
from planes.shared.index_ports import ChunkWriter, Embedded
from planes.shared.indexing import digest
from planes.shared.stores.chunk_digests import Digests, digests_of
from planes.shared.stores.postgres import Database
from planes.shared.stores.searchable_versions import (
    SearchableVersion,
    incomplete,
    searchable_versions,
)

_GROUP = 10_000  # chunks of several versions that are read together, at most
_SLICE = 50  # chunks that are written while their versions are held
_HOLD_S = 3.0  # less than a deletion waits for
_REGISTERED = "SELECT id, chunk_count FROM document_versions WHERE id = ANY ($1)"
_HOLD = """
SELECT v.id FROM document_versions v
JOIN unnest($1::uuid[], $2::timestamptz[]) AS u (id, published_at)
  ON u.id = v.id AND u.published_at = v.published_at
WHERE v.visibility = 'live' ORDER BY v.id FOR SHARE OF v SKIP LOCKED
"""
_IS_DAMAGED = """
SELECT EXISTS (SELECT FROM document_versions v
               WHERE v.id = $1 AND v.published_at = $2 AND v.visibility = 'live'
                 AND v.status = 'ready')
   AND NOT EXISTS (SELECT FROM version_terms w
                   WHERE w.version_id = $1 AND w.generation = $3 AND w.counted AND w.chunks = $4)
"""
_COMPLETE = """
SELECT complete_version($1, $2, $3, w.language, w.terms, w.term_chunks, w.chunks)
FROM version_terms w WHERE w.version_id = $1 AND w.generation = $4 AND w.counted AND w.chunks = $5
"""
_DIFFERS = (
    "What the live index holds of it is not what was published. Process the document again, or "
    "delete it."
)
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Group:
    """Versions of one tenant, and the digests of their chunks by id, here and there."""

    tenant_id: UUID
    versions: list[SearchableVersion]
    source: Digests = field(default_factory=lambda: defaultdict(dict))
    target: Digests = field(default_factory=lambda: defaultdict(dict))

    @property
    def ids(self) -> list[UUID]:
        return [version.id for version in self.versions]


class VersionCopier:
    """Adds to a generation what it lacks of the live one's chunks.

    Raises `Unavailable` where a store fails: run it again.
    """

    def __init__(self, database: Database, store: ChunkWriter, *, source: int, target: int) -> None:
        """Store the registry, the chunks, and the numbers of both generations."""
        self._database = database
        self._store = store
        self._source = source
        self._target = target

    async def copy(self, turn: Turn, built: Built) -> None:
        """Add missing versions until none is left or the turn is over, and note what was done."""
        for exact in (False, True):  # what nobody added, then what does not count as it should
            built.failed.clear()
            async for page in searchable_versions(self._database, self._target):
                missing = [version for version in page if version.chunks is None]
                if exact:
                    missing = await incomplete(page, self._store, generation=self._target)
                async for group in self._groups(missing):
                    if not await self._copy(group, turn, built) or await turn.is_over():
                        return
        built.is_done = True

    async def _groups(self, versions: Sequence[SearchableVersion]) -> AsyncIterator[_Group]:
        """Yield versions of one tenant that have few chunks together, and those of many alone."""
        by_tenant: dict[UUID, list[SearchableVersion]] = defaultdict(list)
        for version in versions:
            by_tenant[version.tenant_id].append(version)
        for tenant_id, own in by_tenant.items():
            async with self._database.tenant(tenant_id) as connection:
                rows = await connection.fetch(_REGISTERED, [version.id for version in own])
            chunks: dict[UUID, int] = {row["id"]: row["chunk_count"] for row in rows}
            group: list[SearchableVersion] = []
            for version in own:
                together = sum(chunks.get(one.id, 0) for one in (*group, version))
                if group and together > _GROUP:
                    yield _Group(tenant_id, group)
                    group = []
                group.append(version)
            yield _Group(tenant_id, group)

    async def _copy(self, group: _Group, turn: Turn, built: Built) -> bool:
        """Make a group's versions whole; False where the turn ended before they were."""
        group.target = await self._read_target(group)
        found = self._store.embedded_chunks(group.tenant_id, group.ids, generation=self._source)
        async with aclosing(found):
            async for some in found:
                for one in some:
                    group.source[one[0].version_id][one[0].id] = digest(one)
                for lacking in _slices(self._lacking(group, some)):
                    if built.chunks and await turn.is_over():  # some progress in every turn
                        return False
                    built.chunks += await self._write(group, lacking)
        await self._remove_others(group)
        group.target = await self._read_target(group)
        built.versions += await self._complete(group, built)
        return True

    async def _read_target(self, group: _Group) -> Digests:
        return await digests_of(self._store, group.tenant_id, group.ids, generation=self._target)

    def _lacking(self, group: _Group, some: Sequence[Embedded]) -> list[Embedded]:
        return [
            one
            for one in some
            if group.target[one[0].version_id].get(one[0].id)
            != group.source[one[0].version_id][one[0].id]
        ]

    async def _write(self, group: _Group, some: Sequence[Embedded]) -> int:
        """Write chunks whose versions are still the published ones; return how many."""
        async with self._held(group, {chunk.version_id for chunk, _ in some}) as held:
            kept = [one for one in some if one[0].version_id in held]
            if kept:
                chunks, vectors = zip(*kept, strict=True)
                await self._store.add_chunks(chunks, np.stack(vectors), generation=self._target)
        return len(kept)

    @asynccontextmanager
    async def _held(self, group: _Group, wanted: set[UUID]) -> AsyncIterator[set[UUID]]:
        """Hold versions' rows, so that nobody replaces or deletes them while chunks are written.

        It yields those that are as they were looked up. Who holds one already is not waited for:
        it is being changed, and comes again where it is still missing. It raises `Unavailable`
        before those give up who wait for the rows.
        """
        own = [version for version in group.versions if version.id in wanted]
        columns = [version.id for version in own], [version.published_at for version in own]
        try:
            async with (
                asyncio.timeout(_HOLD_S),
                self._database.tenant(group.tenant_id) as connection,
            ):
                rows = await connection.fetch(_HOLD, *columns)
                yield {row["id"] for row in rows}
        except TimeoutError as error:
            raise Unavailable("The index takes too long to write. Try again later.") from error

    async def _remove_others(self, group: _Group) -> None:
        """Remove what the generation has of these versions and the live one has not."""
        others = [
            chunk_id
            for version_id, digests in group.target.items()
            for chunk_id in digests.keys() - group.source[version_id].keys()
        ]
        if others:
            await self._store.remove_chunks(group.tenant_id, others, generation=self._target)

    async def _complete(self, group: _Group, built: Built) -> int:
        """Count the versions that are there as they should be, and note those that cannot be.

        Their terms are counted as in the live generation.
        """
        shown = await self._store.count_versions(
            group.tenant_id, group.ids, generation=self._target
        )
        completed = 0
        for version in group.versions:
            digests = group.source[version.id]
            if group.target[version.id] != digests or shown.get(version.id) != len(digests):
                continue  # changed meanwhile, or not yet shown: it is still missing
            if await self._ask(_COMPLETE, version, self._target, self._source, len(digests)):
                completed += 1
            elif await self._ask(_IS_DAMAGED, version, self._source, len(digests)):
                built.failed.append(_failure(version))
        return completed

    async def _ask(self, question: str, version: SearchableVersion, *more: int) -> bool:
        async with self._database.tenant(version.tenant_id) as connection:
            return bool(
                await connection.fetchval(question, version.id, version.published_at, *more)
            )


def _slices(some: Sequence[Embedded]) -> Iterator[Sequence[Embedded]]:
    for first in range(0, len(some), _SLICE):
        yield some[first : first + _SLICE]


def _failure(version: SearchableVersion) -> dict[str, str]:
    _log.error("document not copied", document_id=str(version.document_id))
    return {
        "tenant_id": str(version.tenant_id),
        "document_id": str(version.document_id),
        "reason": _DIFFERS,
    }
