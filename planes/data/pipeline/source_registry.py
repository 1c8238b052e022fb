"""Watched sources and their files in the registry."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from planes.shared.domain import new_id
from planes.shared.stores.postgres import Database

_INTENT_LIFETIME = timedelta(minutes=10)
_NOTE_SCAN = """
UPDATE sources SET last_scan_at = now(), last_scan = coalesce($2, last_scan), last_error = $3
WHERE id = $1
"""
_FILES = """
SELECT f.key, f.mark, f.skipped, d.id AS document_id, f.missing_since IS NOT NULL AS is_missing,
       coalesce(f.retry_at <= now(), false) AS is_due,
       coalesce(f.missing_since <= now() - $2::interval, false) AS is_gone
FROM source_files f LEFT JOIN documents d ON d.id = f.document_id AND d.deleted_at IS NULL
WHERE f.source_id = $1
"""
_MARK_MISSING = """
UPDATE source_files SET missing_since = CASE WHEN $3 THEN now() END
WHERE source_id = $1 AND key = ANY ($2)
"""
_SKIP = """
INSERT INTO source_files (source_id, key, tenant_id, mark, skipped, retry_at)
SELECT s.id, $2, s.tenant_id, $3, $4, now() + $5 FROM sources s WHERE s.id = $1 FOR KEY SHARE
ON CONFLICT (source_id, key) DO UPDATE
SET mark = excluded.mark, skipped = excluded.skipped, retry_at = excluded.retry_at,
    missing_since = NULL
"""
_REGISTER = "SELECT register_source_file($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"


@dataclass(frozen=True, slots=True)
class WatchedSource:
    """A source that the operator has added.

    Attributes:
        location: An absolute path, or `s3://bucket/prefix`.
        deletes_missing: Whether a file that vanishes takes its document with it.
        has_owner: Whether the documents' owner is still a member who may upload.
    """

    id: UUID
    tenant_id: UUID
    kind: str
    location: str
    deletes_missing: bool
    has_owner: bool


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What was made of a key.

    Attributes:
        mark: Of the content that was looked at last.
        document_id: The document of this key; None where there is none, or it was deleted.
        is_missing: Whether the last scan did not find it.
        is_due: Whether it was skipped and is to be tried again, unchanged.
        is_gone: Whether it has been missing long enough for its document to be deleted.
    """

    mark: str
    document_id: UUID | None
    is_missing: bool
    is_due: bool
    is_gone: bool


@dataclass(frozen=True, slots=True)
class StoredCopy:
    """A source's file as it stands in the object store, under an intent."""

    name: str
    media_type: str
    size_bytes: int
    sha256: bytes
    document_id: UUID
    version_id: UUID


class SourceRegistry:
    """The sources in the hands of the data plane.

    Every method raises `Unavailable` where the database does not answer.
    """

    def __init__(self, database: Database, *, missing_for: timedelta) -> None:
        """Store the database, and how long a file is missing before it counts as gone."""
        self._database = database
        self._missing_for = missing_for

    async def watched(self) -> list[WatchedSource]:
        """Return the sources of all tenants, the one that was scanned longest ago first."""
        async with self._database.platform() as connection:
            rows = await connection.fetch("SELECT * FROM watched_sources()")
        return [
            WatchedSource(
                id=row["id"],
                tenant_id=row["tenant_id"],
                kind=row["kind"],
                location=row["location"],
                deletes_missing=row["delete_missing"],
                has_owner=row["has_owner"],
            )
            for row in rows
        ]

    async def known(self, source: WatchedSource) -> dict[str, KnownFile]:
        """Return what was made of a source's files, by their keys."""
        async with self._database.tenant(source.tenant_id) as connection:
            rows = await connection.fetch(_FILES, source.id, self._missing_for)
        return {
            row["key"]: KnownFile(
                mark=row["mark"],
                document_id=row["document_id"],
                is_missing=row["is_missing"],
                is_due=row["is_due"],
                is_gone=row["is_gone"],
            )
            for row in rows
        }

    async def mark_missing(
        self, source: WatchedSource, keys: Iterable[str], *, missing: bool
    ) -> None:
        """Note that files are missing since now, or that they are there again."""
        wanted = list(keys)
        if not wanted:
            return
        async with self._database.tenant(source.tenant_id) as connection:
            await connection.execute(_MARK_MISSING, source.id, wanted, missing)

    async def skip(
        self, source: WatchedSource, key: str, mark: str, why: str, retry: timedelta | None
    ) -> None:
        """Note why a key's content is in no version, and when it is tried again.

        Nothing is noted of a source that was removed meanwhile.
        """
        async with self._database.tenant(source.tenant_id) as connection:
            await connection.execute(_SKIP, source.id, key, mark, why, retry)

    async def announce(self, tenant_id: UUID, document_id: UUID, version_id: UUID) -> None:
        """Note the intent to store a file; in ten minutes the gateway's sweeper ends it."""
        async with self._database.tenant(tenant_id) as connection:
            await connection.execute(
                "INSERT INTO uploads (version_id, tenant_id, document_id, expires_at) "
                "VALUES ($1, $2, $3, now() + $4)",
                version_id,
                tenant_id,
                document_id,
                _INTENT_LIFETIME,
            )

    async def register(self, source: WatchedSource, key: str, mark: str, copy: StoredCopy) -> str:
        """Make a stored file a document or the next version of the key's.

        Returns:
            What became of it, as `register_source_file` in 0004_sources.sql says.
        """
        values = asdict(copy)
        names = ("name", "media_type", "size_bytes", "sha256", "document_id", "version_id")
        arguments = [values[name] for name in names]
        try:
            async with self._database.tenant(source.tenant_id) as connection:
                return str(
                    await connection.fetchval(_REGISTER, source.id, key, mark, *arguments, new_id())
                )
        except asyncpg.UniqueViolationError:  # the same bytes were uploaded at the same time
            return "duplicate"

    async def tombstone(self, source: WatchedSource, key: str) -> bool:
        """Delete the document of a key that is gone; False where there is nothing to delete."""
        async with self._database.tenant(source.tenant_id) as connection:
            return bool(
                await connection.fetchval(
                    "SELECT tombstone_source_file($1, $2, $3, $4, $5)",
                    source.id,
                    key,
                    self._missing_for,
                    new_id(),
                    new_id(),
                )
            )

    async def note_scan(
        self, source: WatchedSource, counts: Mapping[str, int] | None, error: str | None
    ) -> None:
        """Keep what a scan did, or why it could not."""
        async with self._database.tenant(source.tenant_id) as connection:
            kept = None if counts is None else dict(counts)
            await connection.execute(_NOTE_SCAN, source.id, kept, error)
