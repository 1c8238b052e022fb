"""What every object store does: objects appear whole or not at all."""

import asyncio
from pathlib import Path

import pytest

from planes.shared.stores.objects import FolderObjects

KEY = "tenant/documents/document/version/original"


async def test_an_object_comes_back_as_written(objects: FolderObjects) -> None:
    content = bytes(range(256)) * 10_000
    await objects.put(KEY, content)
    assert await objects.get(KEY) == content
    assert b"".join([block async for block in objects.stream(KEY)]) == content
    await objects.put(KEY, b"new")
    assert await objects.get(KEY) == b"new"


async def test_an_absent_object_is_an_error(objects: FolderObjects) -> None:
    with pytest.raises(FileNotFoundError):
        await objects.get(KEY)
    with pytest.raises(FileNotFoundError):
        _ = [block async for block in objects.stream(KEY)]
    await objects.remove(KEY)
    assert await objects.remove_prefix("tenant/") == 0


async def test_a_broken_write_leaves_nothing_behind(objects: FolderObjects) -> None:
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
    objects: FolderObjects,
) -> None:
    await asyncio.gather(*(objects.put(f"a/b/{n}/text.txt", b"x") for n in range(5)))
    await objects.put("a/bc/text.txt", b"x")
    assert await objects.remove_prefix("a/b/") == 5
    assert await objects.get("a/bc/text.txt") == b"x"


async def test_a_removal_that_fails_says_so_and_can_be_repeated(
    objects: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.gather(*(objects.put(f"a/b/{n}", b"x") for n in range(3)))
    unlink = Path.unlink

    def refuse_one(path: Path, *, missing_ok: bool = False) -> None:
        if path.name == "1":
            raise PermissionError(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse_one)
    with pytest.raises(PermissionError):
        await objects.remove_prefix("a/b/")
    monkeypatch.undo()
    assert await objects.get("a/b/1") == b"x"
    assert await objects.remove_prefix("a/b/") >= 1
    with pytest.raises(FileNotFoundError):
        await objects.get("a/b/1")


async def test_of_writers_at_the_same_time_one_wins_whole(objects: FolderObjects) -> None:
    contents = [bytes([number]) * (1 << 20) for number in range(8)]
    await asyncio.gather(*(objects.put(KEY, content) for content in contents))
    assert await objects.get(KEY) in contents


async def test_a_key_does_not_leave_the_store(objects: FolderObjects) -> None:
    for key in ("../outside", "a/../../outside"):
        with pytest.raises(ValueError, match="not an object key"):
            await objects.put(key, b"x")
