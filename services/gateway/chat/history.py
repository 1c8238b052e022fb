"""The messages of a conversation: those in the chat log and those still on their way to it."""

from uuid import UUID

from planes.shared.domain import ChatMessage, TenantContext
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chat_log import PostgresChatLog, message_of
from planes.shared.wire import ChatTurn
from services.gateway.chat import repository


class ChatHistory:
    """Reads conversations."""

    def __init__(self, database: Database, chat_log: PostgresChatLog) -> None:
        """Store both places where messages are."""
        self._database = database
        self._chat_log = chat_log

    async def page(
        self, context: TenantContext, conversation_id: UUID, *, after_seq: int, limit: int
    ) -> list[ChatMessage]:
        """Return up to `limit` messages with `seq > after_seq`, oldest first.

        The outbox is read before the log: a message that moves in between is seen twice, never
        missed.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            rows = await repository.pending_messages(
                connection, context, conversation_id, after_seq
            )
        logged = await self._chat_log.page(
            context.tenant_id, conversation_id, after_seq=after_seq, limit=limit
        )
        messages = {message.id: message for message in [*logged, *map(message_of, rows)]}
        return sorted(messages.values(), key=lambda message: (message.seq, message.id))[:limit]

    async def turns_before(
        self, context: TenantContext, conversation_id: UUID, *, seq: int, limit: int
    ) -> tuple[ChatTurn, ...]:
        """Return the last `limit` messages before the one numbered `seq`, oldest first."""
        if seq <= 1 or limit == 0:
            return ()
        after_seq = max(0, seq - 1 - limit)
        messages = await self.page(context, conversation_id, after_seq=after_seq, limit=limit)
        return tuple(
            ChatTurn(role="assistant" if m.role == "assistant" else "user", content=m.content)
            for m in messages
            if m.seq < seq
        )
