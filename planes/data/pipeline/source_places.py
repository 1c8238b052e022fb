"""Where watched files lie: a folder of this machine, or a prefix of an object store."""

import asyncio
import os
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from planes.shared.errors import Unavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

MAX_FILES = 100_000
_BLOCK_BYTES = 1 << 20
_SETTLED_S = 2.0
_LISTED_AT_ONCE = 1000
_MAX_KEY_BYTES = 1024


class FileChanged(Exception):
    """A file is no longer what it was when the place was listed."""


class FileUnreadable(Exception):
    """A file is there and cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a place.

    Attributes:
        key: Its path below the place, with "/" between the parts.
        mark: Changes whenever the content does.
        size_bytes: Its length.
        is_settled: False while it may still be written.
    """

    key: str
    mark: str
    size_bytes: int
    is_settled: bool = True


class Place(Protocol):
    """Files under keys; hidden ones (a part of the key begins with ".") are not there."""

    async def list(self) -> dict[str, Found]:
        """Return every file by its key.

        Raises:
            Unavailable: The place cannot be looked at now; it says why.
        """
        ...

    def read(self, found: Found) -> AsyncGenerator[bytes, None]:
        """Yield a file in blocks, all of the content that `found.mark` stands for.

        Raises:
            FileChanged: It was changed or removed since; also after the last block.
            FileUnreadable: It cannot be read.
        """
        ...


class FolderPlace:
    """A folder with those below it. Symbolic links are not followed, not even inside it."""

    def __init__(self, folder: Path) -> None:
        """Store the folder's absolute path."""
        self._folder = folder

    async def list(self) -> dict[str, Found]:
        """Return every file; one that was written in the last two seconds is not settled."""
        try:
            return await asyncio.to_thread(self._list)
        except OSError as error:
            raise Unavailable(f"The folder cannot be read: {error.strerror or error}.") from error

    async def read(self, found: Found) -> AsyncGenerator[bytes, None]:
        """Yield a file in blocks of at most 1 MiB."""
        try:
            with await asyncio.to_thread(_open_beneath, self._folder, found.key) as file:
                _check_mark(file, found)
                while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
                    yield block
                _check_mark(file, found)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileChanged(found.key) from error
        except OSError as error:
            raise FileUnreadable(error.strerror or str(error)) from error

    def _list(self) -> dict[str, Found]:
        now, files = time.time(), {}
        for key, status in _walk(self._folder):
            is_settled = not 0 <= now - status.st_mtime < _SETTLED_S
            files[key] = Found(key, _folder_mark(status), status.st_size, is_settled)
            _check_number(files)
        return files


class ObjectPlace:
    """The objects below a prefix of an object store such as S3; the ETag is an object's mark."""

    def __init__(self, store: "ObjectStore") -> None:
        """Store the object store, whose keys begin after the prefix."""
        self._store = store

    async def list(self) -> dict[str, Found]:
        """Return every object."""
        files: dict[str, Found] = {}
        try:
            async for page in self._store.list(chunk_size=_LISTED_AT_ONCE):
                for meta in page:
                    if not _is_hidden(meta["path"]) and _is_key(meta["path"]):
                        changed_at = meta["last_modified"].timestamp()
                        mark = meta["e_tag"] or f"{meta['size']}-{changed_at}"
                        files[meta["path"]] = Found(meta["path"], mark, meta["size"])
                _check_number(files)
        except _store_errors() as error:
            raise Unavailable(f"The object store does not answer: {_sentence(error)}") from error
        return files

    async def read(self, found: Found) -> AsyncGenerator[bytes, None]:
        """Yield an object in blocks of about 1 MiB, if it still has the same ETag."""
        try:
            result = await self._store.get_async(found.key)
            if (result.meta["e_tag"] or found.mark) != found.mark:
                raise FileChanged(found.key)
            async for block in _blocks(result.stream(min_chunk_size=_BLOCK_BYTES)):
                yield block
        except FileNotFoundError as error:
            raise FileChanged(found.key) from error
        except _store_errors() as error:
            raise FileUnreadable(_sentence(error)) from error


async def _blocks(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for block in stream:
        yield bytes(block)


def _store_errors() -> tuple[type[BaseException], ...]:
    from obstore.exceptions import BaseError

    return (BaseError, OSError)


def _sentence(error: BaseException) -> str:
    """Return the first line of a driver's message, short enough to show."""
    return str(error).strip().partition("\n")[0][:300]


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield key and status of each file, whatever the depth; what vanishes meanwhile is left out.

    Raises:
        OSError: A folder cannot be read, or the first is not there.
    """
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            found = os.scandir(folder / prefix)
        except (FileNotFoundError, NotADirectoryError):
            if not prefix:
                raise
            continue
        with found as entries:
            for entry in entries:
                key = prefix + entry.name
                if entry.name.startswith(".") or not _is_key(key):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{key}/")
                elif (status := _status(entry)) is not None:
                    yield key, status


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return what is known of a file; None where it is something else, or vanished."""
    try:
        is_file = entry.is_file(follow_symlinks=False)
        return entry.stat(follow_symlinks=False) if is_file else None
    except FileNotFoundError:
        return None


def _is_key(path: str) -> bool:
    """Whether a path is UTF-8 and no longer than a key of S3; other files have no key."""
    try:
        return len(path.encode()) <= _MAX_KEY_BYTES
    except UnicodeEncodeError:
        return False


def _is_hidden(key: str) -> bool:
    return any(part.startswith(".") or not part for part in key.split("/"))


def _open_beneath(folder: Path, key: str) -> BinaryIO:
    """Open a file without following a symbolic link that somebody puts in its way."""
    *folders, name = key.split("/")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        return os.fdopen(
            os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at), "rb"
        )
    finally:
        os.close(at)


def _folder_mark(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _check_mark(file: BinaryIO, found: Found) -> None:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode) or _folder_mark(status) != found.mark:
        raise FileChanged(found.key)


def _check_number(files: dict[str, Found]) -> None:
    if len(files) > MAX_FILES:
        raise Unavailable(
            f"There are more than {MAX_FILES:,} files: make several sources of the folders below."
        )
