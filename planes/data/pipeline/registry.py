"""The document registry as the data plane sees it: claims, states, leases and publication.

A worker is a run. It changes a version only while it holds the lease; where a call finds the lease
lost, it changes nothing and says so.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from planes.data.pipeline.work import Work
from planes.shared.domain import DocumentStatus
from planes.shared.errors import DocumentRejected
from planes.shared.stores.postgres import Database

LEASE = timedelta(seconds=60)

_CLAIM = """
SELECT id, tenant_id, document_id, media_type, size_bytes, encode(sha256, 'hex') AS sha256,
       (SELECT number FROM generations WHERE state = 'live') AS generation
FROM claim_documents($1, $2, $3, $4, $5) ORDER BY created_at, id
"""
_RENEW = """
UPDATE document_versions v SET lease_until = now() + $2
WHERE v.lease_owner = $1 AND v.status IN ('parsing', 'embedding') RETURNING v.id
"""
_REPORT = """
UPDATE document_versions v SET status = u.status, percent = u.percent, updated_at = now()
FROM unnest($2::uuid[], $3::text[], $4::int[]) AS u (id, status, percent)
WHERE v.id = u.id AND v.lease_owner = $1 AND v.status IN ('parsing', 'embedding')
"""
_DESCRIBE = """
UPDATE document_versions v
SET language = $3, page_count = $4, text_chars = $5, status = 'embedding', updated_at = now()
WHERE v.id = $2 AND v.lease_owner = $1 AND v.status IN ('parsing', 'embedding')
"""
_HIDE = """
UPDATE document_versions v
SET visibility = CASE v.visibility WHEN 'live' THEN 'live' ELSE 'hidden' END, generation = $3,
    chunk_count = $4, updated_at = now()
WHERE v.id = $2 AND v.lease_owner = $1 AND v.status IN ('parsing', 'embedding') RETURNING true
"""
_COUNT_TERMS = """
INSERT INTO version_terms (version_id, tenant_id, generation, language, chunks, terms, term_chunks)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (version_id) DO UPDATE
SET generation = excluded.generation, language = excluded.language, chunks = excluded.chunks,
    terms = excluded.terms, term_chunks = excluded.term_chunks
WHERE NOT version_terms.counted
"""
_SUPERSEDE = """
UPDATE document_versions v SET status = 'cancelled', lease_owner = NULL, lease_until = NULL,
       updated_at = now()
FROM documents d, document_versions p
WHERE v.id = $2 AND d.id = v.document_id AND p.id = d.published_version_id AND p.number > v.number
  AND v.lease_owner = $1 AND v.status IN ('parsing', 'embedding')
RETURNING true
"""
_FAIL = """
WITH failed AS (
    UPDATE document_versions v
    SET status = 'failed', error = $3, lease_owner = NULL, lease_until = NULL, updated_at = now()
    WHERE v.id = $2 AND v.lease_owner = $1 AND v.status IN ('parsing', 'embedding')
    RETURNING v.document_id
)
UPDATE documents SET updated_at = now() WHERE id IN (SELECT document_id FROM failed)
"""
_RELEASE = """
UPDATE document_versions v
SET lease_owner = NULL, lease_until = NULL, updated_at = now(),
    attempts = v.attempts - CASE WHEN $2 AND v.id IS DISTINCT FROM $3 THEN 1 ELSE 0 END,
    next_attempt_at = now() + make_interval(secs => least(60, 5 * 2 ^ (v.attempts - 1)))
WHERE v.lease_owner = $1 AND v.status IN ('parsing', 'embedding') RETURNING v.id
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a version is; `percent` is 0 to 100."""

    work: Work
    status: DocumentStatus
    percent: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much waits to be claimed."""

    documents: int
    removals: int

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return self.documents + self.removals > 0


class Registry:
    """The registry in the hands of one worker.

    Every method raises `Unavailable` where the database does not answer.
    """

    def __init__(self, database: Database, *, worker: str) -> None:
        """Store the database and the name under which leases are held."""
        self._database = database
        self._worker = worker

    async def waiting(self) -> Waiting:
        """Return how much waits, over all tenants."""
        async with self._database.platform() as connection:
            row = await connection.fetchrow("SELECT documents, removals FROM waiting_work()")
        return Waiting(row["documents"], row["removals"]) if row else Waiting(0, 0)

    async def claim(self, *, size_bytes: int, documents: int, attempts: int) -> list[Work]:
        """Lease unfinished versions for 60 s, round robin over tenants; they become `parsing`.

        Args:
            size_bytes: At most so much of files, but one document at least.
            documents: At most so many.
            attempts: A version that was claimed as often and not finished fails instead.
        """
        async with self._database.platform() as connection:
            rows = await connection.fetch(
                _CLAIM, self._worker, size_bytes, documents, LEASE, attempts
            )
        return [
            Work(
                version_id=row["id"],
                tenant_id=row["tenant_id"],
                document_id=row["document_id"],
                media_type=row["media_type"],
                size_bytes=row["size_bytes"],
                sha256=row["sha256"],
                generation=row["generation"],
            )
            for row in rows
        ]

    async def renew(self, tenants: Iterable[UUID]) -> set[UUID]:
        """Extend this worker's leases to 60 s from now and return the versions still held."""
        held: set[UUID] = set()
        for tenant_id in tenants:
            async with self._database.tenant(tenant_id) as connection:
                rows = await connection.fetch(_RENEW, self._worker, LEASE)
            held.update(row["id"] for row in rows)
        return held

    async def report(self, progress: Iterable[Progress]) -> None:
        """Write how far versions are; each at most once in a call."""
        tenants: dict[UUID, list[tuple[UUID, str, int]]] = defaultdict(list)
        for note in progress:
            row = (note.work.version_id, note.status.value, note.percent)
            tenants[note.work.tenant_id].append(row)
        for tenant_id, rows in tenants.items():
            ids, statuses, percents = (list(column) for column in zip(*rows, strict=True))
            async with self._database.tenant(tenant_id) as connection:
                await connection.execute(_REPORT, self._worker, ids, statuses, percents)

    async def describe(self, work: Work, *, page_count: int | None, text_chars: int) -> None:
        """Note what parsing found; the version becomes `embedding`."""
        async with self._database.tenant(work.tenant_id) as connection:
            await connection.execute(
                _DESCRIBE, self._worker, work.version_id, work.language, page_count, text_chars
            )

    async def hide(self, work: Work) -> bool:
        """Mark a version whose chunks are about to be written, so that no search shows them.

        Returns:
            Whether this worker still holds the version; if not, it must not write chunks.
        """
        async with self._database.tenant(work.tenant_id) as connection:
            held = await connection.fetchval(
                _HIDE, self._worker, work.version_id, work.generation, work.chunk_count
            )
        return bool(held)

    async def chunk_count(self, work: Work) -> int:
        """Return how many chunks the registry counts of a version."""
        async with self._database.tenant(work.tenant_id) as connection:
            return int(
                await connection.fetchval(
                    "SELECT chunk_count FROM document_versions WHERE id = $1", work.version_id
                )
            )

    async def count_terms(self, work: Work, chunks_by_term: Counter[str]) -> None:
        """Keep in how many of the version's chunks each term occurs, for the publication."""
        terms = sorted(chunks_by_term)
        async with self._database.tenant(work.tenant_id) as connection:
            await connection.execute(
                _COUNT_TERMS,
                work.version_id,
                work.tenant_id,
                work.generation,
                work.language,
                work.chunk_count,
                terms,
                [chunks_by_term[term] for term in terms],
            )

    async def publish(self, work: Work) -> bool:
        """Make a version the searchable one of its document, in one step.

        Returns:
            False where it is not: deleted, cancelled, superseded by a newer one, or the lease lost.
        """
        async with self._database.tenant(work.tenant_id) as connection:
            await connection.execute(
                "SELECT FROM documents WHERE id = $1 FOR UPDATE", work.document_id
            )
            if await connection.fetchval(_SUPERSEDE, self._worker, work.version_id):
                return False
            published = await connection.fetchval(
                "SELECT publish_version($1, $2)", work.version_id, self._worker
            )
        return bool(published)

    async def fail(self, work: Work, reason: DocumentRejected) -> None:
        """End a version with a reason that a person understands."""
        error = {"code": reason.code, "detail": reason.detail, "retryable": reason.retryable}
        async with self._database.tenant(work.tenant_id) as connection:
            await connection.execute(_FAIL, self._worker, work.version_id, error)

    async def release(
        self, tenants: Sequence[UUID], *, spared: bool = False, suspect: UUID | None = None
    ) -> int:
        """Give back what this worker still holds, to be tried again after 5, 10, 20 ... 60 s.

        Args:
            tenants: Whose versions the worker holds.
            spared: Whether the attempt does not count, because the versions were not at fault.
            suspect: The version for which it counts all the same.
        """
        released = 0
        for tenant_id in tenants:
            async with self._database.tenant(tenant_id) as connection:
                released += len(await connection.fetch(_RELEASE, self._worker, spared, suspect))
        return released
