"""What a question is told of its conversation while the chat log is away."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import asyncpg
import pytest

from planes.shared.domain import ChatMessage, TenantContext
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Database
from services.gateway.chat.conversations import ConversationService
from services.gateway.chat.history import ChatHistory
from tests.contract.test_chat_log import message


class FakeLog:
    """Answers with what it is given, or not at all; counts how often it is asked."""

    def __init__(self, messages: list[ChatMessage]) -> None:
        self.messages = messages
        self._whose = {(each.tenant_id, each.conversation_id) for each in messages}
        self.is_away = False
        self.asked = 0
        self.limits: list[int] = []

    async def page(
        self, tenant_id: UUID, conversation_id: UUID, *, after_seq: int, limit: int
    ) -> list[ChatMessage]:
        assert {(tenant_id, conversation_id)} == self._whose
        self.asked += 1
        self.limits.append(limit)
        if self.is_away:
            raise Unavailable("The chat log does not answer.")
        return [each for each in self.messages if each.seq > after_seq][:limit]


@pytest.fixture
async def database(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    database = Database(database_urls["gateway"], service="test")
    await database.open()
    yield database
    await database.close()


async def test_questions_do_not_wait_for_a_log_that_was_away_a_moment_ago(
    database: Database,
) -> None:
    context = TenantContext(uuid4(), uuid4())
    conversation_id, now = uuid4(), [100.0]
    log = FakeLog([message(seq, conversation_id, tenant=context.tenant_id) for seq in (1, 2)])
    history = ChatHistory(database, log, clock=lambda: now[0])

    async def turns() -> int:
        told = await history.turns_before(context, conversation_id, seq=3, limit=10)
        assert told.is_partial == (not told.turns)
        return len(told.turns)

    assert await turns() == 2
    log.is_away = True
    assert [await turns(), await turns(), await turns()] == [0, 0, 0]
    assert log.asked == 2, "once for all three"
    now[0] += 6
    log.is_away = False
    assert await turns() == 2
    assert log.asked == 3


async def test_no_more_messages_are_asked_for_than_there_are(
    database: Database, database_urls: dict[str, str]
) -> None:
    context, conversation_id = TenantContext(uuid4(), uuid4()), uuid4()
    admin = await asyncpg.connect(database_urls["admin"])
    await admin.execute("INSERT INTO tenants (id, name) VALUES ($1, '')", context.tenant_id)
    await admin.execute("SET session_replication_role = replica")  # nobody is needed
    await admin.execute(
        "INSERT INTO conversations (id, tenant_id, user_id, title, mode, message_count) "
        "VALUES ($1, $2, $3, '', 'rag', 4)",
        *(conversation_id, context.tenant_id, context.user_id),
    )
    await admin.close()
    written = [message(seq, conversation_id, tenant=context.tenant_id) for seq in (1, 2, 3, 4)]
    log = FakeLog([replace(each, citations=[]) for each in written])
    history = ChatHistory(database, log)
    conversations = ConversationService(database, history)
    assert len(await conversations.messages(context, conversation_id, after_seq=0, limit=51)) == 4
    assert await conversations.messages(context, conversation_id, after_seq=4, limit=51) == []
    assert len((await history.turns_before(context, conversation_id, seq=5, limit=10)).turns) == 4
    assert log.limits == [4, 4], "a log asked for more looks where more could be"
