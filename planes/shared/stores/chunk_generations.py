"""Brings a chunk store to the generations that the registry knows, for `polyplane migrate`."""

from planes.shared.stores.chunk_settings import ChunkStoreSettings, chunk_store
from planes.shared.stores.postgres import Database

_KNOWN = "SELECT number, dimension FROM generations WHERE state <> 'dropped' ORDER BY number"


async def prepare_chunk_store(settings: ChunkStoreSettings, registry_url: str) -> dict[str, str]:
    """Make the generations that the configured store lacks, and return what the store is.

    Args:
        settings: Which store.
        registry_url: Of the migrated database, as the owner of its schema.

    Raises:
        Conflict: A generation is there with another dimension.
        InvalidInput: The store cannot do what is needed.
        Unavailable: A store does not answer.
    """
    database = Database(registry_url, service="polyplane-migrate", max_connections=2)
    store = chunk_store(settings, database)
    await database.open()
    try:
        await store.open()
        async with database.platform() as connection:
            known = await connection.fetch(_KNOWN)
        for row in known:
            await store.create_generation(row["number"], row["dimension"])
        return await store.describe()
    finally:
        await store.close()
        await database.close()
