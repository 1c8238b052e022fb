"""Answers are reserved and settled in SQL, one or many at once, by functions of the migrations."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from planes.shared.domain import ChatMode, TenantContext, new_id
from planes.shared.errors import Conflict, NotFound, PlatformError, QuotaExceeded
from planes.shared.stores.postgres import Connection
from services.gateway.billing.features import Feature, lacking

RESERVATION_LIFETIME = timedelta(seconds=60)
_QUOTAS = {
    "messages": "The plan's quota of messages is used up.",
    "tokens": "The plan's quota of tokens does not cover the longest possible answer.",
}


@dataclass(frozen=True, slots=True)
class Intent:
    """An answer that is about to be paid for; `title` is None in a conversation that exists.

    With `is_listed` the conversation stands in its user's list from now on; a new one without does
    not.
    """

    answer_id: UUID
    conversation_id: UUID
    title: str | None
    mode: ChatMode | None
    document_ids: list[UUID] | None
    question_id: UUID
    question: str
    message_id: UUID
    model: str
    max_prompt_tokens: int
    max_tokens: int
    is_listed: bool = True


@dataclass(frozen=True, slots=True)
class Reservation:
    """What the reservation found out; `summary` tells the messages up to `summary_seq`.

    `last_answer` is the conversation's newest one; None: there is none, or it is not known.
    """

    question_seq: int
    mode: ChatMode
    document_ids: tuple[UUID, ...] | None
    hidden_versions: tuple[UUID, ...]
    generation: int
    corpus_version: int
    summary: str = ""
    summary_seq: int = 0
    last_answer: UUID | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an answer came to; `payload` is what the chat log keeps of it.

    The ledger row's id makes it known again when the same settlement is tried twice. A `summary`
    tells the conversation's messages up to `summary_seq`; None: there is no new one.
    """

    model: str
    prompt_tokens: int
    completion_tokens: int
    payload: dict[str, Any]
    ledger_id: UUID = field(default_factory=new_id)
    summary: str | None = None
    summary_seq: int = 0


class Asked(NamedTuple):
    """Who wants an answer reserved, and which."""

    context: TenantContext
    intent: Intent


class Settled(NamedTuple):
    """Whose answer is to be settled, which, and how."""

    context: TenantContext
    answer_id: UUID
    settlement: Settlement


async def reserve(connection: Connection, context: TenantContext, intent: Intent) -> Reservation:
    """Reserve the worst case of an answer and store the question, in one statement.

    Raises:
        NotFound: The conversation is not the caller's.
        Conflict: It has an answer under way.
        Forbidden: The plan has no open chat.
        QuotaExceeded: It names the quota.
    """
    (reserved,) = await reserve_all(connection, [Asked(context, intent)])
    if isinstance(reserved, PlatformError):
        raise reserved
    return reserved


async def reserve_all(
    connection: Connection, asked: Sequence[Asked], *, lock_ms: int | None = None
) -> list[Reservation | PlatformError]:
    """Do as `reserve` for several, in one statement; return what it returns or would raise.

    Args:
        connection: Outside of a transaction, or in one of the tenant.
        asked: Answers, of any tenants.
        lock_ms: Longest wait for a lock; None: as long as a statement may take.

    Raises:
        asyncpg.LockNotAvailableError: A wait took longer; none is reserved.
    """
    rows = await connection.fetch(
        "SELECT * FROM reserve_group($1, $2, $3)",
        [_asked(number, each) for number, each in enumerate(asked)],
        lock_ms,
        RESERVATION_LIFETIME,
    )
    found = {row["number"]: _reserved(row) for row in rows}
    return [found[number] for number in range(len(asked))]


async def settle(
    connection: Connection, context: TenantContext, answer_id: UUID, settlement: Settlement
) -> Decimal | None:
    """Turn a reservation into its ledger row and its stored answer; None when it was swept."""
    (cost,) = await settle_all(connection, [Settled(context, answer_id, settlement)])
    return cost


async def settle_all(
    connection: Connection, settled: Sequence[Settled], *, lock_ms: int | None = None
) -> list[Decimal | None]:
    """Do as `settle` for several, of any tenants, in one statement; `lock_ms` as in `reserve_all`.

    Raises:
        asyncpg.LockNotAvailableError: A wait took longer; none is settled.
    """
    rows = await connection.fetch(
        "SELECT * FROM settle_answers($1, $2)",
        [_settled(number, each) for number, each in enumerate(settled)],
        lock_ms,
    )
    costs = {row["number"]: row["cost_usd"] for row in rows}
    return [costs[number] for number in range(len(settled))]


def _asked(number: int, asked: Asked) -> dict[str, object]:
    context, intent = asked
    return {
        "number": number,
        "tenant_id": context.tenant_id,
        "user_id": context.user_id,
        "answer_id": intent.answer_id,
        "conversation_id": intent.conversation_id,
        "title": intent.title,
        "mode": intent.mode,
        "document_ids": intent.document_ids,
        "question_id": intent.question_id,
        "question": intent.question,
        "message_id": intent.message_id,
        "model": intent.model,
        "max_prompt_tokens": intent.max_prompt_tokens,
        "max_tokens": intent.max_tokens,
        "is_listed": intent.is_listed,
    }


def _settled(number: int, settled: Settled) -> dict[str, object]:
    context, answer_id, settlement = settled
    return {
        "number": number,
        "tenant_id": context.tenant_id,
        "answer_id": answer_id,
        "ledger_id": settlement.ledger_id,
        "model": settlement.model,
        "prompt_tokens": settlement.prompt_tokens,
        "completion_tokens": settlement.completion_tokens,
        "payload": settlement.payload,
        "summary": settlement.summary,
        "summary_seq": settlement.summary_seq,
    }


def _reserved(row: asyncpg.Record) -> Reservation | PlatformError:
    status = row["status"]
    if status == "absent":
        return NotFound("There is no such conversation.")
    if status == "busy":
        return Conflict("The conversation is still being answered.", retry_after_s=2)
    if status == Feature.OPEN_CHAT:
        return lacking(Feature.OPEN_CHAT, row["answer_mode"])
    if status != "reserved":
        return QuotaExceeded(_QUOTAS[status], extensions={"quota": status})
    scope = row["scope_document_ids"]
    return Reservation(
        question_seq=row["question_seq"],
        mode=ChatMode(row["answer_mode"]),
        document_ids=None if scope is None else tuple(scope),
        hidden_versions=tuple(row["hidden_versions"]),
        generation=row["live_generation"],
        corpus_version=row["corpus_version"],
        summary=row["summary"],
        summary_seq=row["summary_seq"],
        last_answer=row["last_answer"],
    )
