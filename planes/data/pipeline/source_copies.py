"""Copies of watched files on their way into the object store, each under an upload's intent."""

import asyncio
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from planes.data.pipeline.source_registry import SourceRegistry, StoredCopy, WatchedSource
from planes.shared.domain import new_id, original_key, version_prefix
from planes.shared.errors import ContentTooLarge, InvalidInput, Unavailable
from planes.shared.media_types import SNIFFED_BYTES, media_type_of
from planes.shared.ports import ObjectStore
from planes.shared.stores.postgres import Database

_MAX_NAME_CHARS = 255

Blocks = AsyncGenerator[bytes, None]


class SourceCopies:
    """Copies files block by block, checked and hashed on the way."""

    def __init__(
        self,
        database: Database,
        registry: SourceRegistry,
        objects: ObjectStore,
        *,
        max_bytes: int,
    ) -> None:
        """Store where copies and intents go, and how large a file may be."""
        self._database = database
        self._registry = registry
        self._objects = objects
        self._max_bytes = max_bytes

    @asynccontextmanager
    async def copy(
        self, source: WatchedSource, key: str, blocks: Blocks, document_id: UUID | None
    ) -> AsyncIterator[StoredCopy]:
        """Store a file for the time of the block; it stays if it has become a version by then.

        Args:
            source: Whose file it is.
            key: The last part becomes the document's name.
            blocks: Its content.
            document_id: Whose next version it may become; None: it may become a document.

        Raises:
            InvalidInput: It is empty, or its name has no character to show.
            UnsupportedMediaType: It is of no readable type.
            FileChanged, FileUnreadable: As `blocks` raises them.
            ContentTooLarge: It is above the limit.
            Unavailable: The store or the database does not answer.
        """
        name, head = document_name(key), await _head(blocks)
        media_type = media_type_of(name, bytes(head[:SNIFFED_BYTES]))
        document_id, version_id = document_id or new_id(), new_id()
        await self._registry.announce(source.tenant_id, document_id, version_id)
        try:
            size_bytes, sha256 = await self._write(
                original_key(source.tenant_id, document_id, version_id), head, blocks
            )
            ids = (document_id, version_id)
            yield StoredCopy(name, media_type, size_bytes, sha256, *ids)
        finally:
            await asyncio.shield(self._discard(source.tenant_id, document_id, version_id))

    async def _write(self, key: str, head: bytearray, rest: Blocks) -> tuple[int, bytes]:
        block: bytes | bytearray | None = head
        try:
            async with self._objects.writer(key) as writer:
                while block is not None:
                    if writer.size_bytes + len(block) > self._max_bytes:
                        raise ContentTooLarge(f"The file is larger than {self._max_bytes:,} bytes.")
                    await writer.write(block)
                    block = await anext(rest, None)
        except OSError as error:  # the disk is full, or gone
            raise Unavailable("Files cannot be stored now. Try again later.") from error
        return writer.size_bytes, writer.sha256

    async def _discard(self, tenant_id: UUID, document_id: UUID, version_id: UUID) -> None:
        """Remove the copy if its intent is still there, as the gateway's uploads do."""
        async with self._database.tenant(tenant_id) as connection:
            is_open = await connection.fetchval(
                "DELETE FROM uploads WHERE version_id = $1 RETURNING true", version_id
            )
            if is_open:
                await self._objects.remove_prefix(
                    version_prefix(tenant_id, document_id, version_id)
                )


def document_name(key: str) -> str:
    """Return a document's name: the last part of its key, without control characters.

    Raises:
        InvalidInput: Nothing is left of it.
    """
    last = unicodedata.normalize("NFC", key.rsplit("/", 1)[-1])
    name = "".join(char for char in last if char.isprintable()).strip()
    if not name:
        raise InvalidInput("The file's name has no character that can be shown.")
    return name if len(name) <= _MAX_NAME_CHARS else name[-_MAX_NAME_CHARS:]


async def _head(blocks: Blocks) -> bytearray:
    """Return enough of a file to tell its type.

    Raises:
        InvalidInput: It is empty.
    """
    head = bytearray()
    while len(head) < SNIFFED_BYTES and (block := await anext(blocks, b"")):
        head += block
    if not head:
        raise InvalidInput("The file is empty.")
    return head
