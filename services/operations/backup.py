"""Makes a backup of all stores, while the platform runs.

One moment of the database says what there is; until it is copied, nothing of it is removed from
the other stores. What they hold beyond that moment stays out. So every chunk, file and message that
the database of the backup speaks of is in the backup, and every row of the ledger.
"""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from planes.shared.domain import new_id
from planes.shared.stores.postgres_snapshot import open_snapshot
from planes.shared.stores.removal_hold import removal_hold
from services.operations.backup_chunks import write_chunks
from services.operations.backup_database import Moment, write_database
from services.operations.backup_folder import Backup, NewBackup, new_backup
from services.operations.backup_messages import write_messages
from services.operations.backup_objects import ObjectCopier, object_list
from services.operations.lacks import Lacks
from services.operations.manifest import GenerationNote, Manifest, TenantNote
from services.operations.stores import Stores
from services.operations.work_lists import conversations_by_tenant, versions_by_tenant

Report = Callable[[str], None]


async def back_up(
    stores: Stores, parent: Path, *, earlier: Backup | None = None, report: Report
) -> Backup:
    """Write a backup below a folder, and return it.

    Args:
        stores: Of the running platform.
        parent: Gets a folder that is named by the time.
        earlier: Another on the same disk: files that are unchanged since are linked, not copied.
        report: Told what is being done, in a few words.

    Raises:
        Conflict: Another backup is being written there, or stores lack what the database knows;
            it names every document and conversation of which something lacks.
        Unavailable: A store does not answer.
        OSError: The object store does not answer, or the disk is full.
    """
    began_at = datetime.now(UTC)
    with new_backup(parent) as target:
        moment, tenants = await _Writer(stores, target, earlier, report).write()
        manifest = Manifest(
            id=new_id(),
            made_by=version("polyplane"),
            began_at=began_at,
            snapshot_at=moment.taken_at,
            ended_at=datetime.now(UTC),
            revision=moment.revision,
            generation=GenerationNote.of(moment.generation),
            tables=moment.tables,
            sequences=dict(moment.sequences),
            tenants=tenants,
            files=target.files,
        )
        target.complete(manifest)
    return Backup(target.folder)


class _Writer:
    """Writes the files of one backup, and counts what they hold."""

    def __init__(
        self, stores: Stores, target: NewBackup, earlier: Backup | None, report: Report
    ) -> None:
        self._stores = stores
        self._target = target
        self._lacks = Lacks()
        self._copier = ObjectCopier(stores.objects, target, earlier, self._lacks)
        self._report = report
        self._counts: defaultdict[UUID, dict[str, int]] = defaultdict(dict)

    async def write(self) -> tuple[Moment, dict[UUID, TenantNote]]:
        target, database = self._target, self._stores.database
        with target.scratch() as versions, target.scratch() as conversations:
            async with removal_hold(database):
                self._report("database")
                async with open_snapshot(database) as snapshot:
                    moment = await write_database(snapshot, target)
                    await snapshot.copy_versions(versions)
                    await snapshot.copy_conversations(conversations)
                await self._write_documents(versions, moment.generation.number)
                await self._write_messages(conversations)
        self._lacks.refuse()
        return moment, self._notes(moment)

    async def _write_documents(self, lines: BinaryIO, generation: int) -> None:
        lines.seek(0)
        for tenant_id, versions in versions_by_tenant(lines):
            self._report(f"documents of tenant {tenant_id}")
            with self._target.file(object_list(tenant_id)) as output:
                objects = await self._copier.copy(versions, output)
            with self._target.file(chunk_file(tenant_id)) as output:
                chunks = await write_chunks(
                    self._stores.chunks,
                    versions,
                    output,
                    generation=generation,
                    lacks=self._lacks,
                )
            self._counts[tenant_id] |= {
                "versions": len(versions),
                "objects": objects,
                "chunks": chunks,
            }

    async def _write_messages(self, lines: BinaryIO) -> None:
        lines.seek(0)
        for tenant_id, conversations in conversations_by_tenant(lines):
            self._report(f"messages of tenant {tenant_id}")
            with self._target.file(message_file(tenant_id)) as output:
                messages = await write_messages(
                    self._stores.chat_log,
                    conversations,
                    output,
                    kept_for=self._stores.messages_kept_for,
                    lacks=self._lacks,
                )
            self._counts[tenant_id]["messages"] = messages

    def _notes(self, moment: Moment) -> dict[UUID, TenantNote]:
        notes = {}
        for tenant_id in self._counts.keys() | moment.ledger.keys():
            total = moment.ledger.get(tenant_id)
            ledger = {} if total is None else {"ledger_rows": total.rows, "ledger_usd": total.usd}
            notes[tenant_id] = TenantNote.model_validate({**self._counts[tenant_id], **ledger})
        return notes


def chunk_file(tenant_id: UUID) -> str:
    """Return the name of the file with a tenant's chunks."""
    return f"chunks/{tenant_id}.jsonl.gz"


def message_file(tenant_id: UUID) -> str:
    """Return the name of the file with a tenant's messages."""
    return f"messages/{tenant_id}.jsonl.gz"
