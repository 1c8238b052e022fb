"""`polyplane migrate`: bring the database, chunk store and chat log to this version's schema.

Those of the running platform; where none runs, those that the environment names.
"""

import os

import typer

from planes.shared.errors import PlatformError, Unavailable
from planes.shared.settings import SettingsWrong
from planes.shared.stores.migrations import MigrationBlocked, head_revision
from planes.shared.stores.postgres import RestoreUnfinished
from services.cli.terminal import console, errors
from services.embedded.home import locate
from services.embedded.installation import Installation, NotRunning, installation_at_hand
from services.embedded.migrate import migrate_chunks, migrate_database, migrate_messages

app = typer.Typer(add_completion=False)


@app.command()
def migrate() -> None:
    """Bring all stores of the running platform to this version; `up` does it too.

    Where none runs: the servers that DATABASE_OWNER_URL, CQL_HOSTS and the other settings of
    stores name.
    """
    try:
        installation = installation_at_hand(locate(), os.environ)
        _migrate(installation)
    except NotRunning as error:
        errors.print(str(error))
        raise typer.Exit(3) from error
    except (MigrationBlocked, RestoreUnfinished, SettingsWrong) as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(1) from error


def _migrate(installation: Installation) -> None:
    migrate_database(installation)
    console.print(f"The database is at schema {head_revision()}.")
    try:
        store = migrate_chunks(installation)
    except PlatformError as error:
        errors.print(f"The chunk store stays as it is: {error}", markup=False)
        raise typer.Exit(1) from error
    console.print(f"The chunk store is {store['store']}.")
    try:
        version = migrate_messages(installation)
    except (Unavailable, RuntimeError) as error:  # the driver's own type stays with its adapter
        errors.print(f"The chat log stays as it is: {error}", markup=False)
        raise typer.Exit(1) from error
    if version is not None:
        console.print(f"The chat log is at schema {version}.")
