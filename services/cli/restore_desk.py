"""Puts a backup into this machine's home or into given servers, which are looked at before."""

import asyncio
import os

from planes.shared.errors import Conflict, InvalidInput
from planes.shared.stores import migrations
from planes.shared.stores.chat_log_settings import ChatLogSettings, migrate_chat_log
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_restoration import is_migrated, is_repetition
from services.cli.backup_desk import open_stores_of
from services.embedded.home import locate
from services.embedded.installation import OWNER_URL, Installation
from services.embedded.launch import with_whole_paths
from services.embedded.offline import given_installation, offline_installation
from services.embedded.postgres import PLATFORM_DATABASE
from services.embedded.postgres_diagnosis import diagnose_postgres
from services.embedded.remembered import remember
from services.embedded.schema import bootstrap
from services.operations.backup import Report
from services.operations.backup_folder import Backup
from services.operations.restore import Restore


async def restore_backup(backup: Backup, report: Report) -> None:
    """Put a backup into the servers that `DATABASE_OWNER_URL` names, else into this home.

    Given servers belong to this home afterwards, as after `up`: it makes the roles' passwords, and
    remembers the variables.

    Raises:
        AlreadyRunning: The platform runs.
        HomeRefused: The home is of another mode.
        PlatformError: A store is not empty, does not answer, or cannot serve.
        SettingsWrong: What has to be named is not.
        OSError: A store does not answer.
    """
    note = backup.manifest
    if not migrations.is_known(note.revision):
        raise InvalidInput(
            f"The backup is at schema {note.revision}, which this version does not know: restore "
            f"it with Polyplane {note.made_by} or newer."
        )
    environment = with_whole_paths(os.environ)
    if any(environment.get(name) for name in OWNER_URL):
        with given_installation(locate(), environment) as installation:
            await _refuse_server(installation)
            await _refuse_database(installation, backup)
            remember(installation.home, "server", environment)
            await _restore(backup, installation, report)
        return
    async with offline_installation(locate(), environment) as installation:
        await _refuse_database(installation, backup)
        await _restore(backup, installation, report)


async def _refuse_server(installation: Installation) -> None:
    """Refuse a server that another platform has, or that cannot serve; nothing is changed there."""
    finding = await diagnose_postgres(installation, is_starting=True)
    if finding.verdict == "bad":
        raise Conflict(f"{finding.subject}: {finding.found}. {finding.remedy}")


async def _refuse_database(installation: Installation, backup: Backup) -> None:
    """Refuse a database that is in use or holds something, before its schema is touched."""
    url = installation.servers.owner_url(PLATFORM_DATABASE)
    if not await is_migrated(url):
        return
    database = Database(url, service="restore", max_connections=1)
    await database.open()
    try:
        await is_repetition(database, backup.manifest.id)
    finally:
        await database.close()


async def _restore(backup: Backup, installation: Installation, report: Report) -> None:
    servers = installation.servers
    url = servers.owner_url(PLATFORM_DATABASE)
    await asyncio.to_thread(
        bootstrap,
        servers.owner_url,
        servers.passwords(),
        revision=backup.manifest.revision,
        is_restore=True,
    )
    await asyncio.to_thread(migrate_chat_log, installation.settings(ChatLogSettings))
    async with open_stores_of(installation, are_new=True) as stores:
        await Restore(backup, stores, report=report).run(lambda: migrations.upgrade(url))
