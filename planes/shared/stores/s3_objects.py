"""Uploaded files and extracted texts in an S3-compatible object store."""

import asyncio
import hashlib
import io
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, cast

import obstore
import structlog
from obstore.exceptions import BaseError

from planes.shared.errors import Unavailable
from planes.shared.ports import ObjectStat

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore import GetOptions, ReadableFile
    from obstore.store import S3Store

_BLOCK_BYTES = 1 << 20
_PART_BYTES = 8 << 20  # of an upload in several parts; S3 takes 5 MiB at the least
_LISTED_AT_ONCE = 1000
_NOBODYS = "nobody/is-it-there"  # a key that no tenant has
_PARTS_AT_ONCE = 2  # in memory, where the store is slower than who writes
_log = structlog.get_logger(__name__)


class ObjectStoreFailed(Unavailable, OSError):
    """The object store does not answer, or refuses; the log says how."""


class S3Objects:
    """An object store in a bucket: keys are paths, objects appear whole or not at all."""

    def __init__(self, store: "S3Store") -> None:
        """Store the bucket's client; its keys begin after the platform's prefix."""
        self._store = store

    def writer(self, key: str) -> "S3Writer":
        """Return a context in which to write an object; it exists once the context ends well."""
        return S3Writer(self._store, _checked(key))

    async def put(self, key: str, content: bytes) -> None:
        """Write an object, replacing the one of that key."""
        async with self.writer(key) as writer:
            await writer.write(content)

    async def get(self, key: str) -> bytes:
        """Return an object.

        Raises:
            FileNotFoundError: There is none of that key.
        """
        with _translated():
            result = await self._store.get_async(_checked(key))
            return bytes(await result.bytes_async())

    async def stat(self, key: str) -> ObjectStat:
        """Return what is known of an object.

        Raises:
            FileNotFoundError: There is none of that key.
        """
        with _translated():
            meta = await self._store.head_async(_checked(key))
        mark = meta["e_tag"] or f"{meta['size']}-{meta['last_modified'].timestamp()}"
        return ObjectStat(meta["size"], meta["last_modified"], mark.strip('"'))

    async def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield an object, or its bytes from `start` to before `end`, in blocks of about 1 MiB.

        Raises:
            FileNotFoundError: There is none of that key.
        """
        if start == end:  # no range of HTTP
            await self.stat(key)
            return
        options: GetOptions = {}
        if start or end is not None:  # an empty object has no range at all
            options["range"] = {"offset": start} if end is None else (start, end)
        with _translated():
            result = await self._store.get_async(_checked(key), options=options)
            async for block in result.stream(min_chunk_size=_BLOCK_BYTES):
                yield bytes(block)

    async def open(self, key: str) -> BinaryIO:
        """Return an object for reading at any place; its methods block, the caller closes it.

        Raises:
            FileNotFoundError: There is none of that key.
        """
        with _translated():
            reader = await asyncio.to_thread(obstore.open_reader, self._store, _checked(key))
        return cast("BinaryIO", io.BufferedReader(_Object(reader), _BLOCK_BYTES))

    async def move(self, source: str, target: str) -> None:
        """Give an object another key, replacing what is there; to repeat it changes nothing.

        A crash between copy and removal leaves both; repeated, the move ends.

        Raises:
            FileNotFoundError: There is no object of either key.
        """
        with _translated():
            try:
                await self._store.copy_async(_checked(source), _checked(target))
            except FileNotFoundError:
                await self._store.head_async(target)
            await self._store.delete_async(source)

    async def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        with _translated():
            await self._store.delete_async(_checked(key))

    async def keys(self, prefix: str) -> AsyncGenerator[list[str], None]:
        """Yield the keys below a prefix, 1,000 at a time, in their order."""
        with _translated():
            pages = self._store.list(_checked(prefix) or None, chunk_size=_LISTED_AT_ONCE)
            async for page in pages:
                yield [meta["path"] for meta in page]

    async def count_prefix(self, prefix: str) -> int:
        """Return how many objects there are below a prefix that ends with "/"."""
        return sum([len(keys) async for keys in self.keys(prefix)])

    async def remove_prefix(self, prefix: str) -> int:
        """Remove every object below a prefix that ends with "/".

        Returns:
            How many there were.

        Raises:
            OSError: Something below the prefix is still there.
        """
        count = 0
        async for keys in self.keys(prefix):
            with _translated():
                await self._store.delete_async(keys)
            count += len(keys)
        return count

    async def check(self) -> None:
        """Ask for an object that is not there, which costs least; the bucket answers so."""
        with suppress(FileNotFoundError), _translated():
            await self._store.head_async(_NOBODYS)


class S3Writer:
    """Writes one object: in one request, or in parts where it is longer than 8 MiB.

    An object appears with its last part. Parts of a write that failed are invisible; the bucket's
    rule for incomplete uploads removes them.

    Attributes:
        size_bytes: How much was written.
    """

    def __init__(self, store: "S3Store", key: str) -> None:
        """Store where the object will be."""
        self.size_bytes = 0
        self._store = store
        self._key = key
        self._sha256 = hashlib.sha256()
        self._parts = obstore.open_writer_async(
            store, key, buffer_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
        )

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of what was written."""
        return self._sha256.digest()

    async def __aenter__(self) -> Self:
        """Return the writer."""
        return self

    async def write(self, block: bytes | bytearray) -> None:
        """Append a block."""
        with _translated():
            await self._parts.write(bytes(block))
        await asyncio.to_thread(self._sha256.update, block)
        self.size_bytes += len(block)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make the object appear, or forget it where the context failed."""
        del error, traceback
        if kind is None:
            with _translated():
                await self._parts.close()


class _Object(io.RawIOBase):
    """The driver's reader as Python's own files are."""

    def __init__(self, reader: "ReadableFile") -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def readinto(self, buffer: "WriteableBuffer") -> int:
        with _translated():
            block = self._reader.read(len(memoryview(buffer)))
        memoryview(buffer)[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._reader.close()
        super().close()


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into those of files.

    Raises:
        FileNotFoundError: As the driver says it.
        ObjectStoreFailed: Everything else.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        _log.warning("object store failed", reason=str(error).strip().partition("\n")[0][:300])
        raise ObjectStoreFailed("The object store does not answer. Try again.") from error


def _checked(key: str) -> str:
    if ".." in key.split("/"):
        raise ValueError(f"not an object key: {key}")
    return key
