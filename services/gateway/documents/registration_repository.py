"""Many documents and versions in few statements; all within the caller's transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from planes.shared.domain import TenantContext
from planes.shared.stores.postgres import Connection
from services.gateway.documents.labels import Labels
from services.gateway.documents.repository import DOCUMENT
from services.gateway.documents.uploads import StoredFile


@dataclass(frozen=True, slots=True)
class Submission:
    """A stored file, and what its sender attached to it."""

    file: StoredFile
    labels: Labels


async def find_by_content(
    connection: Connection, context: TenantContext, digests: Iterable[bytes]
) -> list[asyncpg.Record]:
    """Return the living documents whose newest versions have these bytes, both locked."""
    rows = await connection.fetch(
        "SELECT id FROM documents WHERE tenant_id = $1 AND sha256 = ANY ($2) "
        "AND deleted_at IS NULL ORDER BY id FOR UPDATE",
        context.tenant_id,
        list(digests),
    )
    ids = [row["id"] for row in rows]
    await connection.execute(  # before the tenant's row is, as publishing and cancelling do
        "SELECT FROM document_versions WHERE id IN "
        "(SELECT newest_version_id FROM documents WHERE tenant_id = $1 AND id = ANY ($2)) "
        "ORDER BY id FOR NO KEY UPDATE",
        context.tenant_id,
        ids,
    )
    # a statement of its own: it sees what was waited for
    return list((await find_documents(connection, context, ids)).values())


async def find_documents(
    connection: Connection, context: TenantContext, document_ids: Iterable[UUID]
) -> dict[UUID, asyncpg.Record]:
    """Return living documents by their ids."""
    rows = await connection.fetch(
        DOCUMENT + " AND d.id = ANY ($2)", context.tenant_id, list(document_ids)
    )
    return {row["id"]: row for row in rows}


async def insert_documents(
    connection: Connection, context: TenantContext, new: Sequence[Submission], trace_id: str
) -> None:
    """Insert documents with their first versions; all have the tags of the first.

    Raises:
        asyncpg.UniqueViolationError: Another upload of the same bytes was faster.
    """
    if not new:
        return
    files = [each.file for each in new]
    await connection.execute(
        "INSERT INTO documents (id, tenant_id, owner_id, name, tags, metadata, sha256, "
        "newest_version_id) SELECT u.id, $1, $2, u.name, $3, u.metadata, u.sha256, u.version_id "
        "FROM unnest($4::uuid[], $5::text[], $6::jsonb[], $7::bytea[], $8::uuid[]) "
        "AS u (id, name, metadata, sha256, version_id)",
        context.tenant_id,
        context.user_id,
        new[0].labels.tags,
        [file.document_id for file in files],
        [file.name for file in files],
        [each.labels.metadata for each in new],
        [file.sha256 for file in files],
        [file.version_id for file in files],
    )
    await connection.execute(
        "INSERT INTO document_versions (id, tenant_id, document_id, number, sha256, size_bytes, "
        "media_type, trace_id) SELECT u.id, $1, u.document_id, 1, u.sha256, u.size_bytes, "
        "u.media_type, $2 FROM unnest($3::uuid[], $4::uuid[], $5::bytea[], $6::bigint[], "
        "$7::text[]) AS u (id, document_id, sha256, size_bytes, media_type)",
        context.tenant_id,
        trace_id,
        [file.version_id for file in files],
        [file.document_id for file in files],
        [file.sha256 for file in files],
        [file.size_bytes for file in files],
        [file.media_type for file in files],
    )


async def insert_job(
    connection: Connection, context: TenantContext, job_id: UUID, items: Sequence[tuple[UUID, UUID]]
) -> None:
    """Insert a job over (document, version)s."""
    await connection.execute(
        "INSERT INTO jobs (id, tenant_id, created_by) VALUES ($1, $2, $3)",
        job_id,
        context.tenant_id,
        context.user_id,
    )
    await connection.execute(
        "INSERT INTO job_items (job_id, tenant_id, document_id, version_id) "
        "SELECT $1, $2, u.document_id, u.version_id "
        "FROM unnest($3::uuid[], $4::uuid[]) AS u (document_id, version_id)",
        job_id,
        context.tenant_id,
        [document_id for document_id, _ in items],
        [version_id for _, version_id in items],
    )


async def requeue(connection: Connection, version_ids: list[UUID]) -> None:
    """Make failed and cancelled versions wait to be processed again."""
    await connection.execute(
        "UPDATE document_versions SET status = 'received', percent = 0, error = NULL, "
        "attempts = 0, next_attempt_at = now(), updated_at = now() WHERE id = ANY ($1)",
        version_ids,
    )


async def lock_document(
    connection: Connection, context: TenantContext, document_id: UUID
) -> asyncpg.Record | None:
    """Return a living document, locked, with what decides about its next version."""
    await connection.execute(
        "SELECT FROM documents WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
        context.tenant_id,
        document_id,
    )
    return await connection.fetchrow(  # a statement of its own: it sees what was waited for
        "SELECT d.id, d.owner_id, n.id AS newest_version_id, n.sha256, n.status, "
        "p.id AS published_version_id, p.sha256 AS published_sha256, "
        "(SELECT max(v.number) FROM document_versions v WHERE v.document_id = d.id) AS number "
        "FROM documents d JOIN document_versions n ON n.id = d.newest_version_id "
        "LEFT JOIN document_versions p ON p.id = d.published_version_id "
        "WHERE d.tenant_id = $1 AND d.id = $2 AND d.deleted_at IS NULL",
        context.tenant_id,
        document_id,
    )


async def insert_version(
    connection: Connection, context: TenantContext, file: StoredFile, place: tuple[int, str]
) -> None:
    """Insert the next version of a document, as (number, trace id), and make it its newest.

    Raises:
        asyncpg.UniqueViolationError: Another document has the same bytes.
    """
    await connection.execute(
        "UPDATE documents SET newest_version_id = $3, sha256 = $4, updated_at = now() "
        "WHERE tenant_id = $1 AND id = $2",
        context.tenant_id,
        file.document_id,
        file.version_id,
        file.sha256,
    )
    await connection.execute(
        "INSERT INTO document_versions (id, tenant_id, document_id, number, sha256, size_bytes, "
        "media_type, trace_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        file.version_id,
        context.tenant_id,
        file.document_id,
        place[0],
        file.sha256,
        file.size_bytes,
        file.media_type,
        place[1],
    )


async def change_document(
    connection: Connection, context: TenantContext, document_id: UUID, changes: dict[str, Any]
) -> None:
    """Set a document's name, tags or metadata, and drop what was cached of the tenant's corpus."""
    await connection.execute(
        "UPDATE documents SET name = coalesce($3, name), tags = coalesce($4, tags), "
        "metadata = coalesce($5, metadata), updated_at = now() WHERE tenant_id = $1 AND id = $2",
        context.tenant_id,
        document_id,
        changes.get("name"),
        changes.get("tags"),
        changes.get("metadata"),
    )
    await connection.execute(
        "UPDATE tenants SET corpus_version = corpus_version + 1 WHERE id = $1", context.tenant_id
    )
