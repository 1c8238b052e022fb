import asyncio
from collections.abc import AsyncGenerator

import pytest

from planes.serving.admission import Admission
from planes.shared.errors import Unavailable


class Writing:
    """Yields 1, and 2 once it is told to go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.is_closed = False

    async def run(self) -> AsyncGenerator[int, None]:
        try:
            yield 1
            await self.go_on.wait()
            yield 2
        finally:
            self.is_closed = True


def test_answers_above_the_limit_are_refused_until_one_has_ended() -> None:
    admission = Admission(1)
    with admission.place():
        with pytest.raises(Unavailable) as refused, admission.place():
            pass
        assert refused.value.retry_after_s == 2
    with admission.place():
        assert admission.answers == 1


async def answered(admission: Admission, writing: Writing) -> list[int]:
    with admission.place():
        return [item async for item in admission.until_stopped(writing.run())]


async def test_a_drain_waits_for_an_answer_that_ends_in_time() -> None:
    admission, writing = Admission(2), Writing()
    answer = asyncio.create_task(answered(admission, writing))
    await asyncio.sleep(0)
    draining = asyncio.create_task(admission.drain(60))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="stopping"), admission.place():
        pass
    assert not draining.done()
    writing.go_on.set()
    assert await answer == [1, 2]
    await asyncio.wait_for(draining, 5)


async def test_a_drain_ends_what_waits_with_a_failure_that_a_caller_may_see() -> None:
    admission, writing = Admission(2), Writing()
    answer = asyncio.create_task(answered(admission, writing))
    await asyncio.sleep(0)
    await asyncio.wait_for(admission.drain(0.01), 5)
    with pytest.raises(Unavailable, match="stopped"):
        await answer
    assert writing.is_closed


async def test_a_timeout_of_the_work_itself_is_not_taken_for_the_end() -> None:
    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        raise TimeoutError("its own")

    answer = Admission(1).until_stopped(failing())
    await anext(answer)
    with pytest.raises(TimeoutError, match="its own"):
        await anext(answer)
    await answer.aclose()


async def test_nothing_to_wait_for_drains_at_once() -> None:
    await asyncio.wait_for(Admission(1).drain(60), 5)
