"""Feedback into an evaluation set: the operator reviews, and exports what was accepted."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from planes.shared.domain import TenantContext
from planes.shared.errors import NotFound
from planes.shared.stores.postgres import Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.chat.history import ChatHistory

_FIRST = UUID(int=0)
_PART = 100
_BACK = 10  # messages before an answer among which its question stands


@dataclass(frozen=True, slots=True)
class Reviewable:
    """Feedback with the question and the answer that it is about.

    Attributes:
        relevant: The documents that answer the question: the reviewer's, or before a review those
            that a good answer cited.
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


class FeedbackReview:
    """What an operator does with feedback, beside any gateway."""

    def __init__(self, database: Database, history: ChatHistory) -> None:
        """Store where feedback and messages are."""
        self._database = database
        self._history = history

    async def waiting(self) -> AsyncIterator[Reviewable]:
        """Yield what nobody has looked at since it was given or changed, the oldest first."""
        async for each in self._each(is_accepted=False):
            yield each

    async def accepted(self, tenant_id: UUID) -> list[Reviewable]:
        """Return what was accepted of one tenant, the oldest first; the audit log says so."""
        found = [each async for each in self._each(is_accepted=True)]
        async with self._database.tenant(tenant_id) as connection:
            event = AuditEvent(tenant_id, Action.FEEDBACK_EXPORTED, actor_kind="operator")
            await record(connection, event)
        return [each for each in found if each.tenant_id == tenant_id]

    async def decide(
        self, feedback_id: UUID, *, is_accepted: bool, relevant: Sequence[UUID]
    ) -> None:
        """Accept feedback for the evaluation set, or do not.

        Args:
            feedback_id: Which.
            is_accepted: Whether question and documents are good to evaluate by.
            relevant: The documents that answer the question; none: those that a good answer cited.

        Raises:
            NotFound: There is no such feedback to review.
        """
        async for each in self._each(is_accepted=False):
            if each.id == feedback_id:
                break
        else:
            raise NotFound("No such feedback waits for a review.")
        async with self._database.tenant(each.tenant_id) as connection:
            documents = list(relevant or each.relevant)
            await connection.execute(
                "SELECT review_feedback($1, $2, $3, NULL)", feedback_id, is_accepted, documents
            )
            event = AuditEvent(
                each.tenant_id,
                Action.FEEDBACK_REVIEWED,
                actor_kind="operator",
                subject=f"feedback:{feedback_id}",
                details={"accepted": is_accepted},
            )
            await record(connection, event)

    async def _each(self, *, is_accepted: bool) -> AsyncIterator[Reviewable]:
        last: UUID | None = _FIRST
        while last is not None:
            async with self._database.platform() as connection:
                rows = await connection.fetch(
                    "SELECT * FROM feedback_for_review($1, $2, $3)", is_accepted, last, _PART
                )
            for row in rows:
                if (found := await self._read(row)) is not None:
                    yield found
            last = rows[-1]["id"] if len(rows) == _PART else None

    async def _read(self, row: asyncpg.Record) -> Reviewable | None:
        """Return feedback with its question and answer; None where they have gone meanwhile."""
        context = TenantContext(row["tenant_id"], row["user_id"])
        after_seq = max(0, row["seq"] - 1 - _BACK)
        messages = await self._history.page(
            context, row["conversation_id"], after_seq=after_seq, limit=10 * _BACK
        )
        answer = next((m for m in messages if m.id == row["message_id"]), None)
        questions = [m for m in messages if m.role == "user" and m.seq < row["seq"]]
        if answer is None or not questions:
            return None
        cited = {UUID(each["document_id"]): None for each in row["citations"]}
        default = tuple(cited) if row["rating"] == "up" else ()
        return Reviewable(
            id=row["id"],
            tenant_id=row["tenant_id"],
            question=questions[-1].content,
            answer=answer.content,
            rating=row["rating"],
            comment=row["comment"],
            correction=row["correction"],
            model=row["model"],
            relevant=tuple(row["relevant_documents"] or default),
        )
