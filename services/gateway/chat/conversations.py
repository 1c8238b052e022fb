"""Conversations of one person: make, list, change, delete, and read."""

from dataclasses import replace
from uuid import UUID

import asyncpg

from planes.shared.domain import ChatMessage, ChatMode, TenantContext, new_id
from planes.shared.stores.postgres import Database
from services.gateway.chat import repository
from services.gateway.chat.history import ChatHistory

_UNTITLED = "New conversation"


class ConversationService:
    """What a person does with conversations, apart from asking."""

    def __init__(self, database: Database, history: ChatHistory) -> None:
        """Store where conversations and messages are."""
        self._database = database
        self._history = history

    async def create(
        self,
        context: TenantContext,
        *,
        title: str | None,
        mode: ChatMode,
        document_ids: list[UUID] | None,
    ) -> asyncpg.Record:
        """Make an empty conversation and return it."""
        conversation_id = new_id()
        async with self._database.tenant(context.tenant_id) as connection:
            values = (conversation_id, title or _UNTITLED, mode.value, document_ids)
            await repository.insert_conversation(connection, context, values)
            return await repository.find_conversation(connection, context, conversation_id)

    async def find(self, context: TenantContext, conversation_id: UUID) -> asyncpg.Record:
        """Return one conversation.

        Raises:
            NotFound: It is absent or somebody else's.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.find_conversation(connection, context, conversation_id)

    async def page(
        self, context: TenantContext, before: UUID | None, limit: int
    ) -> list[asyncpg.Record]:
        """Return a part of the caller's list, newest first."""
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.list_conversations(connection, context, before, limit)

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

    async def messages(
        self, context: TenantContext, conversation_id: UUID, *, after_seq: int, limit: int
    ) -> list[ChatMessage]:
        """Return messages oldest first; quotes from documents that are deleted are blank.

        Raises:
            NotFound: The conversation is absent or somebody else's.
        """
        await self.find(context, conversation_id)
        messages = await self._history.page(
            context, conversation_id, after_seq=after_seq, limit=limit
        )
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
