"""Puts a builder's parts together. Imports much, so only runs import this module."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from planes.data.pipeline.generations import BuildTools, GenerationBuilder
from planes.data.pipeline.model import BackgroundModel
from planes.data.pipeline.parse import Parser
from planes.data.pipeline.registry import Registry
from planes.data.pipeline.stored_text import StoredTexts
from planes.data.pipeline.turn import Built, Turn
from planes.data.settings import DataSettings
from planes.shared.stores.chunk_settings import chunk_stores
from planes.shared.stores.object_settings import object_store
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_generations import PostgresGenerations


@dataclass(frozen=True, slots=True)
class Reembedding:
    """A generation's builder, and what tells how far the generation is."""

    builder: GenerationBuilder
    generations: PostgresGenerations
    registry: Registry

    async def build(self, *, seconds: float, gives_way: bool) -> Built:
        """Build for at most `seconds`; where it `gives_way`, only until documents wait."""

        async def documents_wait() -> bool:
            return gives_way and (await self.registry.waiting()).documents > 0

        return await self.builder.build(Turn(seconds=seconds, is_wanted_elsewhere=documents_wait))


@asynccontextmanager
async def open_reembedding(
    settings: DataSettings, number: int, parser: Parser
) -> AsyncIterator[Reembedding]:
    """Open the stores for one run over one generation.

    Raises:
        InvalidInput: There is no generation of that number.
        Unavailable: The database does not answer.
    """
    database = Database(
        settings.database_url.get_secret_value(),
        service="polyplane-reembedding",
        max_connections=settings.database_connections,
    )
    store, generations = chunk_stores(settings, database), PostgresGenerations(database)
    await database.open()
    try:
        await store.open()
        tools = BuildTools(
            database=database,
            generations=generations,
            store=store,
            texts=StoredTexts(object_store(settings), store, parser),
            model=BackgroundModel(
                threads=settings.embedding_threads,
                precision=settings.embedding_precision,
                models_dir=settings.embedding_models_dir,
            ),
        )
        live = await generations.live()
        builder = GenerationBuilder(tools, await generations.get(number), live=live)
        yield Reembedding(builder, generations, Registry(database, worker="reembedding"))
    finally:
        await store.close()
        await database.close()
