"""The document registry in SQL; the gateway makes and tombstones rows, nothing else."""

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from planes.shared.domain import TenantContext
from planes.shared.errors import NotFound
from planes.shared.stores.postgres import Connection

DOCUMENT = """
SELECT d.id, d.name, d.tags, d.metadata, d.owner_id, d.created_at,
       greatest(d.updated_at, n.updated_at) AS updated_at,
       n.id AS newest_version_id, n.media_type, n.size_bytes, n.sha256, n.status, n.error,
       p.number AS version, coalesce(p.chunk_count, n.chunk_count) AS chunk_count,
       coalesce(p.page_count, n.page_count) AS page_count
FROM documents d
JOIN document_versions n ON n.id = d.newest_version_id
LEFT JOIN document_versions p ON p.id = d.published_version_id
WHERE d.tenant_id = $1 AND d.deleted_at IS NULL
"""


async def find_document(
    connection: Connection, context: TenantContext, document_id: UUID
) -> asyncpg.Record:
    """Return a living document with its newest and its published version.

    Raises:
        NotFound: There is none of that id in this tenant.
    """
    row = await connection.fetchrow(DOCUMENT + " AND d.id = $2", context.tenant_id, document_id)
    if row is None:
        raise NotFound("There is no such document.")
    return row


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """Which part of the list of documents is wanted."""

    status: str | None
    tag: str | None
    before: UUID | None
    limit: int


async def list_documents(
    connection: Connection, context: TenantContext, wanted: DocumentFilter
) -> list[asyncpg.Record]:
    """Return living documents, newest first."""
    statuses = ["failed", "cancelled"] if wanted.status == "failed" else [wanted.status]
    return await connection.fetch(
        DOCUMENT
        + " AND ($2::text[] IS NULL OR n.status = ANY ($2))"
        + " AND ($3::text IS NULL OR $3 = ANY (d.tags))"
        + " AND ($4::uuid IS NULL OR d.id < $4) ORDER BY d.id DESC LIMIT $5",
        context.tenant_id,
        None if wanted.status is None else statuses,
        wanted.tag,
        wanted.before,
        wanted.limit,
    )


async def last_job_of(connection: Connection, version_id: UUID) -> UUID | None:
    """Return the newest job that worked on a version."""
    job: UUID | None = await connection.fetchval(
        "SELECT job_id FROM job_items WHERE version_id = $1 ORDER BY job_id DESC LIMIT 1",
        version_id,
    )
    return job


async def find_version(
    connection: Connection, context: TenantContext, document_id: UUID, number: int | None
) -> asyncpg.Record:
    """Return one version of a living document: the numbered one, else the published, else newest.

    Raises:
        NotFound: There is no such document or version.
    """
    row = await connection.fetchrow(
        "SELECT v.*, d.name FROM documents d JOIN document_versions v ON v.document_id = d.id "
        "WHERE d.tenant_id = $1 AND d.id = $2 AND d.deleted_at IS NULL AND CASE "
        "WHEN $3::int IS NOT NULL THEN v.number = $3 "
        "ELSE v.id = coalesce(d.published_version_id, d.newest_version_id) END",
        context.tenant_id,
        document_id,
        number,
    )
    if row is None:
        raise NotFound("There is no such document, or it has no such version.")
    return row


async def tombstone(
    connection: Connection, context: TenantContext, document_id: UUID, receipt_id: UUID
) -> bool:
    """Take a document out of every list and search, and queue its removal; False if it is gone."""
    gone = await connection.fetchval(
        "UPDATE documents SET deleted_at = now(), name = '', tags = '{}', metadata = '{}' "
        "WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL RETURNING id",
        context.tenant_id,
        document_id,
    )
    if gone is None:
        return False
    await connection.execute(
        "UPDATE document_versions SET updated_at = now(), "
        "visibility = CASE visibility WHEN 'live' THEN 'hidden' ELSE visibility END, "
        "status = CASE WHEN status IN ('ready', 'failed') THEN status ELSE 'cancelled' END "
        "WHERE document_id = $1",
        document_id,
    )
    await connection.execute(
        "INSERT INTO deletions (id, tenant_id, document_id, requested_by) VALUES ($1, $2, $3, $4)",
        receipt_id,
        context.tenant_id,
        document_id,
        context.user_id,
    )
    await connection.execute(
        "UPDATE tenants SET corpus_version = corpus_version + 1, "
        "documents_used = documents_used - 1, storage_bytes_used = storage_bytes_used - "
        "(SELECT sum(size_bytes) FROM document_versions WHERE document_id = $2) WHERE id = $1",
        context.tenant_id,
        document_id,
    )
    return True


async def find_receipt(
    connection: Connection, context: TenantContext, document_id: UUID
) -> asyncpg.Record:
    """Return a deletion's receipt.

    Raises:
        NotFound: Nobody deleted such a document in this tenant.
    """
    row = await connection.fetchrow(
        "SELECT * FROM deletions WHERE tenant_id = $1 AND document_id = $2",
        context.tenant_id,
        document_id,
    )
    if row is None:
        raise NotFound("There is no receipt of such a deletion.")
    return row
