"""Who reads an answer from the buffer, and what it takes for one who reads."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from planes.shared.domain import new_id
from services.gateway.chat.following import Follower
from services.gateway.chat.stream_buffer import Batch, SentEvent, StreamBuffer
from tests.integration.gateway.conftest import until

pytestmark = pytest.mark.integration
GRACE_S = 2.0


@pytest.fixture
async def buffer(redis_url: str) -> AsyncIterator[StreamBuffer]:
    async with Redis.from_url(redis_url) as client:
        yield StreamBuffer(client)


async def sent(buffer: StreamBuffer, key: str, number: int, *, is_last: bool = False) -> None:
    batch = Batch(number - 1, (SentEvent(number, b"event %d" % number, is_last=is_last),))
    await buffer.append(key, batch, oldest=1, lifetime_s=60)


async def test_a_client_that_takes_its_time_keeps_the_answer_going(buffer: StreamBuffer) -> None:
    async def is_written() -> bool:
        return True

    key = f"stream:{new_id()}"
    await sent(buffer, key, 1)
    events = Follower(buffer, key, 0, grace_s=GRACE_S).events(is_written, heartbeat_s=60)
    assert await anext(events) == b"event 1"  # and now it does not ask for more
    for _ in range(2):
        await buffer._redis.delete(f"{key}:seen")

        async def is_seen() -> bool:
            return await buffer.seen_s(key) > 0

        await until(is_seen)
    await events.aclose()


async def test_an_end_that_is_stored_a_moment_after_the_settlement_is_told(
    buffer: StreamBuffer,
) -> None:
    key, asked = f"stream:{new_id()}", asyncio.Event()

    async def is_written() -> bool:
        asked.set()
        return False

    await sent(buffer, key, 1)
    events = Follower(buffer, key, 1, grace_s=GRACE_S).events(is_written, heartbeat_s=60)
    last = asyncio.create_task(anext(events))
    await asked.wait()
    await sent(buffer, key, 2, is_last=True)
    assert await last == b"event 2"
    await events.aclose()
