"""Removes what deleted documents and superseded versions left in the stores."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from planes.shared.domain import document_prefix
from planes.shared.index_ports import ChunkWriter
from planes.shared.ports import ObjectStore
from planes.shared.stores.postgres import Database
from planes.shared.stores.redis_caches import CachesUnavailable, RedisCaches

_LEASE = timedelta(seconds=60)
_IN_WORK = """
SELECT EXISTS (SELECT FROM document_versions WHERE document_id = $1 AND lease_until > now())
"""
_NOTE = """
UPDATE deletions SET chunks = greatest(chunks, $3), files = greatest(files, $4)
WHERE id = $1 AND lease_owner = $2
"""
_CORPUS_VERSION = "SELECT corpus_version FROM tenants WHERE id = $1"
_NOTE_CACHED = """
UPDATE deletions SET cache_entries = greatest(cache_entries, $3)
WHERE id = $1 AND lease_owner = $2
"""
_COMPLETE = """
UPDATE deletions SET completed_at = now(), lease_owner = NULL, lease_until = NULL
WHERE id = $1 AND lease_owner = $2
"""
_LOCK_DELETED_TENANT = """
SELECT true FROM tenants WHERE id = $1 AND deleted_at IS NOT NULL FOR UPDATE
"""
_IS_LAST = """
SELECT NOT EXISTS (SELECT FROM deletions
                   WHERE tenant_id = $1 AND id <> $2 AND completed_at IS NULL)
"""
_ADD_CHUNKS = "UPDATE deletions SET chunks = chunks + $3 WHERE id = $1 AND lease_owner = $2"
_POSTPONE = """
UPDATE deletions SET lease_owner = NULL, lease_until = now() + interval '5 seconds'
WHERE id = $1 AND lease_owner = $2
"""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed."""

    documents: int = 0
    versions: int = 0
    chunks: int = 0
    files: int = 0
    cache_entries: int = 0

    def __add__(self, other: "Removed") -> "Removed":
        """Return both together."""
        return Removed(
            self.documents + other.documents,
            self.versions + other.versions,
            self.chunks + other.chunks,
            self.files + other.files,
            self.cache_entries + other.cache_entries,
        )


@dataclass(frozen=True, slots=True)
class DocumentStores:
    """Every store that holds something of documents; None for caches that are not configured."""

    database: Database
    chunks: ChunkWriter
    objects: ObjectStore
    caches: RedisCaches | None = None


class Remover:
    """Removes in the name of one worker; every step can be repeated.

    Every method raises `Unavailable` where the database does not answer.
    """

    def __init__(self, stores: DocumentStores, *, worker: str) -> None:
        """Store the places from which it removes, and the name under which it holds leases."""
        self._database = stores.database
        self._store = stores.chunks
        self._objects = stores.objects
        self._caches = stores.caches
        self._worker = worker

    async def remove_deleted(self, *, documents: int) -> Removed:
        """Remove what is left of up to `documents` tombstoned documents, with receipts.

        Raises:
            ExceptionGroup: Files or cached answers that could not be removed; those documents are
                tried again.
        """
        async with self._database.platform() as connection:
            rows = await connection.fetch(
                "SELECT id, tenant_id, document_id FROM claim_deletions($1, $2, $3)",
                self._worker,
                documents,
                _LEASE,
            )
        removed, errors = Removed(), []
        for row in rows:
            try:
                removed += await self._remove(row["id"], row["tenant_id"], row["document_id"])
            except (OSError, CachesUnavailable) as error:  # must not hold up the other deletions
                errors.append(error)
        if errors:
            raise ExceptionGroup("something of deleted documents is still there", errors)
        return removed

    async def remove_stale(self, *, versions: int) -> Removed:
        """Remove the chunks of up to `versions` that newer ones replaced or that were given up."""
        async with self._database.platform() as connection:
            rows = await connection.fetch(
                "SELECT id, tenant_id FROM claim_stale_versions($1, $2, $3)",
                self._worker,
                versions,
                _LEASE,
            )
        removed = Removed()
        for row in rows:
            chunks = await self.retire(row["tenant_id"], row["id"])
            removed += Removed(versions=1, chunks=chunks)
        return removed

    async def retire(self, tenant_id: UUID, version_id: UUID) -> int:
        """Remove a version's chunks of every generation, with its word counts; count the chunks."""
        chunks = await self._store.remove_everywhere(tenant_id, version_id)
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute("SELECT retire_version($1)", version_id)
        return chunks

    async def _remove(self, deletion_id: UUID, tenant_id: UUID, document_id: UUID) -> Removed:
        async with self._database.tenant(tenant_id) as connection:
            if await connection.fetchval(_IN_WORK, document_id):
                await connection.execute(_POSTPONE, deletion_id, self._worker)
                return Removed()
            versions = await connection.fetch(
                "SELECT id FROM document_versions WHERE document_id = $1", document_id
            )
        ids, prefix = [row["id"] for row in versions], document_prefix(tenant_id, document_id)
        # before anything is removed: the receipt is exact whatever ends this attempt
        chunks = await self._store.count_everywhere(tenant_id, ids)
        files = await self._objects.count_prefix(prefix)
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(_NOTE, deletion_id, self._worker, chunks, files)
        removed = Removed(documents=1)
        for version_id in ids:
            removed += Removed(versions=1, chunks=await self.retire(tenant_id, version_id))
        removed += Removed(files=await self._objects.remove_prefix(prefix))
        removed += Removed(cache_entries=await self._forget_answers(deletion_id, tenant_id))
        return removed + await self._complete(deletion_id, tenant_id)

    async def _complete(self, deletion_id: UUID, tenant_id: UUID) -> Removed:
        """Close a receipt; with a deleted tenant's last one goes whatever the index still has."""
        chunks: int | None = None
        while not await self._close(deletion_id, tenant_id, chunks):
            chunks = await self._store.remove_tenant(tenant_id)  # while no row is locked
        return Removed(chunks=chunks or 0)

    async def _close(self, deletion_id: UUID, tenant_id: UUID, chunks: int | None) -> bool:
        """Close a receipt unless it is a deleted tenant's last, whose index was not removed yet.

        Args:
            deletion_id: Which receipt.
            tenant_id: Whose.
            chunks: What was removed with the tenant; None: nothing was looked for yet.
        """
        async with self._database.tenant(tenant_id) as connection:
            if chunks is not None:
                await connection.execute(_ADD_CHUNKS, deletion_id, self._worker, chunks)
            elif await connection.fetchval(_LOCK_DELETED_TENANT, tenant_id) and (
                await connection.fetchval(_IS_LAST, tenant_id, deletion_id)
            ):
                return False
            await connection.execute(_COMPLETE, deletion_id, self._worker)
        return True

    async def _forget_answers(self, deletion_id: UUID, tenant_id: UUID) -> int:
        """Remove what was cached of the tenant's documents before this one was deleted.

        Any of it may quote the document. Answers under way that were begun before are not kept.
        """
        if self._caches is None:
            return 0
        async with self._database.tenant(tenant_id) as connection:
            version = await connection.fetchval(_CORPUS_VERSION, tenant_id)
        keys = await self._caches.seal(tenant_id, version)
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(_NOTE_CACHED, deletion_id, self._worker, len(keys))
        return await self._caches.remove(tenant_id, keys)
