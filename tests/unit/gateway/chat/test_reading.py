"""A reader gets its events together, comments in silences, and is not waited for for ever."""

import asyncio

import pytest

from services.gateway.chat import reading
from services.gateway.chat.reading import HEARTBEAT, Reader


async def test_events_that_wait_are_read_together_and_the_last_ends_them() -> None:
    reader = Reader()
    await reader.put(b"one", 1)
    await reader.put(b"twothree", 2)
    assert await reader.has_begun()
    reader.end(b"end")
    reader.end()
    reader.end(b"late")
    assert [events async for events in reader.events(None)] == [b"onetwothreeend"]


async def test_a_silence_is_broken_by_comments() -> None:
    reader = Reader()
    events = aiter(reader.events(0.02))
    assert [await anext(events) for _ in range(2)] == [HEARTBEAT, HEARTBEAT]
    await reader.put(b"one", 1)
    assert await anext(events) == b"one"
    reader.end()
    assert [each async for each in events] == []


async def test_without_an_event_it_has_not_begun() -> None:
    reader = Reader()
    beginning = asyncio.create_task(reader.has_begun())
    await asyncio.sleep(0)
    reader.end()
    assert not await beginning


async def test_who_reads_nothing_for_long_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READER_S", 0.02)
    reader = Reader()
    assert await reader.put(b"many", 256)
    assert not await reader.put(b"one more", 1)


async def test_room_is_made_by_reading_and_by_leaving() -> None:
    reader = Reader()
    await reader.put(b"many", 256)
    putting = asyncio.create_task(reader.put(b"one more", 1))
    await asyncio.sleep(0)
    events = aiter(reader.events(None))
    assert (await anext(events), await putting, await anext(events)) == (b"many", True, b"one more")
    await reader.put(b"many", 256)
    putting = asyncio.create_task(reader.put(b"unread", 1))
    await asyncio.sleep(0)
    reader.leave()
    assert await putting
