"""Brings a chunk store to the generations that the registry knows, for `polyplane migrate`."""

import structlog

from planes.shared.stores.chunk_settings import ChunkStoreSettings, chunk_stores
from planes.shared.stores.postgres import Database

_log = structlog.get_logger(__name__)
_NOTE = "UPDATE generations SET store = $1 WHERE store IS NULL AND state <> 'dropped'"
_KNOWN = "SELECT number, dimension FROM generations WHERE state <> 'dropped' ORDER BY number"


async def prepare_chunk_store(settings: ChunkStoreSettings, registry_url: str) -> dict[str, str]:
    """Make the generations that their stores lack, and return what the live one's store is.

    Those of which it was not yet known are from now on in the store that the settings name.

    Args:
        settings: Which stores there are, and where new generations go.
        registry_url: Of the migrated database, as the owner of its schema.

    Raises:
        Conflict: A generation is there with another dimension.
        InvalidInput: The store cannot do what is needed.
        Unavailable: A store does not answer.
    """
    database = Database(registry_url, service="polyplane-migrate", max_connections=2)
    stores = chunk_stores(settings, database)
    await database.open()
    try:
        await stores.open()
        await stores.kept_in(stores.default)  # refused now, not when a generation is made there
        async with database.platform() as connection:
            await connection.execute(_NOTE, stores.default)
            known = await connection.fetch(_KNOWN)
        for row in known:
            await stores.create_generation(row["number"], row["dimension"])
        if stores.live != stores.default:
            _log.warning("the index stands in another store", live=stores.live, new=stores.default)
        return await stores.describe()
    finally:
        await stores.close()
        await database.close()
