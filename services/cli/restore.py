"""`polyplane restore`: put a backup into empty stores; see docs/operations.md."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.backup_desk import act
from services.cli.restore_desk import restore_backup
from services.cli.terminal import console
from services.operations.backup_folder import Backup
from services.operations.restore import check

app = typer.Typer(add_completion=False)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="One backup.", exists=True, file_okay=False)],
    only_check: Annotated[
        bool, typer.Option("--check", help="Compare its hashes, and restore nothing.")
    ] = False,
) -> None:
    """Put a backup into the empty stores of a platform that does not run."""
    act(_restore(folder.absolute(), only_check=only_check))


async def _restore(folder: Path, *, only_check: bool) -> None:
    backup = Backup(folder)
    await check(backup, _say)
    if only_check:
        console.print("The backup is whole.")
        return
    await restore_backup(backup, _say)
    console.print("Restored, and compared with the backup. Everybody signs in again.")


def _say(stage: str) -> None:
    console.print(f"  {stage}", markup=False)
