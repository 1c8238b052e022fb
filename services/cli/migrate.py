"""`polyplane migrate`: bring the database to this version's schema."""

import typer

from planes.shared.stores.migrations import head_revision
from services.cli.terminal import console, errors
from services.embedded import migrate as embedded
from services.embedded.home import locate

app = typer.Typer(add_completion=False)


@app.command()
def migrate() -> None:
    """Bring the running database to this version's schema; `up` does it too."""
    try:
        embedded.migrate(locate())
    except embedded.NotRunning as error:
        errors.print(str(error))
        raise typer.Exit(3) from error
    console.print(f"The database is at schema {head_revision()}.")
