"""Puts a backup into empty stores, whichever adapters they have."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from planes.shared.errors import Conflict, InvalidInput
from planes.shared.stores.postgres_restoration import Restoration
from services.operations.backup import Report, chunk_file, message_file
from services.operations.backup_chunks import compare_chunks, restore_chunks
from services.operations.backup_database import compare_ledger, load_database
from services.operations.backup_folder import Backup
from services.operations.backup_messages import compare_messages, restore_messages
from services.operations.backup_objects import (
    check_objects,
    compare_objects,
    object_list,
    restore_objects,
)
from services.operations.stores import Stores


async def check(backup: Backup, report: Report) -> None:
    """Compare everything in a backup with its hashes.

    Raises:
        InvalidInput: Something is missing or was changed.
    """
    report("hashes")
    await asyncio.to_thread(backup.check_files)
    for tenant_id, note in backup.manifest.tenants.items():
        with _lines(backup, object_list(tenant_id)) as lines:
            _expect(await check_objects(backup, lines), note.objects, "files")


class Restore:
    """One restore: of a backup whose hashes were compared, into stores that are empty.

    Until it ends well, services refuse to start on the database. It can be repeated.
    """

    def __init__(self, backup: Backup, stores: Stores, *, report: Report) -> None:
        """Store what goes where.

        Args:
            backup: What is restored.
            stores: Where it goes; the schema is that of the backup.
            report: Told what is being done, in a few words.
        """
        self._backup = backup
        self._stores = stores
        self._revision = backup.manifest.revision
        self._report = report
        self._restoration = Restoration(
            stores.database,
            backup.manifest.id,
            chunk_store=stores.chunk_store,
            chat_log=stores.chat_log_kind,
        )

    async def run(self, upgrade: Callable[[], None]) -> None:
        """Restore everything, and compare it with the backup.

        Args:
            upgrade: Brings the database from the backup's schema to this version's; blocks.

        Raises:
            Conflict: A store is not empty, or does not hold what was written to it.
            InvalidInput: The backup does not hold what it says.
            Unavailable: A store does not answer.
            OSError: The object store does not answer.
        """
        if not await self._restoration.is_repetition():
            await self._refuse_what_is_not_empty()
        await self._restoration.begin()
        self._report("database")
        if not await self._restoration.is_loaded():
            await self._refuse_another_schema()
            await load_database(self._restoration, self._backup)
        await asyncio.to_thread(upgrade)
        await self._restoration.place()
        await compare_ledger(self._restoration, self._backup)
        await self._restore_files()
        await self._restore_chunks()
        await self._restore_messages()
        await self._restoration.finish()

    async def _refuse_another_schema(self) -> None:
        if (revision := await self._restoration.revision()) != self._revision:
            raise Conflict(
                f"The database is at schema {revision}, and the backup at {self._revision}: "
                "restore into a database without tables."
            )

    async def _refuse_what_is_not_empty(self) -> None:
        await self._refuse_another_schema()
        if not await self._stores.chat_log.is_empty():
            raise Conflict(
                "The chat log is not empty: a restore wants empty stores, and a new CQL_KEYSPACE."
            )
        async for page in self._stores.objects.keys(""):
            if page:
                raise Conflict("The object store is not empty: a restore wants empty stores.")
        for number in await self._stores.chunks.generations():
            if await self._stores.chunks.tenants(generation=number):
                raise Conflict("The index is not empty: a restore wants empty stores.")

    async def _restore_files(self) -> None:
        for tenant_id, note in self._backup.manifest.tenants.items():
            with _lines(self._backup, object_list(tenant_id)) as lines:
                self._report(f"files of tenant {tenant_id}")
                put = await restore_objects(self._stores.objects, self._backup, lines)
                _expect(put, note.objects, "files")
            with _lines(self._backup, object_list(tenant_id)) as lines:
                await compare_objects(self._stores.objects, lines)

    async def _restore_chunks(self) -> None:
        live, store = self._backup.manifest.generation, self._stores.chunks
        await store.create_generation(live.number, live.dimension)
        for tenant_id, note in self._backup.manifest.tenants.items():
            self._report(f"chunks of tenant {tenant_id}")
            with _lines(self._backup, chunk_file(tenant_id)) as lines:
                added = await restore_chunks(store, tenant_id, lines, generation=live.number)
                _expect(added, note.chunks, "chunks")
            with _lines(self._backup, chunk_file(tenant_id)) as lines:
                await compare_chunks(store, tenant_id, lines, generation=live.number)

    async def _restore_messages(self) -> None:
        log = self._stores.chat_log
        for tenant_id, note in self._backup.manifest.tenants.items():
            self._report(f"messages of tenant {tenant_id}")
            with _lines(self._backup, message_file(tenant_id)) as lines:
                appended = await restore_messages(log, tenant_id, lines)
                _expect(appended, note.messages, "messages")
            with _lines(self._backup, message_file(tenant_id)) as lines:
                kept_for = self._stores.messages_kept_for
                await compare_messages(log, tenant_id, lines, kept_for=kept_for)


@contextmanager
def _lines(backup: Backup, name: str) -> Iterator[Iterable[bytes]]:
    """Yield the lines of a file; none where the tenant has nothing of the kind."""
    if name not in backup.manifest.files:
        yield ()
        return
    with backup.file(name) as lines:
        yield lines


def _expect(found: int, noted: int, what: str) -> None:
    if found != noted:
        raise InvalidInput(f"The backup holds {found} {what} of a tenant, and says {noted}.")
