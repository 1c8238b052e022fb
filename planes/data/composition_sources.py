"""Puts a scanner's parts together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from planes.data.pipeline.source_copies import SourceCopies
from planes.data.pipeline.source_places import FolderPlace, ObjectPlace, Place
from planes.data.pipeline.source_registry import SourceRegistry, WatchedSource
from planes.data.pipeline.sources import Scanner
from planes.data.settings import DataSettings
from planes.shared.errors import InvalidInput
from planes.shared.stores.object_settings import object_store
from planes.shared.stores.postgres import Database

if TYPE_CHECKING:
    from obstore.store import ObjectStore, S3Config

_MISSING_FOR = timedelta(minutes=1)
_S3_TIMEOUT = timedelta(seconds=30)
_S3_RETRIES = 2


@asynccontextmanager
async def open_scanner(settings: DataSettings) -> AsyncIterator[Scanner]:
    """Open the database for scans.

    Raises:
        Unavailable: The database does not answer.
    """
    database = Database(
        settings.database_url.get_secret_value(), service="polyplane-sources", max_connections=2
    )
    registry = SourceRegistry(database, missing_for=_MISSING_FOR)
    objects = object_store(settings)
    copies = SourceCopies(database, registry, objects, max_bytes=settings.source_file_bytes)
    await database.open()
    try:
        yield Scanner(registry, copies, lambda source: open_place(source, settings))
    finally:
        await database.close()


def open_place(source: WatchedSource, settings: DataSettings) -> Place:
    """Return where a source's files lie.

    Raises:
        InvalidInput: The location cannot be watched; it says why.
    """
    if source.kind == "folder":
        return FolderPlace(_folder(Path(source.location), settings.objects_dir))
    return ObjectPlace(_s3(source.location, settings))


def _folder(folder: Path, objects_dir: Path | None) -> Path:
    if not folder.is_absolute():
        raise InvalidInput(f"{folder} is no absolute path.")
    if objects_dir is None:
        return folder
    own, watched = objects_dir.resolve(), folder.resolve()
    if own.is_relative_to(watched) or watched.is_relative_to(own):
        raise InvalidInput("The folder holds the platform's own files, or lies within them.")
    return folder


def _s3(location: str, settings: DataSettings) -> "ObjectStore":
    from obstore.store import S3Store  # sources of folders need none of it

    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    config: S3Config = {"region": settings.source_s3_region}
    if settings.source_s3_endpoint:
        config["endpoint"] = settings.source_s3_endpoint
    if settings.source_s3_access_key_id and settings.source_s3_secret_access_key:
        config["access_key_id"] = settings.source_s3_access_key_id.get_secret_value()
        config["secret_access_key"] = settings.source_s3_secret_access_key.get_secret_value()
    else:
        config["skip_signature"] = True  # a public bucket
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,
        client_options={"timeout": _S3_TIMEOUT, "allow_http": settings.source_s3_is_plain},
        retry_config={"max_retries": _S3_RETRIES, "retry_timeout": _S3_TIMEOUT},
    )
