"""Taking a tenant's data away: everything but what only its author may read."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from planes.shared.domain import original_key, text_key
from planes.shared.errors import Unavailable
from planes.shared.ports import ObjectStore
from planes.shared.stores.postgres import Database
from services.gateway.audit import Action, AuditEvent
from services.gateway.auth.models import Account
from services.gateway.tenants.archive import Archive, StoredObject
from services.gateway.tenants.export_sources import TENANT_SOURCES, VERSIONS, pages
from services.gateway.tenants.leases import ExportLease


class TenantExport:
    """Streams all of a tenant as one archive."""

    def __init__(
        self, database: Database, objects: ObjectStore, new_id: Callable[[], UUID]
    ) -> None:
        """Store where data is."""
        self._database = database
        self._objects = objects
        self._new_id = new_id

    async def begin(self, account: Account) -> AsyncGenerator[bytes, None]:
        """Return the archive's bytes; the export ends with the generator.

        Raises:
            Conflict: An export of the tenant is under way.
        """
        tenant_id = account.context.tenant_id
        lease = ExportLease(self._database, account, tenant_id, self._new_id())
        event = AuditEvent(
            tenant_id, Action.TENANT_EXPORTED, account, subject=f"tenant:{tenant_id}"
        )
        await lease.take(event)
        return leased(lease, self._archive(account))

    async def _archive(self, account: Account) -> AsyncGenerator[bytes, None]:
        about = {"kind": "tenant", "tenant_id": account.context.tenant_id}
        archive = Archive(about, datetime.now(UTC))
        for source in TENANT_SOURCES:
            rows = pages(self._database, source, account.context)
            async for block in archive.table(source.name, rows):
                yield block
        async for versions in pages(self._database, VERSIONS, account.context):
            for version in versions:
                async for block in self._files(archive, account.context.tenant_id, version):
                    yield block
        yield archive.end()

    async def _files(
        self, archive: Archive, tenant_id: UUID, version: dict[str, Any]
    ) -> AsyncGenerator[bytes, None]:
        ids = (tenant_id, version["document_id"], version["id"])
        folder = f"files/{version['document_id']}/{version['id']}"
        for key, name in ((original_key(*ids), "original"), (text_key(*ids), "text.txt")):
            async with aclosing(self._objects.stream(key)) as blocks:
                # deleted meanwhile, or not extracted yet; once open a file stays readable
                with suppress(FileNotFoundError):
                    stat = await self._objects.stat(key)
                    stored = StoredObject(stat.size_bytes, await _opened(blocks))
                    async for block in archive.file(f"{folder}/{name}", stored):
                        yield block


async def leased(
    lease: ExportLease, blocks: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """Pass blocks on while a lease is kept, and drop it whatever happens."""
    try:
        async with aclosing(blocks):
            async for block in blocks:
                await lease.keep()
                yield block
    finally:
        with suppress(Unavailable):  # it runs out
            await asyncio.shield(lease.drop())


async def _opened(blocks: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    """Return the same blocks, the first of which has been read.

    Raises:
        FileNotFoundError: There is no such object.
    """
    first = await anext(blocks, b"")

    async def all_blocks() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    return all_blocks()
