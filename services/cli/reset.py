"""`polyplane reset`: stop the platform and delete all its data."""

from typing import Annotated

import typer

from services.cli.down import stop_platform
from services.cli.terminal import console
from services.embedded.home import locate
from services.embedded.remembered import remembered

app = typer.Typer(add_completion=False)


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Stop the platform and delete all its data: accounts, documents, conversations, logs."""
    home = locate()
    home.check()
    if not home.root.exists():
        console.print(f"There is nothing in {home.root}.")
        return
    last = remembered(home)
    if last is not None and last.mode == "server":
        console.print(
            "The given servers keep their data. With the folder go the secrets (secrets.json) and "
            "the signing keys (keys): another platform on this data ends all sessions."
        )
    if not yes:
        typer.confirm(f"Delete everything in {home.root}? This cannot be undone.", abort=True)
    stop_platform(home)
    if home.delete():
        console.print(f"Deleted {home.root}.")
    else:
        console.print(f"Deleted the platform in {home.root}; what else is in it stays.")
