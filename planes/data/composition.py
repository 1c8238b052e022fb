"""Puts a run's parts together. Imports much, so only runs import this module."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from planes.data.pipeline.batch import BatchFiles
from planes.data.pipeline.ingestion import Ingestion, Tools
from planes.data.pipeline.lease import LeaseKeeper
from planes.data.pipeline.model import BackgroundModel
from planes.data.pipeline.parse import Parser
from planes.data.pipeline.registry import Registry
from planes.data.pipeline.remove import DocumentStores, Remover
from planes.data.settings import DataSettings
from planes.shared.stores.chunk_settings import chunk_stores
from planes.shared.stores.object_settings import object_store
from planes.shared.stores.postgres import SCHEMA_REVISION, Database
from planes.shared.stores.redis_caches import RedisCaches
from planes.shared.stores.redis_clients import redis_client

_CACHE_WAIT_S = 2.0


@asynccontextmanager
async def open_ingestion(
    settings: DataSettings, run_id: str, parser: Parser
) -> AsyncIterator[Ingestion]:
    """Open the stores for one run; at the end, give back and clean up.

    Raises:
        SchemaMismatch: It has another schema, or holds half a backup.
        Unavailable: The database does not answer.
    """
    database = Database(
        settings.database_url.get_secret_value(),
        service="polyplane-data",
        max_connections=settings.database_connections,
    )
    objects, store = object_store(settings), chunk_stores(settings, database)
    registry = Registry(database, worker=run_id)
    files = BatchFiles(objects, run_id)
    async with AsyncExitStack() as stack:
        stores = DocumentStores(database, store, objects, _caches(settings, stack))
        await database.open()
        stack.push_async_callback(database.close)
        await database.check_schema(SCHEMA_REVISION)
        await store.open()
        stack.push_async_callback(store.close)
        stack.push_async_callback(files.remove)
        tools = Tools(
            registry=registry,
            store=store,
            objects=objects,
            keeper=await stack.enter_async_context(LeaseKeeper(registry)),
            remover=Remover(stores, worker=run_id),
            parser=parser,
            model=BackgroundModel(
                threads=settings.embedding_threads,
                precision=settings.embedding_precision,
                models_dir=settings.embedding_models_dir,
            ),
        )
        yield Ingestion(tools, files)


def _caches(settings: DataSettings, stack: AsyncExitStack) -> RedisCaches | None:
    if settings.redis_url is None:
        return None
    url, login = settings.redis_url.get_secret_value(), settings.redis_login
    caches = RedisCaches(redis_client(url, login, max_connections=2, wait_s=_CACHE_WAIT_S))
    stack.push_async_callback(caches.close)
    return caches
