"""What every object store does: objects appear whole or not at all."""

import asyncio
import hashlib
import io
import secrets

import pytest

from planes.shared.ports import ObjectStore

KEY = "tenant/documents/document/version/original"


async def test_an_object_comes_back_as_written(objects: ObjectStore) -> None:
    content = bytes(range(256)) * 10_000
    await objects.put(KEY, content)
    assert await objects.get(KEY) == content
    assert b"".join([block async for block in objects.stream(KEY)]) == content
    await objects.put(KEY, b"new")
    assert await objects.get(KEY) == b"new"


async def test_a_store_that_is_there_says_so(objects: ObjectStore) -> None:
    await objects.check()


async def test_an_absent_object_is_an_error(objects: ObjectStore) -> None:
    with pytest.raises(FileNotFoundError):
        await objects.get(KEY)
    with pytest.raises(FileNotFoundError):
        _ = [block async for block in objects.stream(KEY)]
    await objects.remove(KEY)
    assert await objects.remove_prefix("tenant/") == 0


async def test_a_broken_write_leaves_nothing_behind(objects: ObjectStore) -> None:
    async def break_off() -> None:
        async with objects.writer(KEY) as writer:
            await writer.write(b"half a fi")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await break_off()
    with pytest.raises(FileNotFoundError):
        await objects.get(KEY)
    assert await objects.remove_prefix("tenant/") == 0


async def test_a_prefix_is_removed_with_all_below_and_nothing_beside(
    objects: ObjectStore,
) -> None:
    await asyncio.gather(*(objects.put(f"a/b/{n}/text.txt", b"x") for n in range(5)))
    await objects.put("a/bc/text.txt", b"x")
    assert await objects.remove_prefix("a/b/") == 5
    assert await objects.get("a/bc/text.txt") == b"x"


async def test_of_writers_at_the_same_time_one_wins_whole(objects: ObjectStore) -> None:
    contents = [bytes([number]) * (1 << 20) for number in range(8)]
    await asyncio.gather(*(objects.put(KEY, content) for content in contents))
    assert await objects.get(KEY) in contents


async def test_a_key_does_not_leave_the_store(objects: ObjectStore) -> None:
    for key in ("../outside", "a/../../outside"):
        with pytest.raises(ValueError, match="not an object key"):
            await objects.put(key, b"x")


async def test_a_large_object_is_streamed_in_and_out_with_its_hash(objects: ObjectStore) -> None:
    blocks = [secrets.token_bytes(1 << 20) for _ in range(20)]
    async with objects.writer(KEY) as writer:
        for block in blocks:
            await writer.write(block)
    content = b"".join(blocks)
    assert writer.size_bytes == len(content)
    assert writer.sha256 == hashlib.sha256(content).digest()
    stat = await objects.stat(KEY)
    assert stat.size_bytes == len(content)
    received = [block async for block in objects.stream(KEY)]
    assert max(map(len, received)) <= 4 << 20, "never the whole object in memory"
    assert b"".join(received) == content


async def test_a_broken_write_keeps_what_was_there(objects: ObjectStore) -> None:
    await objects.put(KEY, b"before")

    async def break_off() -> None:
        async with objects.writer(KEY) as writer:
            for _ in range(12):
                await writer.write(bytes(1 << 20))
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await break_off()
    assert await objects.get(KEY) == b"before"


@pytest.mark.parametrize(
    ("start", "end"), [(0, 10), (5, 5), (3, 8), (9, 10), (0, None), (4, None), (5, 100)]
)
async def test_a_part_is_what_a_slice_is(objects: ObjectStore, start: int, end: int | None) -> None:
    content = b"0123456789"
    await objects.put(KEY, content)
    part = b"".join([block async for block in objects.stream(KEY, start, end)])
    assert part == content[start:end]


async def test_an_object_opened_is_read_at_any_place(objects: ObjectStore) -> None:
    content = secrets.token_bytes(3 << 20)
    await objects.put(KEY, content)
    with await objects.open(KEY) as file:
        assert file.seek(-5, io.SEEK_END) == len(content) - 5
        assert file.read() == content[-5:]
        assert file.seek(1 << 20) == 1 << 20
        assert file.read(10) == content[1 << 20 :][:10]
        assert file.tell() == (1 << 20) + 10
    with pytest.raises(FileNotFoundError):
        await objects.open("tenant/absent")


async def test_an_object_is_moved_once_however_often_it_is_asked(objects: ObjectStore) -> None:
    await objects.put("uploads/a", b"content")
    await objects.put(KEY, b"what was there")
    await objects.move("uploads/a", KEY)
    await objects.move("uploads/a", KEY)
    assert await objects.get(KEY) == b"content"
    with pytest.raises(FileNotFoundError):
        await objects.stat("uploads/a")
    with pytest.raises(FileNotFoundError):
        await objects.move("uploads/b", "uploads/c")


async def test_what_an_object_is_known_by_changes_with_its_content(objects: ObjectStore) -> None:
    await objects.put(KEY, b"one")
    first = await objects.stat(KEY)
    assert first == await objects.stat(KEY)
    await objects.put(KEY, b"another")
    assert (await objects.stat(KEY)).mark != first.mark


async def test_keys_of_any_characters_are_listed_as_they_were_written(
    objects: ObjectStore,
) -> None:
    keys = {f"a/{name}/text.txt" for name in ("ä b", "%2F", "日本", "a+b&c=d", "q?x#y")}
    for key in keys:
        await objects.put(key, key.encode())
    await objects.put("ab/text.txt", b"beside")
    assert {key async for page in objects.keys("a/") for key in page} == keys
    assert {key async for page in objects.keys("") for key in page} == {*keys, "ab/text.txt"}
    assert [page async for page in objects.keys("nothing/")] == []
    assert await objects.count_prefix("a/") == len(keys)
    for key in keys:
        assert await objects.get(key) == key.encode()


async def test_many_objects_are_counted_listed_and_removed(objects: ObjectStore) -> None:
    keys = {f"t/{number // 100}/{number}" for number in range(1100)}
    for first in range(0, 1100, 50):
        names = [f"t/{number // 100}/{number}" for number in range(first, first + 50)]
        await asyncio.gather(*(objects.put(name, b"x") for name in names))
    pages = [page async for page in objects.keys("t/")]
    assert {key for page in pages for key in page} == keys
    assert sum(map(len, pages)) == len(keys)
    assert await objects.remove_prefix("t/") == len(keys)
    assert await objects.count_prefix("t/") == 0


async def test_an_empty_object_is_an_object(objects: ObjectStore) -> None:
    await objects.put(KEY, b"")
    assert await objects.get(KEY) == b""
    assert [block async for block in objects.stream(KEY)] == []
    assert (await objects.stat(KEY)).size_bytes == 0
