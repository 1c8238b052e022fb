"""Uploaded files and extracted texts in a folder."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

_BLOCK_BYTES = 1 << 20


class FolderObjects:
    """An object store in a folder: keys are relative paths, objects appear whole or not at all."""

    def __init__(self, folder: Path) -> None:
        """Store the folder; it is made with the first object."""
        self._folder = folder

    def writer(self, key: str) -> "ObjectWriter":
        """Return a context in which to write an object; it exists once the context ends well."""
        return ObjectWriter(self._path(key))

    async def put(self, key: str, content: bytes) -> None:
        """Write an object, replacing the one of that key."""
        async with self.writer(key) as writer:
            await writer.write(content)

    async def get(self, key: str) -> bytes:
        """Return an object.

        Raises:
            FileNotFoundError: There is none of that key.
        """
        return await asyncio.to_thread(self._path(key).read_bytes)

    async def size(self, key: str) -> int:
        """Return an object's length in bytes.

        Raises:
            FileNotFoundError: There is none of that key.
        """
        return (await asyncio.to_thread(self._path(key).stat)).st_size

    async def stream(self, key: str) -> AsyncGenerator[bytes, None]:
        """Yield an object in blocks of at most 1 MiB.

        Raises:
            FileNotFoundError: There is none of that key.
        """
        file = await asyncio.to_thread(self._path(key).open, "rb")
        try:
            while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
                yield block
        finally:
            file.close()

    async def copy(self, source: str, target: str) -> None:
        """Write an object's content under another key too, replacing what is there.

        Raises:
            FileNotFoundError: There is no object of the key `source`.
        """
        async with self.writer(target) as writer:
            async for block in self.stream(source):
                await writer.write(block)

    async def remove(self, key: str) -> None:
        """Remove an object, if it is there, and the folders that this leaves empty."""
        await asyncio.to_thread(self._remove, self._path(key))

    async def remove_prefix(self, prefix: str) -> int:
        """Remove every object below a prefix that ends with "/".

        Returns:
            How many this call removed.

        Raises:
            OSError: Something below the prefix is still there.
        """
        return await asyncio.to_thread(self._remove_tree, self._path(prefix))

    def _path(self, key: str) -> Path:
        path = self._folder.joinpath(key)
        if ".." in path.parts:
            raise ValueError(f"not an object key: {key}")
        return path

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._remove_empty_parents(path)

    def _remove_tree(self, path: Path) -> int:
        count = 0
        for folder, _, files in os.walk(path, topdown=False, onerror=_raise_unless_absent):
            count += sum(_removed(Path(folder, name).unlink) for name in files)
            _removed(Path(folder).rmdir)
        self._remove_empty_parents(path)
        return count

    def _remove_empty_parents(self, path: Path) -> None:
        for parent in path.parents:
            if parent == self._folder or self._folder not in parent.parents:
                return
            try:
                parent.rmdir()
            except OSError:
                return


def _removed(remove: Callable[[], None]) -> bool:
    """Whether this call removed it, and not another one before."""
    try:
        remove()
    except FileNotFoundError:
        return False
    return True


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


class ObjectWriter:
    """Writes one object beside its final place, then moves it there, flushed to the disk."""

    def __init__(self, path: Path) -> None:
        """Store the final path."""
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> Self:
        """Open the partial file."""
        self._file = await asyncio.to_thread(self._open)
        return self

    async def write(self, block: bytes) -> None:
        """Append a block."""
        if self._file is None:
            raise RuntimeError("write inside the writer's context")
        await asyncio.to_thread(self._file.write, block)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Move the object into place, or forget it where the context failed."""
        del error, traceback
        await asyncio.to_thread(self._finish, keep=kind is None)

    def _open(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._partial.open("wb")

    def _finish(self, *, keep: bool) -> None:
        if self._file is None:
            return
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        if keep:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)
