"""What every chat log does: keep messages in order, once, and each tenant's apart."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from planes.shared.domain import ChatMessage, new_id
from planes.shared.ports import ChatLog
from tests.contract.conftest import ACME, GLOBEX

BUCKET = 10_000  # a border of every adapter's partitions


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


async def test_messages_come_back_as_written_in_order(chat_log: ChatLog) -> None:
    conversation_id = uuid4()
    messages = [message(seq, conversation_id) for seq in (1, 2, 3, 4, 5)]
    await chat_log.append(list(reversed(messages)))
    first = await chat_log.page(ACME, conversation_id, after_seq=0, limit=3)
    rest = await chat_log.page(ACME, conversation_id, after_seq=first[-1].seq, limit=3)
    assert first + rest == messages


async def test_writing_a_message_again_changes_nothing(chat_log: ChatLog) -> None:
    conversation_id = uuid4()
    written = [message(seq, conversation_id) for seq in (1, 2, 3)]
    await chat_log.append(written)
    await asyncio.gather(*(chat_log.append([*written[:2], written[0]]) for _ in range(5)))
    assert await chat_log.page(ACME, conversation_id, after_seq=0, limit=9) == written
    assert await chat_log.remove_conversation(ACME, conversation_id) == len(written)


async def test_pages_cross_buckets(chat_log: ChatLog) -> None:
    conversation_id = uuid4()
    messages = [message(seq, conversation_id) for seq in range(BUCKET - 2, BUCKET + 3)]
    await chat_log.append(messages)
    page = await chat_log.page(ACME, conversation_id, after_seq=BUCKET - 2, limit=10)
    assert page == messages[1:]


async def test_tenants_do_not_see_each_others_messages(chat_log: ChatLog) -> None:
    conversation_id = uuid4()
    await chat_log.append([message(1, conversation_id)])
    assert await chat_log.page(GLOBEX, conversation_id, after_seq=0, limit=9) == []
    assert await chat_log.remove_conversation(GLOBEX, conversation_id) == 0
    assert len(await chat_log.page(ACME, conversation_id, after_seq=0, limit=9)) == 1


async def test_a_removed_conversation_is_gone(chat_log: ChatLog) -> None:
    gone, kept = uuid4(), uuid4()
    await chat_log.append([message(1, gone), message(2, gone), message(1, kept)])
    assert await chat_log.remove_conversation(ACME, gone) == 2
    assert await chat_log.page(ACME, gone, after_seq=0, limit=9) == []
    assert len(await chat_log.page(ACME, kept, after_seq=0, limit=9)) == 1


async def test_of_several_answers_to_one_question_the_newest_is_read(
    chat_log: ChatLog,
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


async def test_pages_follow_one_another_whatever_the_order_of_writing(chat_log: ChatLog) -> None:
    conversation_id = uuid4()
    messages = [message(seq, conversation_id) for seq in range(1, 121)]
    await chat_log.append(sorted(messages, key=lambda each: each.seq * 77 % 121))
    read: list[ChatMessage] = []
    while page := await chat_log.page(
        ACME, conversation_id, after_seq=read[-1].seq if read else 0, limit=17
    ):
        read += page
    assert read == messages


async def test_many_answers_to_one_question_take_one_place_of_a_page(chat_log: ChatLog) -> None:
    conversation_id = uuid4()
    question, *answers, last = (message(seq, conversation_id) for seq in (1, *[2] * 12, 3))
    await chat_log.append([*answers, question, last])
    page = await chat_log.page(ACME, conversation_id, after_seq=0, limit=3)
    assert page == [question, answers[-1], last]
    assert await chat_log.page(ACME, conversation_id, after_seq=0, limit=2) == page[:2]
    assert await chat_log.page(ACME, conversation_id, after_seq=1, limit=1) == page[1:2]
    assert await chat_log.remove_conversation(ACME, conversation_id) == 14


async def test_numbers_may_be_far_apart(chat_log: ChatLog) -> None:
    conversation_id = uuid4()
    messages = [message(seq, conversation_id) for seq in (3, BUCKET + 1, 4 * BUCKET - 1)]
    await chat_log.append(messages)
    assert await chat_log.page(ACME, conversation_id, after_seq=0, limit=9) == messages
    assert await chat_log.page(ACME, conversation_id, after_seq=3, limit=1) == messages[1:2]
    assert await chat_log.page(ACME, conversation_id, after_seq=5 * BUCKET, limit=9) == []
    assert await chat_log.remove_conversation(ACME, conversation_id) == 3
    assert await chat_log.page(ACME, conversation_id, after_seq=0, limit=9) == []


async def test_long_messages_and_every_script_come_back_as_written(chat_log: ChatLog) -> None:
    conversation_id = uuid4()
    texts = [
        "é" * 500_000,
        "e\u0301 \u202e\u05e9\u05dc 漢字 \U0001f468\u200d\U0001f469",
        "\t\r\n\\ \"'$$;--",
        "",
    ]
    messages = [
        replace(message(seq, conversation_id), content=text) for seq, text in enumerate(texts, 1)
    ]
    await chat_log.append(messages)
    assert await chat_log.page(ACME, conversation_id, after_seq=0, limit=9) == messages


async def test_writers_do_not_lose_each_others_messages(chat_log: ChatLog) -> None:
    conversation_id = uuid4()
    messages = [message(seq, conversation_id) for seq in range(1, 101)]
    await asyncio.gather(*(chat_log.append(messages[start::10]) for start in range(10)))
    assert await chat_log.page(ACME, conversation_id, after_seq=0, limit=200) == messages


async def test_who_reads_while_a_conversation_is_removed_sees_messages_or_none(
    chat_log: ChatLog,
) -> None:
    conversation_id = uuid4()
    messages = [message(seq, conversation_id) for seq in range(1, 41)]
    await chat_log.append(messages)

    async def read() -> None:
        while page := await chat_log.page(ACME, conversation_id, after_seq=0, limit=40):
            assert all(each in messages for each in page)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(read())
        assert await chat_log.remove_conversation(ACME, conversation_id) == len(messages)
    assert await chat_log.remove_conversation(ACME, conversation_id) == 0


async def test_what_is_not_there_is_not_found(chat_log: ChatLog) -> None:
    conversation_id = uuid4()
    kept = message(1, conversation_id)
    await chat_log.append([kept])
    assert await chat_log.find(ACME, conversation_id, seq=2, message_id=kept.id) is None
    assert await chat_log.find(ACME, uuid4(), seq=1, message_id=kept.id) is None
    assert await chat_log.page(ACME, uuid4(), after_seq=0, limit=9) == []
    await chat_log.check()


async def test_whole_conversations_are_read_with_the_answers_that_others_replaced(
    chat_log: ChatLog,
) -> None:
    conversation_id, other = uuid4(), uuid4()
    seqs = [*range(1, 700), 5, 5, BUCKET, BUCKET + 1]
    messages = [message(seq, conversation_id) for seq in seqs]
    await chat_log.append([*messages, message(1, other)])
    batches = [some async for some in chat_log.messages(ACME, conversation_id)]
    found = [one for some in batches for one in some]
    assert all(0 < len(some) <= 500 for some in batches)
    assert [one.seq for one in found] == sorted(seqs)
    assert {one.id: one for one in found} == {one.id: one for one in messages}
    assert [some async for some in chat_log.messages(GLOBEX, conversation_id)] == []
