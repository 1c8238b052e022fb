"""What only an object store in a folder can be shown to do."""

import asyncio
from pathlib import Path

import pytest

from planes.shared.stores.objects import FolderObjects

pytestmark = pytest.mark.contract("files", "folder", "none")


async def test_a_removal_that_fails_says_so_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = FolderObjects(tmp_path / "objects")
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
