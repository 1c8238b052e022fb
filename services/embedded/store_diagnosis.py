"""What the configured chunk store is and can, where it is another server than the database."""

import asyncio
from collections.abc import Iterator, Mapping

from planes.shared.errors import InvalidInput, Unavailable
from planes.shared.settings import SettingsWrong
from planes.shared.stores.chunk_settings import ChunkStoreSettings, chunk_store
from planes.shared.stores.postgres import Database
from services.embedded.diagnosis import Finding

_SUBJECT = "Chunk store"


def diagnose_chunk_store(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Ask the store that an environment names; nothing is changed."""
    try:
        settings = ChunkStoreSettings.of(environment)
    except SettingsWrong as error:
        yield Finding(_SUBJECT, "bad", "its settings are wrong", str(error))
        return
    if settings.chunk_store == "postgres":
        return
    try:
        told = asyncio.run(_described(settings))
    except (InvalidInput, Unavailable) as error:
        is_away = isinstance(error, Unavailable)
        found = f"{settings.chunk_store} {'does not answer' if is_away else 'cannot be used'}"
        yield Finding(_SUBJECT, "bad", found, str(error), is_away=is_away)
        return
    name = told.pop("store")
    yield Finding(_SUBJECT, "good", "; ".join([name, *(f"{k}: {v}" for k, v in told.items())]))


async def _described(settings: ChunkStoreSettings) -> dict[str, str]:
    """Open the store alone: what it is and can, it tells without the registry."""
    store = chunk_store(settings, Database("", service="polyplane-doctor"))
    try:
        await store.open()
        return await store.describe()
    finally:
        await store.close()
