"""The end of tenants in SQL. Every step can be repeated; what is counted is counted with it."""

from datetime import timedelta
from uuid import UUID

import asyncpg

from planes.shared.domain import TenantContext
from planes.shared.stores.postgres import Connection
from services.gateway.tenants import member_repository as members
from services.gateway.tenants.models import Ended

_TOMBSTONE_DOCUMENTS = """
WITH gone AS (
    UPDATE documents SET deleted_at = now(), name = '', tags = '{}', metadata = '{}'
    WHERE id IN (SELECT d.id FROM documents d WHERE d.tenant_id = $1 AND d.deleted_at IS NULL
                 LIMIT $3)
    RETURNING id
), hidden AS (
    UPDATE document_versions v SET updated_at = now(),
        visibility = CASE v.visibility WHEN 'live' THEN 'hidden' ELSE v.visibility END,
        status = CASE WHEN v.status IN ('ready', 'failed') THEN v.status ELSE 'cancelled' END
    FROM gone WHERE v.document_id = gone.id
)
INSERT INTO deletions (id, tenant_id, document_id, requested_by)
SELECT gen_random_uuid(), $1, gone.id, $2 FROM gone
"""
_COUNT_DOCUMENTS = """
UPDATE tenant_deletions t
SET chunks = greatest(t.chunks, s.chunks), files = greatest(t.files, s.files),
    cache_entries = greatest(t.cache_entries, s.cache_entries)
FROM (SELECT coalesce(sum(d.chunks), 0) AS chunks, coalesce(sum(d.files), 0) AS files,
             coalesce(sum(d.cache_entries), 0) AS cache_entries
      FROM deletions d JOIN tenant_deletions r ON r.tenant_id = d.tenant_id
      WHERE d.tenant_id = $1 AND d.requested_at >= r.requested_at) s
WHERE t.tenant_id = $1
"""


async def tombstone(connection: Connection, tenant_id: UUID) -> tuple[list[Ended], dict[str, int]]:
    """Close a tenant to everybody: its name, members, sessions and API keys go at once.

    Returns:
        What each member lost, and how many rows were removed, by table.
    """
    await members.lock_all(connection, tenant_id)
    ended = await connection.fetch("SELECT * FROM tenant_sessions($1)", tenant_id)
    await connection.execute(
        "UPDATE tenants SET deleted_at = now(), name = '' WHERE id = $1", tenant_id
    )
    await connection.execute(
        "UPDATE sessions SET ended_at = now(), end_reason = 'tenant-deleted'"
        " WHERE tenant_id = $1 AND ended_at IS NULL",
        tenant_id,
    )
    removed = {
        "api_keys": await connection.fetchval(
            "SELECT count(*) FROM api_keys WHERE tenant_id = $1", tenant_id
        )
    }
    for table in ("invitations", "memberships"):  # API keys go with their makers' memberships
        result = await connection.execute(
            f"DELETE FROM {table} WHERE tenant_id = $1",  # noqa: S608 (one of the two names above)
            tenant_id,
        )
        removed[table] = int(result.split()[-1])
    lost = [Ended(row["user_id"], tuple(row["ids"])) for row in ended]
    return lost, {table: rows for table, rows in removed.items() if rows}


async def insert(
    connection: Connection, context: TenantContext, new: tuple[UUID, bytes], removed: dict[str, int]
) -> None:
    """Queue the removal of a closed tenant under (id, hash of the receipt)."""
    await connection.execute(
        "INSERT INTO tenant_deletions (id, tenant_id, requested_by, receipt_hash, removed_rows)"
        " VALUES ($3, $1, $2, $4, $5)",
        context.tenant_id,
        context.user_id,
        *new,
        removed,
    )


async def receipt(connection: Connection, receipt_hash: bytes) -> asyncpg.Record | None:
    """Return a deletion by its receipt; needs no tenant."""
    return await connection.fetchrow("SELECT * FROM tenant_receipt($1)", receipt_hash)


async def claim(connection: Connection, lease: timedelta) -> asyncpg.Record | None:
    """Lease one removal that is due; needs no tenant."""
    return await connection.fetchrow("SELECT * FROM claim_tenant_deletion($1)", lease)


async def put_off(connection: Connection, tenant_id: UUID, span: timedelta) -> None:
    """Let a removal be due again after a while."""
    await connection.execute(
        "UPDATE tenant_deletions SET lease_until = now() + $2::interval WHERE tenant_id = $1",
        tenant_id,
        span,
    )


async def sessions_of(connection: Connection, tenant_id: UUID) -> list[Ended]:
    """Return the sessions that ended with the tenant, by user."""
    rows = await connection.fetch(
        "SELECT user_id, array_agg(id) AS ids FROM sessions"
        " WHERE tenant_id = $1 AND end_reason = 'tenant-deleted' GROUP BY user_id",
        tenant_id,
    )
    return [Ended(row["user_id"], tuple(row["ids"])) for row in rows]


async def is_answering(connection: Connection, tenant_id: UUID) -> bool:
    """Tell whether an answer or an embedding is under way, or waits for the sweeper."""
    answering: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM reservations WHERE tenant_id = $1)"
        " OR EXISTS (SELECT FROM embedding_reservations WHERE tenant_id = $1)",
        tenant_id,
    )
    return answering


async def tombstone_documents(
    connection: Connection, tenant_id: UUID, user_id: UUID, limit: int
) -> int:
    """Take up to `limit` documents out of every search and queue their removal."""
    result = await connection.execute(_TOMBSTONE_DOCUMENTS, tenant_id, user_id, limit)
    return int(result.split()[-1])


async def has_open_work(connection: Connection, tenant_id: UUID) -> bool:
    """Tell whether documents are still being removed, or a file is still being received."""
    is_open: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM deletions WHERE tenant_id = $1 AND completed_at IS NULL)"
        " OR EXISTS (SELECT FROM uploads WHERE tenant_id = $1)",
        tenant_id,
    )
    return is_open


async def count_documents(connection: Connection, tenant_id: UUID) -> None:
    """Copy what the removal of documents counted to the receipt; repeating adds nothing."""
    await connection.execute(_COUNT_DOCUMENTS, tenant_id)


async def idle_conversations(connection: Connection, tenant_id: UUID, limit: int) -> list[UUID]:
    """Return conversations that no message is on its way to."""
    rows = await connection.fetch(
        "SELECT c.id FROM conversations c WHERE c.tenant_id = $1"
        " AND NOT EXISTS (SELECT FROM outbox o WHERE o.conversation_id = c.id) LIMIT $2",
        tenant_id,
        limit,
    )
    return [row["id"] for row in rows]


async def has_conversations(connection: Connection, tenant_id: UUID) -> bool:
    """Tell whether a conversation is left."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM conversations WHERE tenant_id = $1)", tenant_id
    )
    return found


async def forget_conversation(
    connection: Connection, tenant_id: UUID, conversation_id: UUID, messages: int
) -> None:
    """Delete a conversation whose messages are gone, and count both, once.

    Where the messages went in an attempt that died before it could count, the registry knows.
    """
    known: int | None = await connection.fetchval(
        "DELETE FROM conversations WHERE tenant_id = $1 AND id = $2 RETURNING message_count",
        tenant_id,
        conversation_id,
    )
    await connection.execute(
        "UPDATE tenant_deletions SET chat_messages = chat_messages + $2, removed_rows ="
        " removed_rows || jsonb_build_object('conversations',"
        " coalesce((removed_rows ->> 'conversations')::bigint, 0) + $3) WHERE tenant_id = $1",
        tenant_id,
        max(messages, known or 0),
        int(known is not None),
    )


async def erase(connection: Connection, tenant_id: UUID, rows: int) -> int:
    """Delete up to `rows` of the tenant's rows and count them; 0: none is left."""
    erased: int = await connection.fetchval("SELECT erase_tenant($1, $2)", tenant_id, rows)
    return erased


async def add_removed(
    connection: Connection, tenant_id: UUID, *, files: int, cache_entries: int, keys: int
) -> None:
    """Count files, entries of caches and other Redis keys that were removed."""
    await connection.execute(
        "UPDATE tenant_deletions SET files = files + $2, cache_entries = cache_entries + $3,"
        " redis_keys = redis_keys + $4 WHERE tenant_id = $1",
        tenant_id,
        files,
        cache_entries,
        keys,
    )


async def complete(connection: Connection, tenant_id: UUID) -> None:
    """Note that nothing is left to remove."""
    await connection.execute(
        "UPDATE tenant_deletions SET completed_at = now() WHERE tenant_id = $1", tenant_id
    )
