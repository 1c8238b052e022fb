"""Reservations and conversations in SQL; the functions stand in the migrations."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from planes.shared.domain import ChatMessage, TenantContext
from planes.shared.errors import Conflict, NotFound
from planes.shared.stores.chat_rows import message_from
from planes.shared.stores.postgres import Connection
from services.gateway.chat.booking import RESERVATION_LIFETIME
from services.gateway.idempotency.models import AnswerPlace

WRITER_DEAD_S = 15.0  # without a checkpoint; there is one every two seconds
_EVENTS_LIFETIME = timedelta(minutes=6)  # a minute more than they have
_STOPPED_LIFETIME = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Produced:
    """How far an answer has come."""

    prompt_tokens: int
    completion_tokens: int
    content: str
    model: str


async def checkpoint(
    connection: Connection, context: TenantContext, answer_id: UUID, produced: Produced
) -> bool:
    """Note how far an answer has come and keep its reservation; False when it was swept."""
    kept: bool = await connection.fetchval(
        "SELECT checkpoint_answer($1, $2, $3, $4, $5, $6, $7)",
        context.tenant_id,
        answer_id,
        produced.model,
        produced.prompt_tokens,
        produced.completion_tokens,
        produced.content,
        RESERVATION_LIFETIME,
    )
    return kept


async def release(
    connection: Connection, context: TenantContext, answer_id: UUID, *, undo: bool
) -> None:
    """Give a reservation back; `undo` takes the question back too."""
    await connection.execute(
        "SELECT release_answer($1, $2, $3)", context.tenant_id, answer_id, undo
    )


async def regenerate(
    connection: Connection, context: TenantContext, answer_id: UUID, question_seq: int
) -> None:
    """Make an answer that was reserved in this transaction another one to a question that stands.

    Raises:
        Conflict: It is not the last question any more; the transaction must be rolled back.
    """
    is_last = await connection.fetchval(
        "SELECT regenerate_answer($1, $2, $3)", context.tenant_id, answer_id, question_seq + 1
    )
    if not is_last:
        raise Conflict("The conversation has gone on meanwhile.")


async def stop(connection: Connection, context: TenantContext, answer_id: UUID) -> bool:
    """Ask whoever writes an answer of the caller to end it; False when none is under way."""
    stopping: bool = await connection.fetchval(
        "SELECT stop_answer($1, $2, $3, $4)",
        context.tenant_id,
        context.user_id,
        answer_id,
        _STOPPED_LIFETIME,
    )
    return stopping


async def recent_answers(
    connection: Connection, context: TenantContext, conversation_id: UUID
) -> list[tuple[UUID, bool]]:
    """Return the caller's answers in a conversation whose events may be kept: (id, under way)."""
    rows = await connection.fetch(
        "SELECT id, true AS is_under_way FROM reservations "
        "WHERE tenant_id = $1 AND user_id = $2 AND conversation_id = $3 "
        "UNION ALL SELECT request_id, false FROM ledger "
        "WHERE tenant_id = $1 AND user_id = $2 AND conversation_id = $3 AND kind = 'answer' "
        "AND created_at > now() - $4::interval",
        context.tenant_id,
        context.user_id,
        conversation_id,
        _EVENTS_LIFETIME,
    )
    return [(row["id"], row["is_under_way"]) for row in rows]


async def written_ago_s(
    connection: Connection, context: TenantContext, answer_id: UUID
) -> float | None:
    """Return when an answer of the caller was last noted, in seconds; None: none is under way.

    Below 0 where its writer is dead and the sweep has put its reservation off.
    """
    ago: float | None = await connection.fetchval(
        "SELECT extract(epoch FROM now() + $4 - expires_at)::float8 FROM reservations "
        "WHERE tenant_id = $1 AND user_id = $2 AND id = $3",
        context.tenant_id,
        context.user_id,
        answer_id,
        RESERVATION_LIFETIME,
    )
    return ago


async def insert_conversation(
    connection: Connection, context: TenantContext, values: tuple[UUID, str, str, list[UUID] | None]
) -> None:
    """Insert an empty conversation of (id, title, mode, document ids)."""
    await connection.execute(
        "INSERT INTO conversations (id, tenant_id, user_id, title, mode, document_ids) "
        "VALUES ($3, $1, $2, $4, $5, $6)",
        context.tenant_id,
        context.user_id,
        *values,
    )


async def find_conversation(
    connection: Connection, context: TenantContext, conversation_id: UUID
) -> asyncpg.Record:
    """Return a conversation of the caller.

    Raises:
        NotFound: It is absent, deleted, or somebody else's.
    """
    row = await connection.fetchrow(
        "SELECT * FROM conversations WHERE id = $3 AND tenant_id = $1 AND user_id = $2 "
        "AND deleted_at IS NULL",
        context.tenant_id,
        context.user_id,
        conversation_id,
    )
    if row is None:
        raise NotFound("There is no such conversation.")
    return row


async def list_conversations(
    connection: Connection,
    context: TenantContext,
    before: UUID | None,
    limit: int,
    is_listed: bool,
) -> list[asyncpg.Record]:
    """Return the caller's conversations, newest first: those of people, or those of programs."""
    return await connection.fetch(
        "SELECT * FROM conversations WHERE tenant_id = $1 AND user_id = $2 AND deleted_at IS NULL "
        "AND is_listed = $5 AND ($3::uuid IS NULL OR id < $3) ORDER BY id DESC LIMIT $4",
        context.tenant_id,
        context.user_id,
        before,
        limit,
        is_listed,
    )


async def change_conversation(
    connection: Connection,
    context: TenantContext,
    conversation_id: UUID,
    changes: dict[str, object],
) -> None:
    """Set some of `title`, `mode` and `document_ids`."""
    for column in ("title", "mode", "document_ids"):
        if column in changes:
            await connection.execute(
                f"UPDATE conversations SET {column} = $3, updated_at = now() "  # noqa: S608 (ours)
                "WHERE tenant_id = $1 AND id = $2",
                context.tenant_id,
                conversation_id,
                changes[column],
            )


async def list_as(
    connection: Connection, context: TenantContext, conversation_id: UUID, *, is_listed: bool
) -> None:
    """Put a conversation into its user's list, or keep it out: then its client keeps it itself."""
    await connection.execute(
        "UPDATE conversations SET is_listed = $3 "
        "WHERE tenant_id = $1 AND id = $2 AND is_listed <> $3",
        context.tenant_id,
        conversation_id,
        is_listed,
    )


async def tombstone_conversation(
    connection: Connection, context: TenantContext, conversation_id: UUID
) -> None:
    """Take a conversation out of every list; maintenance removes its messages."""
    await connection.execute(
        "UPDATE conversations SET deleted_at = now(), summary = '' "
        "WHERE tenant_id = $1 AND id = $2",
        context.tenant_id,
        conversation_id,
    )


async def pending_messages(
    connection: Connection, wanted: Sequence[tuple[TenantContext, UUID, int]]
) -> list[list[ChatMessage]]:
    """Return the messages of each (context, conversation, after_seq) on their way to the log."""
    rows = await connection.fetch(
        "SELECT * FROM pending_messages($1)",
        [
            {
                "number": number,
                "tenant_id": context.tenant_id,
                "conversation_id": conversation_id,
                "after_seq": after_seq,
            }
            for number, (context, conversation_id, after_seq) in enumerate(wanted)
        ],
    )
    found: list[list[ChatMessage]] = [[] for _ in wanted]
    for number, message_id, seq, payload in rows:
        context, conversation_id, _ = wanted[number]
        place = context.tenant_id, conversation_id
        found[number].append(message_from(place, seq, message_id, payload))
    return found


async def pending_message(
    connection: Connection, context: TenantContext, message_id: UUID
) -> asyncpg.Record | None:
    """Return a message that is still on its way to the chat log."""
    return await connection.fetchrow(
        "SELECT id, tenant_id, conversation_id, seq, payload FROM outbox "
        "WHERE tenant_id = $1 AND id = $2",
        context.tenant_id,
        message_id,
    )


async def find_settled(
    connection: Connection, context: TenantContext, answer_id: UUID
) -> asyncpg.Record:
    """Return the ledger row of an answer of the caller.

    Raises:
        NotFound: It was not billed, or is somebody else's.
    """
    row = await connection.fetchrow(
        "SELECT * FROM ledger WHERE request_id = $3 AND kind = 'answer' AND tenant_id = $1 "
        "AND user_id = $2",
        context.tenant_id,
        context.user_id,
        answer_id,
    )
    if row is None:
        raise NotFound("There is no such answer.")
    return row


async def settled_place(
    connection: Connection, context: TenantContext, answer_id: UUID
) -> AnswerPlace | None:
    """Return where a billed answer of the caller stands; None: that was not noted then.

    Raises:
        NotFound: It was not billed, or is somebody else's.
    """
    bill = await find_settled(connection, context, answer_id)
    if bill["message_id"] is None:
        return None
    return AnswerPlace(answer_id, bill["conversation_id"], bill["message_id"], bill["seq"])


async def living_documents(
    connection: Connection, context: TenantContext, document_ids: list[UUID]
) -> set[UUID]:
    """Return those of the documents that are not deleted."""
    rows = await connection.fetch(
        "SELECT id FROM documents WHERE tenant_id = $1 AND id = ANY ($2) AND deleted_at IS NULL",
        context.tenant_id,
        document_ids,
    )
    return {row["id"] for row in rows}
