"""Brings all stores to this version; as a process, the part `migrations`, which then ends."""

import asyncio

import structlog

from planes.shared.errors import PlatformError, Unavailable
from planes.shared.settings import SettingsWrong
from planes.shared.stores.chat_log_settings import ChatLogSettings, migrate_chat_log
from planes.shared.stores.chunk_generations import prepare_chunk_store
from planes.shared.stores.chunk_settings import ChunkStoreSettings
from planes.shared.stores.placed_chat_log import note_place
from services.embedded.home import locate
from services.embedded.installation import Installation, installation_at_hand
from services.embedded.postgres import PLATFORM_DATABASE
from services.embedded.schema import bootstrap


def migrate_database(installation: Installation) -> None:
    """Bring databases, roles and schema to this version. Repeatable."""
    servers = installation.servers
    bootstrap(servers.owner_url, servers.passwords())


def migrate_chunks(installation: Installation) -> dict[str, str]:
    """Make the generations that the chunk store lacks, and return what the store is.

    Raises:
        PlatformError: It does not answer, or cannot serve.
    """
    registry = installation.servers.owner_url(PLATFORM_DATABASE)
    settings = installation.settings(ChunkStoreSettings)
    return asyncio.run(prepare_chunk_store(settings, registry))


def migrate_messages(installation: Installation) -> int | None:
    """Note where messages are, and return the schema's version of the cluster, if there is one.

    Raises:
        CqlRefused: The cluster cannot serve.
        Unavailable: It does not answer.
    """
    settings = installation.settings(ChatLogSettings)
    registry = installation.servers.owner_url(PLATFORM_DATABASE)
    asyncio.run(note_place(registry, settings.chat_log))
    return migrate_chat_log(settings)


def migrate_at_start(installation: Installation) -> None:
    """Migrate all stores; a chat log that is away now does not keep the platform from starting.

    Raises:
        CqlRefused: The chat log's cluster cannot serve.
        PlatformError: The chunk store does not answer, or cannot serve.
    """
    migrate_database(installation)
    migrate_chunks(installation)
    try:
        migrate_messages(installation)
    except Unavailable as error:
        structlog.get_logger(__name__).warning("chat log away", reason=error.detail)


def main() -> int:
    """Migrate the stores of the platform that starts; say in a sentence what keeps us from it."""
    try:
        migrate_at_start(installation_at_hand(locate(), {}))
    except (PlatformError, SettingsWrong, RuntimeError) as error:
        structlog.get_logger(__name__).error("not migrated", reason=str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
