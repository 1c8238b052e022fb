"""`polyplane backup`: copy all stores into a folder; see docs/operations.md."""

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from planes.shared.errors import PlatformError
from services.cli.backup_desk import act, stores_at_hand
from services.cli.terminal import console, errors
from services.embedded.installation import NotRunning
from services.operations.backup import back_up
from services.operations.backup_folder import Backup, backups_in, keep_newest

app = typer.Typer(add_completion=False)

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_AGAIN = timedelta(minutes=15)


def _interval(text: str) -> timedelta:
    """Return 30m, 24h or 7d as a time.

    Raises:
        typer.BadParameter: It is none.
    """
    parts = re.fullmatch(r"([1-9]\d{0,3})([mhd])", text)
    if parts is None:
        raise typer.BadParameter("a number and m, h or d, such as 24h")
    return timedelta(**{_UNITS[parts[2]]: int(parts[1])})


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="Gets a folder for each backup.", file_okay=False)],
    since: Annotated[
        Path | None,
        typer.Option(help="Another backup on this disk; its unchanged files are linked."),
    ] = None,
    every: Annotated[
        timedelta | None,
        typer.Option(parser=_interval, metavar="TIME", help="Go on, once in 30m, 24h or 7d."),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Remove all but so many of the newest.")
    ] = None,
) -> None:
    """Copy all stores into a folder, while the platform runs."""
    folder = folder.absolute()
    if every is None:
        act(_once(folder, since, keep))
    else:
        act(_again_and_again(folder, every, keep))


async def _once(folder: Path, since: Path | None, keep: int | None) -> None:
    earlier = None if since is None else Backup(since)
    async with stores_at_hand() as stores:
        made = await back_up(stores, folder, earlier=earlier, report=_say)
    note = made.manifest
    counts = [sum(getattr(each, name) for each in note.tenants.values()) for name in _COUNTED]
    console.print(f"{made.folder}: {', '.join(map(_counted, counts, _COUNTED))}", markup=False)
    for removed in keep_newest(folder, keep) if keep else ():
        console.print(f"Removed {removed}", markup=False)


async def _again_and_again(folder: Path, every: timedelta, keep: int | None) -> None:
    while True:
        try:
            made = backups_in(folder)
            await _once(folder, made[-1] if made else None, keep)
            pause = every
        except (PlatformError, NotRunning, OSError) as error:
            now = datetime.now().astimezone()
            errors.print(f"{now:%Y-%m-%d %H:%M} no backup: {error}", markup=False)
            pause = min(every, _AGAIN)
        await asyncio.sleep(pause.total_seconds())


_COUNTED = ("versions", "chunks", "objects", "messages", "ledger_rows")


def _counted(number: int, name: str) -> str:
    return f"{number} {name.replace('_', ' ')}"


def _say(stage: str) -> None:
    console.print(f"  {stage}", markup=False)
