"""Feedback into an evaluation set: the operator reviews, and exports what was accepted."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from planes.shared.domain import TenantContext
from planes.shared.errors import Conflict, NotFound
from planes.shared.stores.postgres import Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.chat.history import ChatHistory
from services.gateway.feedback import repository

_FIRST = UUID(int=0)
_PART = 100


@dataclass(frozen=True, slots=True)
class Reviewable:
    """Feedback with the question and the answer that it is about.

    Attributes:
        relevant: The documents that answer the question: the reviewer's, or before a review those
            that a good answer cited.
        updated_at: When it was given or changed.
    """

    id: UUID
    tenant_id: UUID
    question: str
    answer: str
    rating: str
    comment: str | None
    correction: str | None
    model: str
    relevant: tuple[UUID, ...]
    updated_at: datetime


class FeedbackReview:
    """What an operator does with feedback, beside any gateway."""

    def __init__(self, database: Database, history: ChatHistory) -> None:
        """Store where feedback and messages are."""
        self._database = database
        self._history = history

    async def waiting(self) -> AsyncIterator[Reviewable]:
        """Yield what nobody has looked at since it was given or changed, the oldest first."""
        last: UUID | None = _FIRST
        while last is not None:
            rows = await self._waiting_after(last, _PART)
            for row in rows:
                if (found := await self._read(row)) is not None:
                    yield found
            last = rows[-1]["id"] if len(rows) == _PART else None

    async def find(self, feedback_id: UUID) -> Reviewable:
        """Return what waits for a review.

        Raises:
            NotFound: Nothing of this id does.
        """
        rows = await self._waiting_after(UUID(int=max(0, feedback_id.int - 1)), 1)
        found = await self._read(rows[0]) if rows and rows[0]["id"] == feedback_id else None
        if found is None:
            raise NotFound("No such feedback waits for a review.")
        return found

    async def decide(
        self, seen: Reviewable, *, is_accepted: bool, relevant: Sequence[UUID] = ()
    ) -> None:
        """Accept feedback for the evaluation set, or do not.

        Args:
            seen: The feedback as the reviewer has read it.
            is_accepted: Whether question and documents are good to evaluate by.
            relevant: The documents that answer the question; none: those that a good answer cited.

        Raises:
            Conflict: It was changed, taken away or reviewed since it was read.
        """
        documents = list(relevant or seen.relevant)
        async with self._database.tenant(seen.tenant_id) as connection:
            is_decided = await repository.review(
                connection, seen.id, seen.updated_at, is_accepted=is_accepted, relevant=documents
            )
            if not is_decided:
                raise Conflict("The feedback has changed since it was read. Look at it again.")
            event = AuditEvent(
                seen.tenant_id,
                Action.FEEDBACK_REVIEWED,
                actor_kind="operator",
                subject=f"feedback:{seen.id}",
                details={"accepted": is_accepted},
            )
            await record(connection, event)

    async def begin_export(self, tenant_id: UUID) -> None:
        """Note in a tenant's audit log that its documents and feedback are exported.

        Raises:
            NotFound: There is no such tenant.
        """
        async with self._database.tenant(tenant_id) as connection:
            if not await repository.is_tenant(connection, tenant_id):
                raise NotFound("There is no such tenant.")
            event = AuditEvent(tenant_id, Action.FEEDBACK_EXPORTED, actor_kind="operator")
            await record(connection, event)

    async def accepted(self, tenant_id: UUID) -> AsyncIterator[Reviewable]:
        """Yield what was accepted of one tenant, the oldest first."""
        last: UUID | None = _FIRST
        while last is not None:
            async with self._database.tenant(tenant_id) as connection:
                rows = await repository.accepted(connection, tenant_id, last, _PART)
            for row in rows:
                if (found := await self._read(row)) is not None:
                    yield found
            last = rows[-1]["id"] if len(rows) == _PART else None

    async def _waiting_after(self, last: UUID, limit: int) -> list[asyncpg.Record]:
        async with self._database.platform() as connection:
            return await repository.waiting(connection, last, limit)

    async def _read(self, row: asyncpg.Record) -> Reviewable | None:
        """Return feedback with its question and answer; None where they have gone meanwhile."""
        context = TenantContext(row["tenant_id"], row["user_id"])
        conversation_id, seq = row["conversation_id"], row["seq"]
        answer = await self._history.find(
            context, conversation_id, seq=seq, message_id=row["message_id"]
        )
        before = await self._history.page(context, conversation_id, after_seq=seq - 2, limit=1)
        if answer is None or not before or before[0].seq != seq - 1:
            return None
        cited = {UUID(each["document_id"]): None for each in row["citations"]}
        default = tuple(cited) if row["rating"] == "up" else ()
        return Reviewable(
            id=row["id"],
            tenant_id=row["tenant_id"],
            question=before[0].content,
            answer=answer.content,
            rating=row["rating"],
            comment=row["comment"],
            correction=row["correction"],
            model=row["model"],
            relevant=tuple(row["relevant_documents"] or default),
            updated_at=row["updated_at"],
        )
