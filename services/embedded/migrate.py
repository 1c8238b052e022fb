"""Entry point of the part `migrations`: databases, roles, schema; then it ends."""

import asyncio

import structlog

from planes.shared.errors import Unavailable
from planes.shared.stores.chat_log_settings import ChatLogSettings, migrate_chat_log
from planes.shared.stores.chunk_generations import prepare_chunk_store
from planes.shared.stores.chunk_settings import ChunkStoreSettings
from services.embedded.home import Home, locate
from services.embedded.installation import running_installation
from services.embedded.postgres import DAGSTER_ROLE, PLATFORM_DATABASE, SERVICE_ROLES
from services.embedded.schema import bootstrap


class NotRunning(RuntimeError):
    """There is no running database to migrate."""


def migrate(home: Home) -> None:
    """Bring the running database of a home to this version, without the chat log.

    Raises:
        NotRunning: Nothing runs in this home.
    """
    installation = running_installation(home)
    if installation is None:
        raise NotRunning("Polyplane is not running: `polyplane up` starts it and migrates.")
    roles = (*SERVICE_ROLES, DAGSTER_ROLE)
    bootstrap(installation.postgres().url, {role: installation.secrets[role] for role in roles})


def database_url(home: Home) -> str:
    """Return where the running database of a home is, as the owner of its schema.

    Raises:
        NotRunning: Nothing runs in this home.
    """
    installation = running_installation(home)
    if installation is None:
        raise NotRunning("Polyplane is not running: `polyplane up` starts it and migrates.")
    return installation.postgres().url(PLATFORM_DATABASE)


def migrate_at_start(home: Home) -> None:
    """Migrate all stores; a chat log that is away now does not keep the platform from starting.

    Raises:
        NotRunning: Nothing runs in this home.
        CqlRefused: The chat log's cluster cannot serve.
        PlatformError: The chunk store does not answer, or cannot serve.
    """
    migrate(home)
    asyncio.run(prepare_chunk_store(ChunkStoreSettings.read(), database_url(home)))
    try:
        migrate_chat_log(ChatLogSettings.read())
    except Unavailable as error:
        structlog.get_logger(__name__).warning("chat log away", reason=error.detail)


if __name__ == "__main__":
    migrate_at_start(locate())
