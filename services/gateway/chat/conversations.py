"""Conversations of one person: make, list, change, delete, and read."""

from dataclasses import replace
from uuid import UUID

import asyncpg

from planes.shared.domain import ChatMessage, TenantContext, new_id
from planes.shared.errors import Conflict, NotFound
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_replica import ListReads
from services.gateway.chat import repository
from services.gateway.chat.history import ChatHistory, Exchange
from services.gateway.chat.replays import settled_answer
from services.gateway.chat.schemas import ChatAnswer, ConversationInput, NewConversation
from services.gateway.chat.titles import title_of
from services.gateway.idempotency.models import AnswerPlace
from services.gateway.idempotency.service import Effect

_UNTITLED = "New conversation"


class ConversationService:
    """What a person does with conversations, apart from asking."""

    def __init__(
        self, database: Database, history: ChatHistory, lists: ListReads | None = None
    ) -> None:
        """Store where conversations and messages are, and what lists may be read from."""
        self._database = database
        self._lists = lists or ListReads(database)
        self._history = history

    async def create(
        self, context: TenantContext, wanted: ConversationInput, effect: Effect
    ) -> NewConversation:
        """Make an empty conversation and return it."""
        conversation_id = new_id()
        values = (
            conversation_id,
            wanted.title or _UNTITLED,
            wanted.mode.value,
            wanted.document_ids,
        )
        async with self._database.tenant(context.tenant_id) as connection:
            await repository.insert_conversation(connection, context, values)
            row = await repository.find_conversation(connection, context, conversation_id)
            made = NewConversation.of(row)
            await effect.record(connection, 201, made)
        return made

    async def find(self, context: TenantContext, conversation_id: UUID) -> asyncpg.Record:
        """Return one conversation.

        Raises:
            NotFound: It is absent or somebody else's.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.find_conversation(connection, context, conversation_id)

    async def shown(
        self, context: TenantContext, before: UUID | None, limit: int, *, is_listed: bool = True
    ) -> list[asyncpg.Record]:
        """As `page`, for somebody who looks at the list: it may be a moment old."""
        return await self._lists.read(
            context.tenant_id,
            lambda connection: repository.list_conversations(
                connection, context, before, limit, is_listed
            ),
        )

    async def page(
        self, context: TenantContext, before: UUID | None, limit: int, *, is_listed: bool = True
    ) -> list[asyncpg.Record]:
        """Return a part of the caller's list, or of what is kept out of it; newest first."""
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.list_conversations(
                connection, context, before, limit, is_listed
            )

    async def change(
        self, context: TenantContext, conversation_id: UUID, changes: dict[str, object]
    ) -> asyncpg.Record:
        """Set some of `title`, `mode` and `document_ids`, and return the conversation.

        Raises:
            NotFound: It is absent or somebody else's.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            await repository.find_conversation(connection, context, conversation_id)
            await repository.change_conversation(connection, context, conversation_id, changes)
            return await repository.find_conversation(connection, context, conversation_id)

    async def delete(self, context: TenantContext, conversation_id: UUID) -> None:
        """Take a conversation away; its messages follow within seconds.

        Raises:
            NotFound: It is absent or somebody else's.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            await repository.find_conversation(connection, context, conversation_id)
            await repository.tombstone_conversation(connection, context, conversation_id)
        self._history.recent.forget(conversation_id)

    async def messages(
        self, context: TenantContext, conversation_id: UUID, *, after_seq: int, limit: int
    ) -> list[ChatMessage]:
        """Return messages oldest first; quotes from documents that are deleted are blank.

        Raises:
            NotFound: The conversation is absent or somebody else's.
        """
        count = (await self.find(context, conversation_id))["message_count"]
        # a page that is full is one read: the log need not look whether there is more
        limit = min(limit, count - after_seq)
        if limit <= 0:
            return []
        messages = await self._history.page(
            context, conversation_id, after_seq=after_seq, limit=limit
        )
        return await self._without_deleted(context, messages)

    async def settled_answer(self, context: TenantContext, place: AnswerPlace) -> ChatAnswer:
        """Return an answer again, from its ledger row and its message.

        Raises:
            NotFound: Its conversation was deleted.
        """
        await self.find(context, place.conversation_id)
        found = await self._history.find(
            context, place.conversation_id, seq=place.seq, message_id=place.message_id
        )
        if found is None:
            raise NotFound("The answer was deleted.")
        (message,) = await self._without_deleted(context, [found])
        async with self._database.tenant(context.tenant_id) as connection:
            bill = await repository.find_settled(connection, context, place.answer_id)
        return settled_answer(place, bill, message)

    async def last_exchange(self, context: TenantContext, conversation_id: UUID) -> Exchange:
        """Return the last question of a conversation, with its answer if it has one.

        Raises:
            NotFound: The conversation is absent or somebody else's.
            Conflict: Nothing was asked in it yet.
        """
        count = (await self.find(context, conversation_id))["message_count"]
        messages = await self._history.page(
            context, conversation_id, after_seq=max(0, count - 2), limit=2
        )
        questions = [message for message in messages if message.role == "user"]
        if not questions:
            raise Conflict("There is no question yet whose answer could be regenerated.")
        answers = [message for message in messages if message.seq == questions[-1].seq + 1]
        return Exchange(questions[-1], answers[0] if answers else None)

    async def opened(
        self, context: TenantContext, wanted: ConversationInput, answer: ChatAnswer
    ) -> NewConversation:
        """Return a conversation as it was when its first question was answered, then or later.

        Raises:
            NotFound: It was deleted.
        """
        row = await self.find(context, answer.conversation_id)
        then = {
            "title": wanted.title or title_of(wanted.message or ""),
            "mode": wanted.mode,
            "document_ids": wanted.document_ids,
            "message_count": 2,
            "updated_at": answer.message.created_at,
            "answer": answer,
        }
        return NewConversation.of(row).model_copy(update=then)

    async def _without_deleted(
        self, context: TenantContext, messages: list[ChatMessage]
    ) -> list[ChatMessage]:
        cited = sorted({UUID(str(c["document_id"])) for m in messages for c in m.citations})
        if not cited:
            return messages
        async with self._database.tenant(context.tenant_id) as connection:
            living = await repository.living_documents(connection, context, cited)
        return [replace(m, citations=[_blanked(c, living) for c in m.citations]) for m in messages]


def _blanked(citation: dict[str, object], living: set[UUID]) -> dict[str, object]:
    if UUID(str(citation["document_id"])) in living:
        return citation
    return {**citation, "quote": "", "document_name": ""}
