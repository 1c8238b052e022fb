"""Calls that wait at the same time go together; each is done exactly once, whatever happens."""

import asyncio
from collections.abc import Sequence

import pytest

from planes.shared.together import NotTogether, Together


class _Doubling:
    """Doubles numbers; `groups` are those that were done together, `singles` those alone."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.singles: list[int] = []
        self.undone: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.stuck = asyncio.Event()
        self.together = Together[int, int](self._all, alone=self._alone, unclaimed=self._undo)

    async def _all(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.groups.append(list(items))
        await self.gate.wait()
        if 13 in items:
            raise NotTogether
        if 99 in items:
            raise OSError("the group has failed")
        return [ValueError("negative") if item < 0 else 2 * item for item in items]

    async def _alone(self, item: int) -> int:
        self.singles.append(item)
        if item == 13:
            await self.stuck.wait()
            raise ValueError("thirteen")
        return 2 * item

    async def _undo(self, item: int, result: int) -> None:
        self.undone.append(result // 2 if result == 2 * item else -1)


async def _all_of(doubling: _Doubling, *items: int) -> list[int | BaseException]:
    return await asyncio.gather(*map(doubling.together.do, items), return_exceptions=True)


async def test_what_waits_while_a_group_is_under_way_is_the_next_group() -> None:
    doubling = _Doubling()
    doubling.gate.clear()
    first = asyncio.create_task(doubling.together.do(1))
    await asyncio.sleep(0.01)
    others = asyncio.create_task(_all_of(doubling, 2, 3, 4))
    await asyncio.sleep(0.01)
    doubling.gate.set()
    assert await first == 2
    assert await others == [4, 6, 8]
    assert doubling.groups == [[1], [2, 3, 4]]


async def test_one_member_s_failure_is_its_own() -> None:
    one, two, three = await _all_of(_Doubling(), 1, -2, 3)
    assert (one, three) == (2, 6)
    assert isinstance(two, ValueError)


async def test_the_failure_of_a_group_is_everybody_s_and_the_next_group_goes_on() -> None:
    doubling = _Doubling()
    assert all(isinstance(each, OSError) for each in await _all_of(doubling, 1, 99))
    assert await doubling.together.do(5) == 10


async def test_a_member_that_spoils_its_group_fails_alone_and_keeps_nobody_waiting() -> None:
    doubling = _Doubling()
    spoiler = asyncio.create_task(doubling.together.do(13))
    assert await _all_of(doubling, 1, 2) == [2, 4]  # its group has failed, and it hangs
    assert await _all_of(doubling, 3, 4) == [6, 8]
    assert not spoiler.done()
    doubling.stuck.set()
    with pytest.raises(ValueError, match="thirteen"):
        await spoiler


async def test_an_item_is_done_once_though_its_caller_is_cancelled() -> None:
    doubling = _Doubling()
    doubling.gate.clear()
    under_way = asyncio.create_task(doubling.together.do(1))
    await asyncio.sleep(0.01)
    waiting = asyncio.create_task(doubling.together.do(2))
    stays = asyncio.create_task(doubling.together.do(3))
    await asyncio.sleep(0.01)
    under_way.cancel()
    waiting.cancel()
    doubling.gate.set()
    assert await stays == 6
    await asyncio.sleep(0.01)
    assert doubling.groups == [[1], [2, 3]]
    assert doubling.undone == [1, 2]


async def test_failures_that_nobody_waits_for_are_not_undone() -> None:
    doubling = _Doubling()
    doubling.gate.clear()
    gone = asyncio.create_task(doubling.together.do(-1))
    await asyncio.sleep(0.01)
    gone.cancel()
    doubling.gate.set()
    assert await doubling.together.do(4) == 8
    assert doubling.undone == []
