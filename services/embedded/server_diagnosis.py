"""What may keep the platform from running on given servers, each with its remedy."""

import asyncio
import os
from collections.abc import Iterator
from uuid import uuid4

from pydantic_settings import SettingsConfigDict

from planes.shared.errors import PlatformError, Unavailable
from planes.shared.settings import SettingsWrong
from planes.shared.stores.chat_log_settings import ChatLogSettings, cql_options
from planes.shared.stores.object_settings import ObjectStoreSettings, object_store
from planes.shared.stores.redis_address import RedisSettings
from services.embedded.diagnosis import Finding
from services.embedded.installation import Installation
from services.embedded.postgres_diagnosis import diagnose_postgres
from services.embedded.redis_diagnosis import diagnose_redis
from services.embedded.store_diagnosis import diagnose_chunk_store

_FILES = "Files"
_FILES_S = 30.0


class _ServingRedis(RedisSettings):
    model_config = SettingsConfigDict(env_prefix="SERVING_")


class _DataRedis(RedisSettings):
    model_config = SettingsConfigDict(env_prefix="DATA_")


def diagnose_servers(installation: Installation, *, is_starting: bool) -> Iterator[Finding]:
    """Look at all that variables name; nothing is changed, but for a take-over.

    Args:
        installation: In server mode.
        is_starting: It is about to start, so that nothing of it is connected.
    """
    try:
        yield asyncio.run(diagnose_postgres(installation, is_starting=is_starting))
        yield from _redis(installation)
        yield asyncio.run(_files(installation))
        yield from diagnose_chunk_store(installation.environment)
        yield from _chat_log(installation.settings(ChatLogSettings))
    except SettingsWrong as error:
        wrong = "; ".join(str(error).splitlines())
        yield Finding("Settings", "bad", wrong, "Correct these environment variables.")


def _redis(installation: Installation) -> Iterator[Finding]:
    gateway = installation.settings(RedisSettings)
    if gateway.redis_url is not None:
        yield asyncio.run(diagnose_redis(gateway, "REDIS_URL", keeps_limits=True))
    planes = {
        "SERVING_REDIS_URL": installation.settings(_ServingRedis),
        "DATA_REDIS_URL": installation.settings(_DataRedis),
    }
    named = {name: plane for name, plane in planes.items() if plane.redis_url is not None}
    for name, plane in named.items():
        yield asyncio.run(diagnose_redis(plane, name, keeps_limits=False))
    if len(named) == 1:
        remedy = "Set both: what the one plane keeps in its cache, the other one has to remove."
        yield Finding("Redis", "bad", f"of the planes there is {next(iter(named))} alone", remedy)
    if not named:
        found = "SERVING_REDIS_URL and DATA_REDIS_URL are not set: answers are not cached"
        yield Finding("Redis", "warning", found, "Give each plane a user, see docs/caching.md.")


async def _files(installation: Installation) -> Finding:
    """Look whether files can be written, by a small one that is removed again."""
    settings = installation.settings(ObjectStoreSettings)
    folder = settings.objects_dir
    if settings.s3_bucket is None and folder is not None:
        where, remedy = str(folder), "Make the folder, and let this account write to it."
        if not (await asyncio.to_thread(folder.is_dir) and os.access(folder, os.W_OK | os.X_OK)):
            return Finding(_FILES, "bad", f"{where} is no folder that can be written", remedy)
    else:
        where = f"bucket {settings.s3_bucket} at {settings.s3_endpoint or 'AWS'}"
        remedy = "Correct the S3_… settings, or the rights of the key: docs/stores.md."
    objects, key = object_store(settings), f"checks/{uuid4()}"
    try:
        async with asyncio.timeout(_FILES_S):
            await objects.put(key, b"polyplane")
            await objects.remove(key)
    except (PlatformError, OSError, TimeoutError) as error:
        said = str(error) or type(error).__name__
        is_away = isinstance(error, Unavailable | TimeoutError)
        return Finding(_FILES, "bad", f"{where} cannot be written: {said}", remedy, is_away=is_away)
    return Finding(_FILES, "good", where)


def _chat_log(settings: ChatLogSettings) -> Iterator[Finding]:
    """Look whether the cluster lets us in; while it is away messages wait, so that is no reason."""
    if not settings.has_cql:
        return
    from planes.shared.stores.cql_cluster import CqlRefused, connected  # with its driver

    hosts = ", ".join(settings.cql_hosts)
    try:
        cluster = cql_options(settings).cluster()
        try:
            connected(cluster, settings.cql_local_dc)
        finally:
            cluster.shutdown()
    except CqlRefused as error:
        yield Finding("Chat log", "bad", f"{hosts} cannot be used", str(error))
    except (Unavailable, OSError) as error:
        found = f"{hosts} does not answer: {error}; messages wait in the database"
        yield Finding("Chat log", "warning", found, "Start it, or correct CQL_HOSTS.")
    else:
        yield Finding("Chat log", "good", f"CQL at {hosts}")
