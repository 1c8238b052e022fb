"""What every chat log does: keep messages in order, once, and each tenant's apart."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from planes.shared.domain import ChatMessage, new_id
from planes.shared.stores.postgres_chat_log import BUCKET_ROWS, PostgresChatLog
from tests.contract.conftest import ACME, GLOBEX


def message(seq: int, conversation_id: UUID, *, tenant: UUID = ACME) -> ChatMessage:
    return ChatMessage(
        id=new_id(),
        tenant_id=tenant,
        conversation_id=conversation_id,
        seq=seq,
        role="assistant",
        content=f"Nummer {seq} 👩‍🚀 'quoted'",
        created_at=datetime(2026, 11, 21, 8, 30, tzinfo=UTC),
        citations=[{"marker": "[1]", "quote": "ünï"}],
        usage={"prompt_tokens": 1, "cost_usd": "0.0000000100"},
        model="extractive",
        mode="rag",
        finish_reason="stop",
        grounded=True,
    )


async def test_messages_come_back_as_written_in_order(chat_log: PostgresChatLog) -> None:
    conversation_id = uuid4()
    messages = [message(seq, conversation_id) for seq in (1, 2, 3, 4, 5)]
    await chat_log.append(list(reversed(messages)))
    first = await chat_log.page(ACME, conversation_id, after_seq=0, limit=3)
    rest = await chat_log.page(ACME, conversation_id, after_seq=first[-1].seq, limit=3)
    assert first + rest == messages


async def test_writing_a_message_twice_changes_nothing(chat_log: PostgresChatLog) -> None:
    conversation_id = uuid4()
    written = message(1, conversation_id)
    await chat_log.append([written])
    await chat_log.append([replace(written, content="something else"), written])
    assert await chat_log.page(ACME, conversation_id, after_seq=0, limit=9) == [written]


async def test_pages_cross_buckets(chat_log: PostgresChatLog) -> None:
    conversation_id = uuid4()
    messages = [message(seq, conversation_id) for seq in range(BUCKET_ROWS - 2, BUCKET_ROWS + 3)]
    await chat_log.append(messages)
    page = await chat_log.page(ACME, conversation_id, after_seq=BUCKET_ROWS - 2, limit=10)
    assert page == messages[1:]


async def test_tenants_do_not_see_each_others_messages(chat_log: PostgresChatLog) -> None:
    conversation_id = uuid4()
    await chat_log.append([message(1, conversation_id)])
    assert await chat_log.page(GLOBEX, conversation_id, after_seq=0, limit=9) == []
    assert await chat_log.remove_conversation(GLOBEX, conversation_id) == 0
    assert len(await chat_log.page(ACME, conversation_id, after_seq=0, limit=9)) == 1


async def test_a_removed_conversation_is_gone(chat_log: PostgresChatLog) -> None:
    gone, kept = uuid4(), uuid4()
    await chat_log.append([message(1, gone), message(2, gone), message(1, kept)])
    assert await chat_log.remove_conversation(ACME, gone) == 2
    assert await chat_log.page(ACME, gone, after_seq=0, limit=9) == []
    assert len(await chat_log.page(ACME, kept, after_seq=0, limit=9)) == 1


async def test_of_several_answers_to_one_question_the_newest_is_read(
    chat_log: PostgresChatLog,
) -> None:
    conversation_id = uuid4()
    question, old, new = (message(seq, conversation_id) for seq in (1, 2, 2))
    following = message(3, conversation_id)
    await chat_log.append([new, following, question, old])
    page = await chat_log.page(ACME, conversation_id, after_seq=0, limit=3)
    assert page == [question, new, following]
    for each in (old, new):
        assert await chat_log.find(ACME, conversation_id, seq=2, message_id=each.id) == each
        assert await chat_log.find(GLOBEX, conversation_id, seq=2, message_id=each.id) is None
