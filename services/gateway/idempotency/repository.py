"""Repeatable requests in SQL; every statement names tenant, user and key."""

from datetime import timedelta
from uuid import UUID

import asyncpg

from planes.shared.stores.postgres import Connection
from services.gateway.idempotency.models import AnswerPlace, Earlier, RequestId, StoredResponse

LIFETIME = timedelta(hours=24)
LEASE = timedelta(seconds=60)


async def claim(
    connection: Connection, request: RequestId, attempt: UUID, fingerprint: bytes
) -> bool:
    """Take a key for an attempt; False when another one has it.

    Free are keys that nobody uses, that are past their lifetime, or whose attempt died without an
    effect. The condition reads the row alone: on a conflict PostgreSQL looks at its newest state,
    while other tables would be seen as they were before.
    """
    taken = await connection.fetchval(
        "INSERT INTO idempotent_requests AS r "
        "(tenant_id, user_id, key, fingerprint, attempt, locked_until) "
        "VALUES ($1, $2, $3, $4, $5, now() + $6) "
        "ON CONFLICT (tenant_id, user_id, key) DO UPDATE SET fingerprint = $4, attempt = $5, "
        "locked_until = now() + $6, created_at = now(), completed_at = NULL, "
        "response_status = NULL, response_body = NULL, answer_id = NULL, conversation_id = NULL, "
        "message_id = NULL, seq = NULL "
        "WHERE r.created_at <= now() - $7::interval OR (r.completed_at IS NULL "
        "AND r.answer_id IS NULL AND r.locked_until <= now()) RETURNING true",
        *_key(request),
        fingerprint,
        attempt,
        LEASE,
        LIFETIME,
    )
    return taken is not None


async def find(connection: Connection, request: RequestId) -> Earlier | None:
    """Return the attempt that has a key, with what came of it."""
    row = await connection.fetchrow(
        "SELECT r.*, l.request_id IS NOT NULL AS is_settled, r.answer_id IS NOT NULL "
        "AND l.request_id IS NULL AND v.id IS NULL AS is_given_back, extract(epoch FROM "
        "coalesce(v.expires_at, r.locked_until) - now())::float8 AS lease_left_s "
        "FROM idempotent_requests r "
        "LEFT JOIN ledger l ON l.request_id = r.answer_id AND l.kind = 'answer' "
        "AND l.tenant_id = r.tenant_id "
        "LEFT JOIN reservations v ON v.id = r.answer_id AND v.tenant_id = r.tenant_id "
        "WHERE r.tenant_id = $1 AND r.user_id = $2 AND r.key = $3",
        *_key(request),
    )
    return None if row is None else _earlier(row)


async def take_over(
    connection: Connection, request: RequestId, new: tuple[UUID, bytes], old: UUID
) -> bool:
    """Give the key of an answer that was given back to (attempt, fingerprint).

    False when another attempt was faster.
    """
    result = await connection.execute(
        "UPDATE idempotent_requests SET attempt = $4, fingerprint = $5, locked_until = now() + $6, "
        "created_at = now(), answer_id = NULL, conversation_id = NULL, message_id = NULL, "
        "seq = NULL WHERE tenant_id = $1 AND user_id = $2 AND key = $3 AND attempt = $7",
        *_key(request),
        *new,
        LEASE,
        old,
    )
    return result.endswith("1")


async def complete(
    connection: Connection, request: RequestId, attempt: UUID, response: StoredResponse
) -> bool:
    """Store what a request was answered; False when the attempt has lost its key."""
    result = await connection.execute(
        "UPDATE idempotent_requests SET completed_at = now(), response_status = $5, "
        "response_body = $6 WHERE tenant_id = $1 AND user_id = $2 AND key = $3 AND attempt = $4",
        *_key(request),
        attempt,
        response.status,
        response.body,
    )
    return result.endswith("1")


async def point_to_answer(
    connection: Connection, request: RequestId, attempt: UUID, place: AnswerPlace
) -> bool:
    """Store where a request's answer will be; False when the attempt has lost its key."""
    result = await connection.execute(
        "UPDATE idempotent_requests SET answer_id = $5, conversation_id = $6, message_id = $7, "
        "seq = $8 WHERE tenant_id = $1 AND user_id = $2 AND key = $3 AND attempt = $4",
        *_key(request),
        attempt,
        place.answer_id,
        place.conversation_id,
        place.message_id,
        place.seq,
    )
    return result.endswith("1")


async def give_up(connection: Connection, request: RequestId, attempt: UUID) -> None:
    """Free the key of an attempt that failed before it had an effect; else change nothing."""
    await connection.execute(
        "DELETE FROM idempotent_requests WHERE tenant_id = $1 AND user_id = $2 AND key = $3 "
        "AND attempt = $4 AND completed_at IS NULL AND answer_id IS NULL",
        *_key(request),
        attempt,
    )


async def forget_expired(connection: Connection, limit: int) -> int:
    """Remove requests past their lifetime, of every tenant; returns how many."""
    count: int = await connection.fetchval(
        "SELECT forget_idempotent_requests($1, $2)", LIFETIME, limit
    )
    return count


def _key(request: RequestId) -> tuple[UUID, UUID, str]:
    return request.context.tenant_id, request.context.user_id, request.key


def _earlier(row: asyncpg.Record) -> Earlier:
    response = settled = under_way = None
    if row["completed_at"] is not None:
        response = StoredResponse(row["response_status"], row["response_body"])
    if row["answer_id"] is not None and not row["is_given_back"]:
        place = AnswerPlace(row["answer_id"], row["conversation_id"], row["message_id"], row["seq"])
        settled, under_way = (place, None) if row["is_settled"] else (None, place)
    return Earlier(
        attempt=row["attempt"],
        fingerprint=row["fingerprint"],
        response=response,
        settled=settled,
        under_way=under_way,
        is_given_back=row["is_given_back"],
        lease_left_s=row["lease_left_s"],
    )
