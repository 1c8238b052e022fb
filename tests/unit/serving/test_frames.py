"""Frames on their way out: together where they come together, none lost, none out of order."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from starlette.types import Message

from planes.serving.frames import Frames, grouped


class Bursts:
    """Bursts of frames with a pause after each; it knows whether it was closed."""

    def __init__(self, *bursts: list[bytes], error: Exception | None = None) -> None:
        self._bursts = bursts
        self._error = error
        self.told = 0
        self.is_closed = False

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            for burst in self._bursts:
                for frame in burst:
                    self.told += 1
                    yield frame
                await asyncio.sleep(0.01)
            if self._error is not None:
                raise self._error
        finally:
            self.is_closed = True


async def test_frames_that_come_together_go_out_as_one() -> None:
    frames = Bursts([b"a", b"b"], [b"c"], [b"d", b"e", b"f"])
    assert [some async for some in grouped(b"first ", frames())] == [b"first ", b"ab", b"c", b"def"]
    assert frames.is_closed


async def test_no_frames_are_no_group() -> None:
    assert [some async for some in grouped(b"first", Bursts()())] == [b"first"]


async def test_an_error_is_raised_after_what_came_before() -> None:
    groups = grouped(b"first", Bursts([b"a"], error=ValueError("broken"))())
    assert [await anext(groups), await anext(groups)] == [b"first", b"a"]
    with pytest.raises(ValueError, match="broken"):
        await anext(groups)


@pytest.mark.parametrize("heard", [1, 2])
async def test_closing_it_closes_the_frames(heard: int) -> None:
    frames = Bursts([b"a"], [b"b"], [b"c"])
    async with aclosing(grouped(b"first", frames())) as groups:
        for _ in range(heard):
            await anext(groups)
    assert frames.is_closed or not frames.told
    assert frames.told < 3


async def test_the_frames_wait_for_a_slow_reader() -> None:
    frames = Bursts([b"x"] * 10_000)
    async with aclosing(grouped(b"first", frames())) as groups:
        await anext(groups)
        await asyncio.sleep(0.05)
        assert frames.told <= 257
        assert len(b"".join([some async for some in groups])) == 10_000


async def test_the_frames_are_closed_where_the_reader_leaves_in_the_midst_of_a_send() -> None:
    frames, has_begun = Bursts([b"x"] * 10_000), asyncio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            has_begun.set()
            await asyncio.Event().wait()

    async def receive() -> Message:
        await has_begun.wait()
        await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    response = Frames(b"first", frames())
    await response({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    assert frames.is_closed
