"""What people say of answers: one word and perhaps a better answer, joined to what they got."""

from uuid import UUID

from planes.shared.domain import ChatMessage, Role, TenantContext
from planes.shared.errors import Forbidden, NotFound
from planes.shared.stores.postgres import Database
from services.gateway.auth.models import Account
from services.gateway.chat.history import ChatHistory
from services.gateway.feedback import repository
from services.gateway.feedback.repository import AnswerAbout
from services.gateway.feedback.schemas import CitedPlace, Feedback, FeedbackInput
from services.gateway.idempotency.service import Effect

_SIBLINGS = 50  # answers to one question that stand in the same place


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

    async def page(
        self, account: Account, before: UUID | None, limit: int, *, of_everyone: bool
    ) -> list[Feedback]:
        """Return the caller's feedback, or the tenant's; newest first.

        Raises:
            Forbidden: Only owners and admins see that of others.
        """
        context = account.context
        if of_everyone and account.role.rank < Role.ADMIN.rank:
            raise Forbidden("Only owners and admins see the feedback of others.")
        user_id = None if of_everyone else context.user_id
        async with self._database.tenant(context.tenant_id) as connection:
            rows = await repository.page(connection, context, before, limit, user_id)
        return [Feedback.of(row) for row in rows]

    async def _answer(self, context: TenantContext, message_id: UUID) -> ChatMessage:
        async with self._database.tenant(context.tenant_id) as connection:
            place = await repository.find_answer(connection, context, message_id)
        messages = await self._history.page(
            context, place["conversation_id"], after_seq=place["seq"] - 1, limit=_SIBLINGS
        )
        answer = next((message for message in messages if message.id == message_id), None)
        if answer is None:
            raise NotFound("There is no such answer.")
        return answer


def _about(answer: ChatMessage) -> AnswerAbout:
    places = [CitedPlace.model_validate(citation) for citation in answer.citations]
    return AnswerAbout(answer.model or "", [each.model_dump(mode="json") for each in places])
