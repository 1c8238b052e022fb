"""Receiving files: checked and hashed on their way into the object store, each under an intent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID

import structlog

from planes.shared.domain import TenantContext, new_id, original_key, version_prefix
from planes.shared.errors import ContentTooLarge, InvalidInput, Unavailable
from planes.shared.media_types import SNIFFED_BYTES, media_type_of
from planes.shared.ports import ObjectStore
from planes.shared.stores.postgres import Database
from services.gateway.documents import intents

_BLOCK_BYTES = 1 << 20
_INTENT_LIFETIME = timedelta(seconds=60)
_INTENT_RENEWAL_S = 20
_DISCARDED_AT_ONCE = 50
_SWEPT_AT_ONCE = 100
_MAX_NAME_CHARS = 255
_log = structlog.get_logger(__name__)

Read: TypeAlias = Callable[[], Awaitable[bytes]]
"""Returns the next piece of a file, of any length; empty at its end."""


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How large things may be.

    Attributes:
        file_bytes: One file.
        batch_bytes: All files of a batch together; also what its archives hold.
        batch_files: How many files a batch may have.
    """

    file_bytes: int
    batch_bytes: int
    batch_files: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the object store that belongs to no document yet."""

    document_id: UUID
    version_id: UUID
    name: str
    media_type: str
    size_bytes: int
    sha256: bytes


class Uploads:
    """Puts files into the object store under intents that a sweeper ends if we do not."""

    def __init__(self, database: Database, objects: ObjectStore, limits: FileLimits) -> None:
        """Store where intents and files go, and how large they may be."""
        self._database = database
        self._objects = objects
        self.limits = limits

    @asynccontextmanager
    async def session(
        self, context: TenantContext, *, files: int = 1, document_id: UUID | None = None
    ) -> AsyncIterator["UploadSession"]:
        """Store files inside the block; what has become no document at its end is removed.

        Args:
            context: Whose files these are.
            files: How many are likely; so many intents are noted with one statement.
            document_id: Whose next version they are; None: each is a document of its own.
        """
        session = UploadSession(self, context, files, document_id)
        renewal = asyncio.create_task(session.renew())
        try:
            yield session
        except Unavailable:
            raise  # left to the sweeper: whoever waits has waited long enough
        except BaseException:
            await asyncio.shield(session.discard())
            raise
        else:
            await asyncio.shield(session.discard())
        finally:
            renewal.cancel()

    async def note(self, context: TenantContext, new: list[intents.Intent]) -> None:
        """Note that files are going to be stored.

        Raises:
            Unavailable: The database does not answer; nothing was noted.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            await intents.insert(connection, context, new, _INTENT_LIFETIME)

    async def extend(self, context: TenantContext, version_ids: list[UUID]) -> None:
        """Keep the intents of files alive that are still arriving."""
        async with self._database.tenant(context.tenant_id) as connection:
            await intents.extend(connection, version_ids, _INTENT_LIFETIME)

    async def discard(self, tenant_id: UUID, version_ids: list[UUID]) -> None:
        """Remove files that became no document, and their intents.

        Whoever deletes an intent decides: where it is gone, the file belongs to a document, and
        stays. The intents are locked until the files are removed.
        """
        for start in range(0, len(version_ids), _DISCARDED_AT_ONCE):
            some = version_ids[start : start + _DISCARDED_AT_ONCE]
            async with self._database.tenant(tenant_id) as connection:
                for each in await intents.close(connection, some):
                    prefix = version_prefix(tenant_id, each.document_id, each.version_id)
                    await self._objects.remove_prefix(prefix)

    async def sweep(self) -> int:
        """Discard uploads whose gateway died; returns how many.

        One whose files cannot be removed waits for the next sweep.
        """
        swept = 0
        while True:
            async with self._database.platform() as connection:
                expired = await connection.fetch(
                    "SELECT * FROM expired_uploads($1)", _SWEPT_AT_ONCE
                )
            left = 0
            for row in expired:
                try:
                    await self.discard(row["tenant_id"], [row["version_id"]])
                except OSError as error:
                    left += 1
                    _log.warning("upload not swept", id=str(row["version_id"]), reason=str(error))
            swept += len(expired) - left
            if left or len(expired) < _SWEPT_AT_ONCE:
                return swept

    async def write(self, key: str, first: bytearray, rest: Read, limit: int) -> tuple[int, bytes]:
        """Store an object and return its size and SHA-256.

        Raises:
            ContentTooLarge: It has more bytes than `limit`.
            Unavailable: The store does not take it.
        """
        block = first
        try:
            async with self._objects.writer(key) as writer:
                while block:
                    if writer.size_bytes + len(block) > limit:
                        raise ContentTooLarge(f"The file is larger than {limit:,} bytes.")
                    await writer.write(block)
                    block = await _block(rest)
        except OSError as error:  # the disk is full, or gone
            raise Unavailable("Files cannot be stored now. Try again later.") from error
        return writer.size_bytes, writer.sha256


class UploadSession:
    """The files of one request, between their first byte and the end of the request."""

    def __init__(
        self, uploads: Uploads, context: TenantContext, files: int, document_id: UUID | None
    ) -> None:
        """Store whose files they are; `Uploads.session` makes these."""
        self._uploads = uploads
        self._context = context
        self._files = files
        self._document_id = document_id
        self._free: list[intents.Intent] = []
        self._noted: list[UUID] = []

    @property
    def limits(self) -> FileLimits:
        """How large things may be."""
        return self._uploads.limits

    async def store(self, filename: str | None, read: Read, *, declared: str = "") -> StoredFile:
        """Store a file of a type that the platform reads; `declared` is what its sender calls it.

        Raises:
            InvalidInput: It is empty or has no usable name.
            ContentTooLarge: It is above the limit.
            UnsupportedMediaType: It is of no readable type.
            Unavailable: The store or the database does not answer.
        """
        name = clean_name(filename)
        first = await _block(read)
        if not first:
            raise InvalidInput("The file is empty.")
        media_type = media_type_of(name, bytes(first[:SNIFFED_BYTES]), declared=declared)
        return await self._store(name, media_type, first, read)

    async def store_known(self, name: str, media_type: str, read: Read) -> StoredFile:
        """Store a file whose name and type are known.

        Raises:
            ContentTooLarge: It is above the limit.
            Unavailable: The store or the database does not answer.
        """
        return await self._store(name, media_type, await _block(read), read)

    @asynccontextmanager
    async def store_archive(self, read: Read) -> AsyncIterator[str]:
        """Store an archive for the time of the block, and yield its object key.

        Raises:
            ContentTooLarge: It is larger than a batch may be.
            Unavailable: The store or the database does not answer.
        """
        intent = await self._intent()
        first = await _block(read)
        await self._uploads.write(self._key(intent), first, read, self.limits.batch_bytes)
        yield self._key(intent)
        await self._uploads.discard(self._context.tenant_id, [intent.version_id])

    async def renew(self) -> None:
        """Keep the intents alive until cancelled."""
        while True:
            await asyncio.sleep(_INTENT_RENEWAL_S)
            with contextlib.suppress(Unavailable):  # the next renewal comes before the expiry
                await self._uploads.extend(self._context, self._noted)

    async def discard(self) -> None:
        """Remove what has become no document; what fails now is left to the sweeper."""
        try:
            await self._uploads.discard(self._context.tenant_id, self._noted)
        except (Unavailable, OSError) as error:  # the request has its answer already
            _log.warning("upload not discarded", reason=str(error))

    async def _store(self, name: str, media_type: str, first: bytearray, rest: Read) -> StoredFile:
        intent, limit = await self._intent(), self.limits.file_bytes
        try:
            size_bytes, sha256 = await self._uploads.write(self._key(intent), first, rest, limit)
        except ContentTooLarge:
            self._free.append(intent)  # nothing was kept: the next file takes its place
            raise
        ids = (intent.document_id, intent.version_id)
        return StoredFile(*ids, name, media_type, size_bytes, sha256)

    async def _intent(self) -> intents.Intent:
        if not self._free:
            new = [
                intents.Intent(self._document_id or new_id(), new_id()) for _ in range(self._files)
            ]
            self._noted += [each.version_id for each in new]
            await self._uploads.note(self._context, new)
            self._free = new[::-1]
        return self._free.pop()

    def _key(self, intent: intents.Intent) -> str:
        return original_key(self._context.tenant_id, intent.document_id, intent.version_id)


async def _block(read: Read) -> bytearray:
    """Return about a mebibyte, or what is left: few large writes instead of many small ones."""
    block = bytearray()
    while len(block) < _BLOCK_BYTES and (piece := await read()):
        block += piece
    return block


def clean_name(filename: str | None) -> str:
    """Return the last part of a client's file name, without control characters.

    Raises:
        InvalidInput: Nothing is left of it.
    """
    last = (filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(char for char in last if char.isprintable()).strip()
    if not name or name in {".", ".."}:
        raise InvalidInput("The file has no name.")
    if len(name) <= _MAX_NAME_CHARS:
        return name
    stem, dot, suffix = name.rpartition(".")
    return (stem[: max(1, _MAX_NAME_CHARS - len(suffix) - 1)] + dot + suffix)[:_MAX_NAME_CHARS]
