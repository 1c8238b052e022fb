"""The chat log in PostgreSQL, for installations without a CQL server."""

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple
from uuid import UUID

from planes.shared.domain import ChatMessage
from planes.shared.stores.chat_rows import message_from, message_of, payload_of
from planes.shared.stores.postgres import Connection, Database
from planes.shared.together import Together

BUCKET_ROWS = 10_000
_ROWS = 500  # of a conversation that is read as a whole
_HOLD = """
SELECT true FROM conversations WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL FOR SHARE
"""
_ALL = """
SELECT * FROM chat_messages
WHERE tenant_id = $1 AND conversation_id = $2 AND (seq, id) > ($3, $4) ORDER BY seq, id LIMIT $5
"""
_CONVERSATIONS = """
SELECT DISTINCT tenant_id, conversation_id FROM chat_messages
WHERE (tenant_id, conversation_id) > ($1, $2) ORDER BY 1, 2 LIMIT $3
"""


class _Page(NamedTuple):
    """A page that somebody asks for."""

    tenant_id: UUID
    conversation_id: UUID
    after_seq: int
    most: int


class PostgresChatLog:
    """Messages by (tenant, conversation, bucket); writing one twice changes nothing."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database
        self._pages = Together[_Page, list[ChatMessage]](self._all_pages)

    async def check(self) -> None:
        """Ask the database whether it is there."""
        async with self._database.platform() as connection:
            await connection.fetchval("SELECT 1")

    async def append(self, messages: Sequence[ChatMessage]) -> None:
        """Write messages of one tenant; they are durable on return.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._database.tenant(messages[0].tenant_id) as connection:
            await _insert(connection, messages)

    async def announce(self, messages: Sequence[ChatMessage]) -> None:
        """Do nothing: `adopt` looks at the conversation itself."""

    async def adopt(self, messages: Sequence[ChatMessage]) -> None:
        """Write messages of one conversation, while nobody can delete it; not if it was deleted."""
        conversation = (messages[0].tenant_id, messages[0].conversation_id)
        async with self._database.tenant(conversation[0]) as connection:
            if await connection.fetchval(_HOLD, *conversation):
                await _insert(connection, messages)

    async def messages(
        self, tenant_id: UUID, conversation_id: UUID
    ) -> AsyncGenerator[list[ChatMessage], None]:
        """Yield all messages of a conversation, by number and id."""
        last = (-1, UUID(int=0))
        while True:
            async with self._database.tenant(tenant_id) as connection:
                rows = await connection.fetch(_ALL, tenant_id, conversation_id, *last, _ROWS)
            if rows:
                yield [message_of(row) for row in rows]
            if len(rows) < _ROWS:
                return
            last = (rows[-1]["seq"], rows[-1]["id"])

    async def conversations(self) -> AsyncGenerator[list[tuple[UUID, UUID]], None]:
        """Yield every conversation that has messages, by tenant and id, for the schema's owner."""
        last = (UUID(int=0), UUID(int=0))
        while True:
            async with self._database.platform() as connection:
                rows = await connection.fetch(_CONVERSATIONS, *last, _ROWS)
            if not rows:
                return
            yield [(row["tenant_id"], row["conversation_id"]) for row in rows]
            last = (rows[-1]["tenant_id"], rows[-1]["conversation_id"])

    async def page(
        self, tenant_id: UUID, conversation_id: UUID, *, after_seq: int, limit: int
    ) -> list[ChatMessage]:
        """Return up to `limit` messages with `seq > after_seq`, oldest first.

        Of several with the same `seq`, which are answers to one question, only the newest.
        """
        return await self._pages.do(_Page(tenant_id, conversation_id, after_seq, limit))

    async def _all_pages(self, wanted: Sequence[_Page]) -> list[list[ChatMessage]]:
        async with self._database.platform() as connection:
            rows = await connection.fetch(
                "SELECT * FROM logged_messages($1)",
                [
                    {**each._asdict(), "number": number, "bucket": each.after_seq // BUCKET_ROWS}
                    for number, each in enumerate(wanted)
                ],
            )
        found: list[list[ChatMessage]] = [[] for _ in wanted]
        for number, message_id, seq, payload in rows:
            place = wanted[number].tenant_id, wanted[number].conversation_id
            found[number].append(message_from(place, seq, message_id, payload))
        return found

    async def find(
        self, tenant_id: UUID, conversation_id: UUID, *, seq: int, message_id: UUID
    ) -> ChatMessage | None:
        """Return one message by its whole key; None: there is none."""
        async with self._database.tenant(tenant_id) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM chat_messages WHERE tenant_id = $1 AND conversation_id = $2 "
                "AND bucket = $3 AND seq = $4 AND id = $5",
                tenant_id,
                conversation_id,
                seq // BUCKET_ROWS,
                seq,
                message_id,
            )
        return None if row is None else message_of(row)

    async def is_empty(self) -> bool:
        """Return whether there are no messages, as the owner of the schema sees it."""
        async with self._database.platform() as connection:
            return not await connection.fetchval("SELECT EXISTS (SELECT FROM chat_messages)")

    async def remove_conversation(self, tenant_id: UUID, conversation_id: UUID) -> int:
        """Remove every message of a conversation and return how many there were."""
        async with self._database.tenant(tenant_id) as connection:
            result = await connection.execute(
                "DELETE FROM chat_messages WHERE tenant_id = $1 AND conversation_id = $2",
                tenant_id,
                conversation_id,
            )
        return int(result.split()[-1])


async def _insert(connection: Connection, messages: Sequence[ChatMessage]) -> None:
    await connection.executemany(
        "INSERT INTO chat_messages (tenant_id, conversation_id, bucket, seq, id, payload) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        [
            (m.tenant_id, m.conversation_id, m.seq // BUCKET_ROWS, m.seq, m.id, payload_of(m))
            for m in messages
        ],
    )
