import asyncio
import time

import pytest

from planes.shared.deadlines import Deadline, answer_within


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


async def test_a_deadline_that_is_put_off_passes_once_and_late() -> None:
    missed: list[float] = []
    loop = asyncio.get_running_loop()
    deadline = Deadline(lambda: missed.append(loop.time()))
    begun = loop.time()
    deadline.set(0.02)
    await asyncio.sleep(0.01)
    deadline.set(0.05)
    await asyncio.sleep(0.03)
    assert not missed
    await asyncio.sleep(0.1)
    assert len(missed) == 1
    assert missed[0] - begun >= 0.05


async def test_a_deadline_may_come_nearer_and_be_taken_back() -> None:
    missed: list[bool] = []
    deadline = Deadline(lambda: missed.append(True))
    deadline.set(60)
    deadline.set(0.02)
    await asyncio.sleep(0.1)
    assert missed == [True]
    deadline.set(0.02)
    deadline.clear()
    await asyncio.sleep(0.05)
    assert missed == [True]


async def test_a_loop_that_stood_still_is_no_miss() -> None:
    missed: list[bool] = []
    deadline = Deadline(lambda: missed.append(True))
    deadline.set(0.05)
    asyncio.get_running_loop().call_soon(time.sleep, 0.2)
    await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    assert not missed
    deadline.clear()
