"""`polyplane backup`: copy all stores into a folder; see docs/operations.md."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from planes.shared.errors import InvalidInput
from services.cli.backup_desk import act, stores_at_hand
from services.cli.terminal import console, errors
from services.operations.backup import back_up
from services.operations.backup_folder import Backup, backups_in, keep_newest, made_at

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
    act(_back_up(folder.absolute(), since and since.absolute(), every, keep))


async def _back_up(
    folder: Path, since: Path | None, every: timedelta | None, keep: int | None
) -> None:
    earlier = None if since is None else Backup(since)
    if every is None:
        await _once(folder, earlier, keep)
    else:
        await _again_and_again(folder, earlier, every, keep)


async def _once(folder: Path, earlier: Backup | None, keep: int | None) -> None:
    async with stores_at_hand() as stores:
        made = await back_up(stores, folder, earlier=earlier, report=_say)
    note = made.manifest
    counts = [sum(getattr(each, name) for each in note.tenants.values()) for name in _COUNTED]
    console.print(f"{made.folder}: {', '.join(map(_counted, counts, _COUNTED))}", markup=False)
    for removed in keep_newest(folder, keep) if keep else ():
        console.print(f"Removed {removed}", markup=False)


async def _again_and_again(
    folder: Path, since: Backup | None, every: timedelta, keep: int | None
) -> None:
    """Make a backup whenever the newest one is so old, whoever made that and whenever we began."""
    while True:
        try:
            newest = _newest(folder)
            if newest is not None:
                await _until(min(made_at(newest.folder), datetime.now(UTC)) + every)
            await _once(folder, newest or since, keep)
        except Exception as error:  # the edge of a process that has to make the next one
            said = str(error) or type(error).__name__
            errors.print(f"{_local(datetime.now(UTC))} no backup: {said}", markup=False)
            await asyncio.sleep(min(every, _AGAIN).total_seconds())


async def _until(due: datetime) -> None:
    left = due - datetime.now(UTC)
    if left > timedelta(0):
        console.print(f"The next backup is due at {_local(due)}.", markup=False)
        await asyncio.sleep(left.total_seconds())


def _newest(folder: Path) -> Backup | None:
    """Return the newest backup that can be read; those that cannot are named."""
    for path in reversed(backups_in(folder)):
        try:
            return Backup(path)
        except InvalidInput as error:
            errors.print(f"Not counted: {error}", markup=False)
    return None


def _local(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"


_COUNTED = ("versions", "chunks", "objects", "messages", "ledger_rows")


def _counted(number: int, name: str) -> str:
    return f"{number} {name.replace('_', ' ')}"


def _say(stage: str) -> None:
    console.print(f"  {stage}", markup=False)
