"""Feedback in SQL; what reads across tenants stands in the migrations."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from planes.shared.domain import TenantContext, new_id
from planes.shared.errors import NotFound
from planes.shared.stores.postgres import Connection
from services.gateway.feedback.schemas import FeedbackInput

_OWN_ANSWER = (
    "FROM answers a JOIN conversations c ON c.id = a.conversation_id AND c.tenant_id = $1 "
    "WHERE a.tenant_id = $1 AND c.user_id = $2 AND a.message_id = $3 AND c.deleted_at IS NULL"
)
_NO_ANSWER = "There is no such answer."


@dataclass(frozen=True, slots=True)
class AnswerAbout:
    """What feedback keeps of the answer that it is about; `citations` are without quotes."""

    model: str
    citations: list[dict[str, Any]]


async def find_answer(
    connection: Connection, context: TenantContext, message_id: UUID
) -> asyncpg.Record:
    """Return conversation and number of an answer to the caller.

    Raises:
        NotFound: There is none, or it was given to somebody else.
    """
    row = await connection.fetchrow(
        f"SELECT a.conversation_id, a.seq {_OWN_ANSWER}",
        context.tenant_id,
        context.user_id,
        message_id,
    )
    if row is None:
        raise NotFound(_NO_ANSWER)
    return row


async def replace(
    connection: Connection, context: TenantContext, wanted: FeedbackInput, about: AnswerAbout
) -> asyncpg.Record:
    """Store feedback in place of what the caller said of the answer before.

    Raises:
        NotFound: The answer has gone.
    """
    row = await connection.fetchrow(
        "INSERT INTO feedback (id, tenant_id, user_id, message_id, rating, comment, correction, "  # nosec B608
        f"model, citations) SELECT $4, $1, $2, $3, $5, $6, $7, $8, $9 {_OWN_ANSWER} "
        "ON CONFLICT (tenant_id, user_id, message_id) DO UPDATE SET rating = $5, comment = $6, "
        "correction = $7, updated_at = now(), reviewed_at = NULL, is_accepted = NULL, "
        "relevant_documents = NULL RETURNING *",
        context.tenant_id,
        context.user_id,
        wanted.message_id,
        new_id(),
        wanted.rating,
        wanted.comment,
        wanted.correction,
        about.model,
        about.citations,
    )
    if row is None:
        raise NotFound(_NO_ANSWER)
    return row


async def page(
    connection: Connection,
    context: TenantContext,
    before: UUID | None,
    limit: int,
    user_id: UUID | None,
) -> list[asyncpg.Record]:
    """Return feedback of one user or of the tenant's users, newest first."""
    return await connection.fetch(
        "SELECT f.* FROM feedback f JOIN answers a ON a.message_id = f.message_id "
        "JOIN conversations c ON c.id = a.conversation_id AND c.deleted_at IS NULL "
        "WHERE f.tenant_id = $1 AND ($2::uuid IS NULL OR f.user_id = $2) "
        "AND ($3::uuid IS NULL OR f.id < $3) ORDER BY f.id DESC LIMIT $4",
        context.tenant_id,
        user_id,
        before,
        limit,
    )


async def waiting(connection: Connection, after: UUID, limit: int) -> list[asyncpg.Record]:
    """Return feedback of all tenants that waits for a review, the oldest first."""
    return await connection.fetch("SELECT * FROM feedback_for_review(false, $1, $2)", after, limit)


async def review(
    connection: Connection,
    feedback_id: UUID,
    seen_at: datetime,
    *,
    is_accepted: bool,
    relevant: list[UUID],
) -> bool:
    """Note a decision; False: the feedback is gone, or is not what was read."""
    query = "SELECT review_feedback($1, $2, $3, $4)"
    found = await connection.fetchval(query, feedback_id, is_accepted, relevant, seen_at)
    return found is not None


async def accepted(
    connection: Connection, tenant_id: UUID, after: UUID, limit: int
) -> list[asyncpg.Record]:
    """Return a tenant's feedback that was accepted, with where its answer stands; oldest first."""
    return await connection.fetch(
        "SELECT f.*, a.conversation_id, a.seq FROM feedback f "
        "JOIN answers a ON a.message_id = f.message_id AND a.tenant_id = $1 "
        "JOIN conversations c ON c.id = a.conversation_id AND c.tenant_id = $1 "
        "AND c.deleted_at IS NULL WHERE f.tenant_id = $1 AND f.is_accepted AND f.id > $2 "
        "ORDER BY f.id LIMIT $3",
        tenant_id,
        after,
        limit,
    )


async def is_tenant(connection: Connection, tenant_id: UUID) -> bool:
    """Tell whether there is such a tenant."""
    query = "SELECT EXISTS (SELECT FROM tenants WHERE id = $1 AND deleted_at IS NULL)"
    return bool(await connection.fetchval(query, tenant_id))


async def published_documents(
    connection: Connection, tenant_id: UUID, after: UUID, limit: int
) -> list[asyncpg.Record]:
    """Return id, name and published version of a tenant's documents that search finds."""
    return await connection.fetch(
        "SELECT id, name, published_version_id AS version_id FROM documents WHERE tenant_id = $1 "
        "AND deleted_at IS NULL AND published_version_id IS NOT NULL AND id > $2 "
        "ORDER BY id LIMIT $3",
        tenant_id,
        after,
        limit,
    )
