"""`polyplane admin`: watched sources, see docs/ingestion.md."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from services.cli.source_desk import NewSource, SourceDesk, at_source_desk
from services.cli.terminal import console, errors


def add_source(  # noqa: PLR0913, PLR0917 (each is an option)
    tenant: Annotated[UUID, typer.Option(help="Id of the tenant that gets the documents.")],
    owner: Annotated[str, typer.Option(help="Address of the member who owns them.")],
    folder: Annotated[Path | None, typer.Option(help="Absolute path of a folder.")] = None,
    s3: Annotated[str | None, typer.Option(help="Prefix of a bucket: s3://bucket/prefix.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Of each document; repeatable.")] = None,
    delete_missing: Annotated[
        bool, typer.Option(help="Delete the document of a file that vanishes.")
    ] = False,
) -> None:
    """Watch a folder, or a prefix of an object store: its files become documents."""
    if (folder is None) == (s3 is None):
        errors.print("Name the place by --folder or by --s3.")
        raise typer.Exit(2)
    kind, location = ("s3", s3 or "") if folder is None else ("folder", str(folder))
    new = NewSource(tenant, owner, kind, location, tuple(tag or ()), delete_missing)
    if flaw := new.flaw:
        errors.print(flaw, markup=False)
        raise typer.Exit(2)

    async def add(desk: SourceDesk) -> UUID:
        return await desk.add(new)

    source_id = at_source_desk(add)
    console.print(f"Watching {location} as {source_id}.", markup=False)
    console.print("Files are taken over by `polyplane admin scan-sources`, or by themselves where")
    console.print("DATA_WATCH_SOURCES or DATA_DAILY_INGESTION is set.")


def list_sources() -> None:
    """List the watched sources, how the last scan of each went, and what it skipped."""

    async def show(desk: SourceDesk) -> None:
        for row in await desk.all():
            scanned = f"{row['last_scan_at']:%Y-%m-%d %H:%M}" if row["last_scan_at"] else "never"
            rules = "  deletes missing" if row["delete_missing"] else ""
            console.print(f"{row['id']}  {row['location']}{rules}", markup=False)
            counts = f"{row['documents']} documents, {row['skipped']} files skipped"
            owner = f"tenant {row['tenant_id']}, owner {row['email']}"
            console.print(f"  {owner}; {counts}; looked at: {scanned}", markup=False)
            if row["last_error"]:
                console.print(f"  error: {row['last_error']}", markup=False)
            for skipped in await desk.skipped(row["id"]):
                console.print(f"  skipped {skipped['key']}: {skipped['skipped']}", markup=False)

    at_source_desk(show)


def remove_source(
    source: Annotated[UUID, typer.Argument(help="As `list-sources` shows it.")],
) -> None:
    """Watch a source no longer; its documents stay."""

    async def remove(desk: SourceDesk) -> None:
        await desk.remove(source)

    at_source_desk(remove)
    console.print(f"{source} is no longer watched. Its documents stay.", markup=False)


def scan_sources() -> None:
    """Scan all sources now, in the background."""

    async def scan(desk: SourceDesk) -> None:
        await desk.request_scan()

    at_source_desk(scan)
    console.print("Asked for a scan. Next: polyplane admin list-sources")
