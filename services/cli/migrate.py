"""`polyplane migrate`: bring the database, chunk store and chat log to this version's schema.

With `DATABASE_OWNER_URL` it is the database of that server, else that of the running platform; with
`CQL_HOSTS` the tables of that cluster too. The chunk store gets the generations that it lacks.
"""

import asyncio

import typer

from planes.shared.errors import PlatformError, Unavailable
from planes.shared.stores.chat_log_settings import ChatLogSettings, migrate_chat_log
from planes.shared.stores.chunk_generations import prepare_chunk_store
from planes.shared.stores.chunk_settings import ChunkStoreSettings
from planes.shared.stores.migrations import MigrationBlocked, head_revision
from services.cli.terminal import console, errors
from services.embedded import given_servers
from services.embedded import migrate as embedded
from services.embedded.home import locate
from services.embedded.postgres import PLATFORM_DATABASE

app = typer.Typer(add_completion=False)


@app.command()
def migrate() -> None:
    """Bring the database to this version's schema; `up` does it too.

    With CQL_HOSTS the tables of the chat log too, and the generations of the index in the chunk
    store.
    """
    servers = given_servers.GivenServers.read()
    try:
        if servers.owner_url is None:
            embedded.migrate(locate())
            owner_url = embedded.database_url(locate())
        else:
            given_servers.migrate(servers)
            owner_url = servers.url(PLATFORM_DATABASE)
    except embedded.NotRunning as error:
        errors.print(str(error))
        raise typer.Exit(3) from error
    except MigrationBlocked as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(1) from error
    console.print(f"The database is at schema {head_revision()}.")
    try:
        store = asyncio.run(prepare_chunk_store(ChunkStoreSettings.read(), owner_url))
    except PlatformError as error:
        errors.print(f"The chunk store stays as it is: {error}")
        raise typer.Exit(1) from error
    console.print(f"The chunk store is {store['store']}.")
    try:
        version = migrate_chat_log(ChatLogSettings.read())
    except (Unavailable, RuntimeError) as error:  # the driver's own type stays with its adapter
        errors.print(f"The chat log stays as it is: {error}")
        raise typer.Exit(1) from error
    if version is not None:
        console.print(f"The chat log is at schema {version}.")
