"""Uploaded files and extracted texts in a folder."""

import asyncio
import hashlib
import os
import secrets
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from io import BufferedReader
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from planes.shared.ports import ObjectStat

_BLOCK_BYTES = 1 << 20
_LISTED_AT_ONCE = 1000
_FOLDER_TRIES = 5
_Result = TypeVar("_Result")


class FolderObjects:
    """An object store in a folder: keys are relative paths, objects appear whole or not at all."""

    def __init__(self, folder: Path) -> None:
        """Store the folder; it is made with the first object."""
        self._folder = folder

    def writer(self, key: str) -> "FolderWriter":
        """Return a context in which to write an object; it exists once the context ends well."""
        return FolderWriter(self._path(key))

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

    async def stat(self, key: str) -> ObjectStat:
        """Return what is known of an object.

        Raises:
            FileNotFoundError: There is none of that key.
        """
        stat = await asyncio.to_thread(self._path(key).stat)
        changed_at = datetime.fromtimestamp(stat.st_mtime, UTC)
        return ObjectStat(stat.st_size, changed_at, f"{stat.st_mtime_ns:x}-{stat.st_size:x}")

    async def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield an object, or its bytes from `start` to before `end`, in blocks of at most 1 MiB.

        Raises:
            FileNotFoundError: There is none of that key.
        """
        file = await self.open(key)
        try:
            await asyncio.to_thread(file.seek, start)
            left = sys.maxsize if end is None else end - start
            while left and (block := await asyncio.to_thread(file.read, min(left, _BLOCK_BYTES))):
                left -= len(block)
                yield block
        finally:
            file.close()

    async def open(self, key: str) -> BinaryIO:
        """Return an object for reading at any place; its methods block, the caller closes it.

        Raises:
            FileNotFoundError: There is none of that key.
        """
        opening = asyncio.ensure_future(asyncio.to_thread(self._path(key).open, "rb"))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:  # nobody else would close what is being opened
            opening.add_done_callback(_close)
            raise

    async def move(self, source: str, target: str) -> None:
        """Give an object another key, replacing what is there; to repeat it changes nothing.

        Raises:
            FileNotFoundError: There is no object of either key.
        """
        await asyncio.to_thread(self._move, self._path(source), self._path(target))

    async def remove(self, key: str) -> None:
        """Remove an object, if it is there, and the folders that this leaves empty."""
        await asyncio.to_thread(self._remove, self._path(key))

    async def keys(self, prefix: str) -> AsyncGenerator[list[str], None]:
        """Yield the keys below a prefix, about 1,000 at a time."""
        keys = self._keys(self._path(prefix))
        while page := await asyncio.to_thread(lambda: list(islice(keys, _LISTED_AT_ONCE))):
            yield page

    async def count_prefix(self, prefix: str) -> int:
        """Return how many objects there are below a prefix that ends with "/"."""
        return await asyncio.to_thread(self._count_tree, self._path(prefix))

    async def remove_prefix(self, prefix: str) -> int:
        """Remove every object below a prefix that ends with "/".

        Returns:
            How many this call removed.

        Raises:
            OSError: Something below the prefix is still there.
        """
        return await asyncio.to_thread(self._remove_tree, self._path(prefix))

    async def check(self) -> None:
        """Look whether the folder can be written, where there is one.

        Raises:
            OSError: It cannot, or its file system does not answer.
        """
        await asyncio.to_thread(self._check)

    def _check(self) -> None:
        with suppress(FileNotFoundError):  # made with the first object
            self._folder.stat()
            if not os.access(self._folder, os.W_OK | os.X_OK):
                raise PermissionError(f"{self._folder} cannot be written")

    def _path(self, key: str) -> Path:
        path = self._folder.joinpath(key)
        if ".." in path.parts:
            raise ValueError(f"not an object key: {key}")
        return path

    def _move(self, source: Path, target: Path) -> None:
        try:
            _in_folder(target.parent, lambda: source.replace(target))
        except FileNotFoundError:
            if not target.exists():
                raise

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._remove_empty_parents(path)

    def _keys(self, path: Path) -> Iterator[str]:
        for folder, _, names in os.walk(path, onerror=_raise_unless_absent):
            key = Path(folder).relative_to(self._folder)
            yield from (str(key / name) for name in names if not name.startswith("."))

    def _count_tree(self, path: Path) -> int:
        tree = os.walk(path, onerror=_raise_unless_absent)
        return sum(len(files) for _, _, files in tree)

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


class FolderWriter:
    """Writes one object beside its final place, then moves it there, flushed to the disk.

    Attributes:
        size_bytes: How much was written.
    """

    def __init__(self, path: Path) -> None:
        """Store the final path."""
        self.size_bytes = 0
        self._path = path
        self._partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
        self._file: BinaryIO | None = None
        self._sha256 = hashlib.sha256()
        self._lock = threading.Lock()  # a block may still be on its way when the context fails
        self._is_finished = False

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of what was written."""
        return self._sha256.digest()

    async def __aenter__(self) -> Self:
        """Return the writer; the file is made with the first block."""
        return self

    async def write(self, block: bytes | bytearray) -> None:
        """Append a block."""
        await asyncio.to_thread(self._write, block)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Move the object into place, or forget it where the context failed."""
        del error, traceback
        await asyncio.shield(asyncio.to_thread(self._finish, keep=kind is None))

    def _write(self, block: bytes | bytearray) -> None:
        with self._lock:
            if self._is_finished:
                return
            self._opened().write(block)
            self._sha256.update(block)
            self.size_bytes += len(block)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = _in_folder(self._partial.parent, lambda: self._partial.open("wb"))
        return self._file

    def _finish(self, *, keep: bool) -> None:
        with self._lock:
            self._is_finished = True
        if keep:
            with self._opened() as file:
                file.flush()
                os.fsync(file.fileno())
            self._partial.replace(self._path)
            _flush_folder(self._path.parent)
        elif self._file is not None:
            self._file.close()
            self._partial.unlink(missing_ok=True)


def _in_folder(folder: Path, act: Callable[[], _Result]) -> _Result:
    """Do something in a folder that whoever removes the last object in it may take away."""
    for _ in range(_FOLDER_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return act()
    return act()


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _close(opened: asyncio.Future[BufferedReader]) -> None:
    if opened.exception() is None:
        opened.result().close()
