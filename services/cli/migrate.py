"""`polyplane migrate`: bring the database to this version's schema.

With `DATABASE_OWNER_URL` it is the database of that server, else that of the running platform.
"""

import typer

from planes.shared.stores.migrations import head_revision
from services.cli.terminal import console, errors
from services.embedded import given_servers
from services.embedded import migrate as embedded
from services.embedded.home import locate

app = typer.Typer(add_completion=False)


@app.command()
def migrate() -> None:
    """Bring the database to this version's schema; `up` does it too."""
    servers = given_servers.GivenServers.read()
    try:
        if servers.owner_url is None:
            embedded.migrate(locate())
        else:
            given_servers.migrate(servers)
    except embedded.NotRunning as error:
        errors.print(str(error))
        raise typer.Exit(3) from error
    console.print(f"The database is at schema {head_revision()}.")
