"""Jobs in SQL. How a job's documents ended is written by the database itself."""

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from planes.shared.domain import TenantContext
from planes.shared.errors import NotFound
from planes.shared.stores.postgres import Connection, Database

_FAILED = """
SELECT d.id, n.id AS version_id FROM documents d
JOIN document_versions n ON n.id = d.newest_version_id
WHERE d.tenant_id = $1 AND d.deleted_at IS NULL AND n.status = 'failed'
  AND ($2::uuid IS NULL OR d.owner_id = $2) AND ($3::text[] IS NULL OR d.tags && $3)
ORDER BY d.id LIMIT $4 FOR UPDATE OF d, n
"""
_REQUEUE = """
UPDATE document_versions SET status = 'received', percent = 0, error = NULL, attempts = 0,
       next_attempt_at = now(), updated_at = now()
WHERE id = ANY ($1) AND status IN ('failed', 'cancelled')
"""


async def find(
    connection: Connection, context: TenantContext, job_id: UUID
) -> list[asyncpg.Record]:
    """Return a job's documents, one row each.

    Raises:
        NotFound: There is no such job in this tenant.
    """
    rows = await connection.fetch(
        "SELECT w.* FROM jobs j, watched_jobs(ARRAY[j.id]) w WHERE j.tenant_id = $1 AND j.id = $2",
        context.tenant_id,
        job_id,
    )
    if not rows:
        raise NotFound("There is no such job.")
    return rows


async def maker_of(connection: Connection, context: TenantContext, job_id: UUID) -> UUID:
    """Return who made a job.

    Raises:
        NotFound: There is no such job in this tenant.
    """
    maker: UUID | None = await connection.fetchval(
        "SELECT created_by FROM jobs WHERE tenant_id = $1 AND id = $2", context.tenant_id, job_id
    )
    if maker is None:
        raise NotFound("There is no such job.")
    return maker


async def cancel(connection: Connection, job_id: UUID, most: int) -> bool:
    """Stop up to `most` unfinished documents of a job of the connection's tenant; True: more."""
    return bool(await connection.fetchval("SELECT cancel_job($1, $2)", job_id, most))


async def half_cancelled(database: Database) -> list[tuple[UUID, UUID]]:
    """Return (tenant, job) of cancellations that were begun and not ended."""
    async with database.platform() as connection:
        rows = await connection.fetch("SELECT tenant_id, job_id FROM half_cancelled_jobs()")
    return [(row["tenant_id"], row["job_id"]) for row in rows]


async def open_job_of(connection: Connection, version_id: UUID) -> UUID | None:
    """Return the newest job that waits for a version."""
    job: UUID | None = await connection.fetchval(
        "SELECT job_id FROM job_items WHERE version_id = $1 AND outcome IS NULL "
        "ORDER BY job_id DESC LIMIT 1",
        version_id,
    )
    return job


@dataclass(frozen=True, slots=True)
class FailedFilter:
    """Which failed documents are wanted: of one owner, with one of the tags, if given."""

    owner_id: UUID | None
    tags: list[str] | None


async def failed_versions(
    connection: Connection, context: TenantContext, wanted: FailedFilter, most: int
) -> list[tuple[UUID, UUID]]:
    """Return (document, newest version) of documents that have failed, locked."""
    rows = await connection.fetch(_FAILED, context.tenant_id, wanted.owner_id, wanted.tags, most)
    return [(row["id"], row["version_id"]) for row in rows]


async def requeue(connection: Connection, version_ids: list[UUID]) -> None:
    """Make versions that failed or were cancelled wait to be processed again."""
    await connection.execute(_REQUEUE, version_ids)


async def add_items(
    connection: Connection, context: TenantContext, job_id: UUID, items: list[tuple[UUID, UUID]]
) -> None:
    """Add (document, version) pairs to a job."""
    await connection.execute(
        "INSERT INTO job_items (job_id, tenant_id, document_id, version_id) "
        "SELECT $1, $2, u.document_id, u.version_id "
        "FROM unnest($3::uuid[], $4::uuid[]) AS u (document_id, version_id)",
        job_id,
        context.tenant_id,
        [document_id for document_id, _ in items],
        [version_id for _, version_id in items],
    )


async def stamps(database: Database, job_ids: list[UUID]) -> dict[UUID, str]:
    """Return for each job, of whatever tenant, a text that changes whenever the job does."""
    async with database.platform() as connection:
        rows = await connection.fetch("SELECT job_id, stamp FROM job_stamps($1)", job_ids)
    return {row["job_id"]: row["stamp"] for row in rows}


async def watched(database: Database, job_ids: list[UUID]) -> dict[UUID, list[asyncpg.Record]]:
    """Return the documents of jobs, of whatever tenants; who watches them was let in before."""
    async with database.platform() as connection:
        rows = await connection.fetch("SELECT * FROM watched_jobs($1)", job_ids)
    found: dict[UUID, list[asyncpg.Record]] = {}
    for row in rows:
        found.setdefault(row["job_id"], []).append(row)
    return found
