"""Feedback in SQL; what reads across tenants stands in the migrations."""

from dataclasses import dataclass
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
