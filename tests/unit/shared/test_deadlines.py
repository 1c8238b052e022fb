import asyncio
import time

import pytest

from planes.shared.deadlines import answer_within


async def test_silence_ends_at_the_deadline() -> None:
    with pytest.raises(TimeoutError):
        async with answer_within(0.05):
            await asyncio.sleep(60)


async def test_an_answer_that_was_there_in_time_counts_though_the_loop_stood_still() -> None:
    reader, loop = asyncio.StreamReader(), asyncio.get_running_loop()
    async with answer_within(0.05):
        for _ in range(3):  # as after a login: several answers, one after the other
            loop.call_soon(time.sleep, 0.2)
            loop.call_later(0.01, reader.feed_data, b"pong\n")
            assert await reader.readline() == b"pong\n"


async def test_nothing_is_left_behind() -> None:
    async with answer_within(0.02):
        pass
    await asyncio.sleep(0.05)
