"""Intents of uploads in SQL: noted before a file is stored, so that none stays without a row."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from planes.shared.domain import TenantContext
from planes.shared.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class Intent:
    """Where a file is going to be stored."""

    document_id: UUID
    version_id: UUID


async def insert(
    connection: Connection, context: TenantContext, new: list[Intent], lifetime: timedelta
) -> None:
    """Note what is going to be stored; a sweeper ends it when it expires."""
    await connection.execute(
        "INSERT INTO uploads (version_id, tenant_id, document_id, expires_at) "
        "SELECT u.version_id, $1, u.document_id, now() + $2 "
        "FROM unnest($3::uuid[], $4::uuid[]) AS u (version_id, document_id)",
        context.tenant_id,
        lifetime,
        [each.version_id for each in new],
        [each.document_id for each in new],
    )


async def extend(connection: Connection, version_ids: list[UUID], lifetime: timedelta) -> None:
    """Keep intents alive."""
    await connection.execute(
        "UPDATE uploads SET expires_at = now() + $2 WHERE version_id = ANY ($1)",
        version_ids,
        lifetime,
    )


async def close(connection: Connection, version_ids: list[UUID]) -> list[Intent]:
    """Forget intents and return those that were there; a sweeper was faster with the others."""
    rows = await connection.fetch(
        "DELETE FROM uploads WHERE version_id = ANY ($1) RETURNING document_id, version_id",
        version_ids,
    )
    return [Intent(row["document_id"], row["version_id"]) for row in rows]
