"""Receiving a file: checked and hashed on its way into the object store, under an intent."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from starlette.datastructures import UploadFile

from planes.shared.domain import TenantContext, document_prefix, new_id, original_key
from planes.shared.errors import ContentTooLarge, InvalidInput, Unavailable
from planes.shared.stores.objects import FolderObjects
from planes.shared.stores.postgres import Database
from services.gateway.documents import repository
from services.gateway.documents.media_types import SNIFFED_BYTES, media_type_of

_BLOCK_BYTES = 1 << 20
_INTENT_LIFETIME = timedelta(seconds=60)
_INTENT_RENEWAL_S = 20
_MAX_NAME_CHARS = 255


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
    """Puts files into the object store under an intent that a sweeper ends if we do not."""

    def __init__(self, database: Database, objects: FolderObjects, max_file_bytes: int) -> None:
        """Store where intents and files go, and the limit of one file."""
        self._database = database
        self._objects = objects
        self._max_file_bytes = max_file_bytes

    @asynccontextmanager
    async def receive(self, file: UploadFile, context: TenantContext) -> AsyncIterator[StoredFile]:
        """Store a file; unless the block ends well and closes the intent, the file is removed.

        Raises:
            InvalidInput: The file is empty or has no usable name.
            ContentTooLarge: It is above the limit.
            UnsupportedMediaType: It is of no readable type.
        """
        name = clean_name(file.filename)
        head = await file.read(SNIFFED_BYTES)
        if not head:
            raise InvalidInput("The file is empty.")
        media_type = media_type_of(name, head)
        document_id, version_id = new_id(), new_id()
        async with self._database.tenant(context.tenant_id) as connection:
            ids = (document_id, version_id)
            await repository.open_upload(connection, context, ids, _INTENT_LIFETIME)
        renewal = asyncio.create_task(self._renew(context, version_id))
        try:
            key = original_key(context.tenant_id, document_id, version_id)
            size_bytes, sha256 = await self._store(key, head, file)
            yield StoredFile(document_id, version_id, name, media_type, size_bytes, sha256)
        except Unavailable:
            raise  # left to the sweeper: whoever waits has waited long enough
        except BaseException:
            await asyncio.shield(self.discard(context.tenant_id, document_id, version_id))
            raise
        finally:
            renewal.cancel()

    async def discard(self, tenant_id: UUID, document_id: UUID, version_id: UUID) -> None:
        """Remove a file that became no document, and its intent.

        Whoever deletes the intent decides: where it is gone, the file belongs to a document, and
        stays. The intent is locked until the file is removed.
        """
        async with self._database.tenant(tenant_id) as connection:
            if await repository.close_upload(connection, version_id):
                await self._objects.remove_prefix(document_prefix(tenant_id, document_id))

    async def sweep(self, limit: int = 100) -> int:
        """Discard uploads whose gateway died; returns how many."""
        async with self._database.platform() as connection:
            expired = await connection.fetch("SELECT * FROM expired_uploads($1)", limit)
        for row in expired:
            await self.discard(row["tenant_id"], row["document_id"], row["version_id"])
        return len(expired)

    async def _store(self, key: str, head: bytes, file: UploadFile) -> tuple[int, bytes]:
        digest, size_bytes = hashlib.sha256(), 0
        async with self._objects.writer(key) as writer:
            block = head
            while block:
                size_bytes += len(block)
                if size_bytes > self._max_file_bytes:
                    raise ContentTooLarge(
                        f"The file is larger than {self._max_file_bytes:,} bytes."
                    )
                digest.update(block)
                await writer.write(block)
                block = await file.read(_BLOCK_BYTES)
        return size_bytes, digest.digest()

    async def _renew(self, context: TenantContext, version_id: UUID) -> None:
        while True:
            await asyncio.sleep(_INTENT_RENEWAL_S)
            with contextlib.suppress(Unavailable):  # the next renewal comes before the expiry
                async with self._database.tenant(context.tenant_id) as connection:
                    await repository.extend_upload(connection, version_id, _INTENT_LIFETIME)


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
