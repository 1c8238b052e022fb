"""The stores that backups are made of and restored into: this machine's, or given ones."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import typer

from planes.shared.errors import PlatformError
from planes.shared.settings import SettingsWrong
from planes.shared.stores import migrations
from planes.shared.stores.chat_log_settings import ChatLogSettings, migrate_chat_log
from planes.shared.stores.chunk_settings import ChunkStoreSettings
from services.cli.terminal import errors
from services.embedded.home import locate
from services.embedded.installation import Installation, NotRunning, installation_at_hand
from services.embedded.offline import offline_installation
from services.embedded.postgres import PLATFORM_DATABASE
from services.embedded.schema import bootstrap
from services.embedded.state import AlreadyRunning
from services.operations.backup import Report
from services.operations.backup_folder import Backup
from services.operations.restore import Restore
from services.operations.stores import Stores, open_stores


@asynccontextmanager
async def stores_at_hand() -> AsyncIterator[Stores]:
    """Open the stores of the running platform; where none runs, those that the settings name.

    Raises:
        NotRunning: Nothing runs, and no server is named.
        PlatformError: A store does not answer, or cannot serve.
    """
    async with _stores(installation_at_hand(locate(), os.environ)) as stores:
        yield stores


async def restore_backup(backup: Backup, report: Report) -> None:
    """Put a backup into the servers that `DATABASE_OWNER_URL` names, else into this home.

    Raises:
        AlreadyRunning: The platform runs.
        PlatformError: A store is not empty, does not answer, or cannot serve.
        OSError: The object store does not answer.
    """
    if {"DATABASE_OWNER_URL", "DATABASE_OWNER_URL_FILE"} & os.environ.keys():
        await _restore(backup, installation_at_hand(locate(), os.environ), report)
        return
    async with offline_installation(locate(), os.environ) as installation:
        await _restore(backup, installation, report)


async def _restore(backup: Backup, installation: Installation, report: Report) -> None:
    servers, revision = installation.servers, backup.manifest.revision
    await asyncio.to_thread(
        bootstrap, servers.owner_url, servers.passwords(), revision=revision, is_restore=True
    )
    log = installation.settings(ChatLogSettings)
    await asyncio.to_thread(migrate_chat_log, log)
    async with _stores(installation, are_new=True) as stores:
        restore = Restore(backup, stores, report=report)
        await restore.run(lambda: migrations.upgrade(servers.owner_url(PLATFORM_DATABASE)))


@asynccontextmanager
async def _stores(installation: Installation, *, are_new: bool = False) -> AsyncIterator[Stores]:
    async with open_stores(
        installation.servers.owner_url(PLATFORM_DATABASE),
        installation.objects(),
        installation.settings(ChunkStoreSettings),
        installation.settings(ChatLogSettings),
        are_new=are_new,
    ) as stores:
        yield stores


def act(work: Coroutine[Any, Any, None]) -> None:
    """Run an operator's command to its end.

    Raises:
        typer.Exit: It was refused; what it says is printed.
    """
    try:
        asyncio.run(work)
    except AlreadyRunning as error:
        errors.print("Polyplane runs: `polyplane down` stops it.")
        raise typer.Exit(1) from error
    except NotRunning as error:
        errors.print(str(error))
        raise typer.Exit(3) from error
    except (PlatformError, SettingsWrong, OSError, RuntimeError) as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(1) from error
