"""The tables of the database, written to a backup and read from it."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from planes.shared.errors import Conflict, InvalidInput
from planes.shared.stores.postgres_restoration import Restoration
from planes.shared.stores.postgres_snapshot import LedgerTotal, LiveGeneration, Snapshot
from services.operations.backup_folder import Backup, NewBackup
from services.operations.manifest import TableNote


@dataclass(frozen=True, slots=True)
class Moment:
    """What the database was at the moment of a backup."""

    taken_at: datetime
    revision: str
    generation: LiveGeneration
    tables: dict[str, TableNote]
    sequences: Mapping[str, int]
    ledger: dict[UUID, LedgerTotal]


async def write_database(snapshot: Snapshot, target: NewBackup) -> Moment:
    """Write every table of the platform's state."""
    notes: dict[str, TableNote] = {}
    for table, columns in (await snapshot.tables()).items():
        with target.file(_name(table)) as output:
            rows = await snapshot.copy_table(table, columns, output)
        notes[table] = TableNote(columns=columns, rows=rows)
    return Moment(
        await snapshot.taken_at(),
        await snapshot.revision(),
        await snapshot.live_generation(),
        notes,
        await snapshot.sequences(),
        await snapshot.ledger(),
    )


async def load_database(restoration: Restoration, backup: Backup) -> None:
    """Load the tables, in one transaction.

    Raises:
        InvalidInput: The backup does not hold what its manifest says.
        Unavailable: The database does not answer.
    """
    noted = backup.manifest.tables
    with ExitStack() as stack:
        sources = {
            table: (note.columns, stack.enter_context(backup.file(_name(table))))
            for table, note in noted.items()
        }
        rows = await restoration.load(sources, backup.manifest.sequences)
    if rows != {table: note.rows for table, note in noted.items()}:
        raise InvalidInput("The tables of the backup have other numbers of rows than it says.")


async def compare_ledger(restoration: Restoration, backup: Backup) -> None:
    """Make sure that every row and every cent of the ledger is there.

    Raises:
        Conflict: They are not.
        Unavailable: The database does not answer.
    """
    ledger = {
        tenant_id: note.ledger
        for tenant_id, note in backup.manifest.tenants.items()
        if note.ledger_rows
    }
    if await restoration.ledger() != ledger:
        raise Conflict("The ledger of the backup has other totals than it says.")


def _name(table: str) -> str:
    return f"database/{table}.copy.gz"
