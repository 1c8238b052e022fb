"""What people say of answers: one word and perhaps a better answer, joined to what they got."""

from uuid import UUID

from planes.shared.domain import ChatMessage, TenantContext
from planes.shared.errors import NotFound
from planes.shared.stores.postgres import Database
from services.gateway.chat.history import ChatHistory
from services.gateway.feedback import repository
from services.gateway.feedback.repository import AnswerAbout
from services.gateway.feedback.schemas import CitedPlace, Feedback, FeedbackInput
from services.gateway.idempotency.service import Effect


class FeedbackService:
    """Takes feedback, and shows it to its author and to owners and admins."""

    def __init__(self, database: Database, history: ChatHistory) -> None:
        """Store where feedback and messages are."""
        self._database = database
        self._history = history

    async def give(self, context: TenantContext, wanted: FeedbackInput, effect: Effect) -> Feedback:
        """Store what the caller says of an answer, in place of what was said before.

        Raises:
            NotFound: The answer is absent, or was given to somebody else.
        """
        about = _about(await self._answer(context, wanted.message_id))
        async with self._database.tenant(context.tenant_id) as connection:
            row = await repository.replace(connection, context, wanted, about)
            given = Feedback.of(row)
            await effect.record(connection, 201, given)
        return given

    async def of_caller(
        self, context: TenantContext, before: UUID | None, limit: int
    ) -> list[Feedback]:
        """Return the caller's feedback, newest first."""
        return await self._page(context, before, limit, context.user_id)

    async def of_tenant(
        self, context: TenantContext, before: UUID | None, limit: int
    ) -> list[Feedback]:
        """Return everybody's feedback in the caller's tenant, newest first."""
        return await self._page(context, before, limit, None)

    async def _page(
        self, context: TenantContext, before: UUID | None, limit: int, user_id: UUID | None
    ) -> list[Feedback]:
        async with self._database.tenant(context.tenant_id) as connection:
            rows = await repository.page(connection, context, before, limit, user_id)
        return [Feedback.of(row) for row in rows]

    async def _answer(self, context: TenantContext, message_id: UUID) -> ChatMessage:
        async with self._database.tenant(context.tenant_id) as connection:
            place = await repository.find_answer(connection, context, message_id)
        answer = await self._history.find(
            context, place["conversation_id"], seq=place["seq"], message_id=message_id
        )
        if answer is None:
            raise NotFound("There is no such answer.")
        return answer


def _about(answer: ChatMessage) -> AnswerAbout:
    places = [CitedPlace.model_validate(citation) for citation in answer.citations]
    return AnswerAbout(answer.model or "", [each.model_dump(mode="json") for each in places])
