"""The document registry as the data plane sees it: claims, states, leases and publication.

A worker is a run. It changes a version only while it holds the lease; where a call finds the lease
lost, it changes nothing and says so.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from planes.data.pipeline.work import Work, by_tenant
from planes.shared.domain import DocumentStatus, IndexRecipe
from planes.shared.errors import DocumentRejected
from planes.shared.stores.postgres import Database

LEASE = timedelta(seconds=60)

_CLAIM = """
SELECT c.id, c.tenant_id, c.document_id, c.media_type, c.size_bytes,
       encode(c.sha256, 'hex') AS sha256, g.number AS generation, g.embedder, g.chunker
FROM claim_documents($1, $2, $3, $4, $5, $6, $7) c CROSS JOIN generations g
WHERE g.state = 'live' ORDER BY c.created_at, c.id
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
SET language = u.language, page_count = u.page_count, text_chars = u.text_chars,
    status = 'embedding', updated_at = now()
FROM unnest($2::uuid[], $3::text[], $4::int[], $5::int[])
    AS u (id, language, page_count, text_chars)
WHERE v.id = u.id AND v.lease_owner = $1 AND v.status IN ('parsing', 'embedding')
"""
_HIDE = """
UPDATE document_versions v
SET visibility = CASE v.visibility WHEN 'live' THEN 'live' ELSE 'hidden' END,
    generation = u.generation, chunk_count = u.chunk_count, updated_at = now()
FROM unnest($2::uuid[], $3::int[], $4::int[]) AS u (id, generation, chunk_count)
WHERE v.id = u.id AND v.lease_owner = $1 AND v.status IN ('parsing', 'embedding')
  AND EXISTS (SELECT FROM generations g WHERE g.number = u.generation AND g.state = 'live')
RETURNING v.id
"""
_COUNT_TERMS = """
INSERT INTO version_terms (version_id, tenant_id, generation, language, chunks, terms, term_chunks)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (version_id, generation) DO UPDATE
SET language = excluded.language, chunks = excluded.chunks, terms = excluded.terms,
    term_chunks = excluded.term_chunks
WHERE NOT version_terms.counted
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
class Described:
    """What parsing found of a version; `page_count` is None where the format has no pages."""

    work: Work
    page_count: int | None
    text_chars: int


@dataclass(frozen=True, slots=True)
class ClaimLimits:
    """How much a claim takes.

    Attributes:
        seconds: Of one core's work by estimate, where no tenant has more waiting, or between.
        backlog_s: Of tenants that have more waiting.
        documents: At most so many.
        attempts: A version that was claimed as often and not finished fails instead.
    """

    seconds: float
    backlog_s: float
    documents: int
    attempts: int


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

    async def claim(self, limits: ClaimLimits, *, between: bool = False) -> list[Work]:
        """Lease unfinished versions for 60 s, shared between tenants; they become `parsing`.

        Args:
            limits: How much; a version that is estimated above `seconds` is claimed alone.
            between: Claim what is to be done in the midst of what this worker holds already:
                of tenants alone that were given less than those whose work it holds.
        """
        async with self._database.platform() as connection:
            rows = await connection.fetch(
                _CLAIM,
                self._worker,
                limits.seconds,
                limits.backlog_s,
                limits.documents,
                LEASE,
                limits.attempts,
                between,
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
                chunk_tokens=IndexRecipe(row["embedder"], row["chunker"]).max_tokens,
                embedder=row["embedder"],
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

    async def describe(self, found: Iterable[Described]) -> None:
        """Note what parsing found; the versions become `embedding`."""
        described = {each.work.version_id: each for each in found}
        for tenant_id, works in by_tenant(each.work for each in described.values()):
            rows = [described[work.version_id] for work in works]
            async with self._database.tenant(tenant_id) as connection:
                await connection.execute(
                    _DESCRIBE,
                    self._worker,
                    [row.work.version_id for row in rows],
                    [row.work.language for row in rows],
                    [row.page_count for row in rows],
                    [row.text_chars for row in rows],
                )

    async def hide(self, works: Iterable[Work]) -> set[UUID]:
        """Mark versions whose chunks are about to be written, so that no search shows them.

        Returns:
            The versions that this worker still holds and whose generation is still the live one;
            it must not write chunks of any other.
        """
        held: set[UUID] = set()
        for tenant_id, own in by_tenant(works):
            async with self._database.tenant(tenant_id) as connection:
                rows = await connection.fetch(
                    _HIDE,
                    self._worker,
                    [work.version_id for work in own],
                    [work.generation for work in own],
                    [work.chunk_count for work in own],
                )
            held.update(row["id"] for row in rows)
        return held

    async def chunk_counts(self, works: Iterable[Work]) -> dict[UUID, int]:
        """Return how many chunks the registry counts of each version."""
        counts: dict[UUID, int] = {}
        for tenant_id, own in by_tenant(works):
            async with self._database.tenant(tenant_id) as connection:
                rows = await connection.fetch(
                    "SELECT id, chunk_count FROM document_versions WHERE id = ANY ($1)",
                    [work.version_id for work in own],
                )
            counts |= {row["id"]: row["chunk_count"] for row in rows}
        return counts

    async def count_terms(
        self, works: Iterable[Work], chunks_by_term: Mapping[UUID, Counter[str]]
    ) -> None:
        """Keep in how many of a version's chunks each term occurs, for the publication."""
        for tenant_id, own in by_tenant(works):
            rows = [_terms_row(work, chunks_by_term[work.version_id]) for work in own]
            async with self._database.tenant(tenant_id) as connection:
                await connection.executemany(_COUNT_TERMS, rows)

    async def publish(self, works: Iterable[Work]) -> list[Work]:
        """Make versions the searchable ones of their documents, a tenant's in one step.

        Returns:
            Those that are now. The others were deleted, cancelled or superseded by a newer one, or
            the lease is lost.
        """
        published: list[Work] = []
        for tenant_id, own in by_tenant(works):
            async with self._database.tenant(tenant_id) as connection:
                rows = await connection.fetch(
                    "SELECT publish_versions($1, $2) AS id",
                    [work.version_id for work in own],
                    self._worker,
                )
            ids = {row["id"] for row in rows}
            published += [work for work in own if work.version_id in ids]
        return published

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


def _terms_row(work: Work, chunks_by_term: Counter[str]) -> tuple[object, ...]:
    terms = sorted(chunks_by_term)
    counts = [chunks_by_term[term] for term in terms]
    ids = (work.version_id, work.tenant_id, work.generation)
    return (*ids, work.language, work.chunk_count, terms, counts)
