"""The job that builds generations, as Dagster executes it, and the sensor that starts its turns."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import dagster as dg
import pytest
import structlog

from planes.data.definitions import definitions
from planes.data.defs.reembedding import run_config, unfinished_generations
from planes.shared.domain import IndexRecipe
from planes.shared.embedding_models import MODEL_NAME
from planes.shared.stores.chunk_settings import ChunkStoreSettings, chunk_stores
from planes.shared.stores.generation_keeper import GenerationKeeper
from planes.shared.stores.postgres import Database
from tests.integration.data.conftest import Platform, ingest

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]
TEXT = b"The Rhine rises in the Alps. " * 40


@pytest.fixture
def environment(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The variables of a run; the logging that it configures ends with the test."""
    monkeypatch.setenv("DATABASE_URL", platform.settings.database_url.get_secret_value())
    monkeypatch.setenv("OBJECTS_DIR", str(platform.settings.objects_dir))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
async def generations(database_urls: dict[str, str]) -> AsyncIterator[GenerationKeeper]:
    database = Database(database_urls["admin"], service="test", max_connections=2)
    await database.open()
    yield GenerationKeeper(database, chunk_stores(ChunkStoreSettings.of({}), database))
    await database.close()


async def tick(instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    """Evaluate the sensor in a thread, because it drives an event loop of its own."""

    def evaluate() -> dg.RunRequest | dg.SkipReason:
        with dg.build_sensor_context(instance=instance) as context:
            return next(unfinished_generations(context))

    return await asyncio.to_thread(evaluate)


async def test_a_turn_builds_and_the_sensor_starts_turns_while_one_is_wanted(
    platform: Platform, generations: GenerationKeeper
) -> None:
    await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    number = await generations.create(IndexRecipe(MODEL_NAME, "semchunk-64"))
    job = definitions.resolve_job_def("reembedding")
    with dg.DagsterInstance.ephemeral() as instance:
        assert isinstance(await tick(instance), dg.SkipReason), "nobody asked for it yet"
        await generations.want_build(number)
        waiting = await platform.upload(TEXT + b"again")
        assert isinstance(await tick(instance), dg.SkipReason), "documents wait"
        await platform.delete(waiting)
        request = await tick(instance)
        assert isinstance(request, dg.RunRequest)
        assert request.tags["dagster/priority"] == "-1"
        result = await asyncio.to_thread(
            job.execute_in_process, run_config=request.run_config, instance=instance
        )
        assert result.success
        assert isinstance(await tick(instance), dg.SkipReason), "nothing is missing"
    (event,) = result.asset_materializations_for_node("generation_index")
    told = {name: value.value for name, value in event.metadata.items()}
    assert (told["documents"], told["missing"], told["failed"]) == (1, 0, [])
    assert told["chunks"] > 0
    build = (await generations.get(number)).build
    assert build is not None
    assert build["versions"] == 1


async def test_no_second_turn_is_started_beside_one(generations: GenerationKeeper) -> None:
    number = await generations.create(IndexRecipe(MODEL_NAME, "semchunk-64"))
    await generations.want_build(number)
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def("reembedding")
        instance.create_run_for_job(
            job, run_config=run_config(number).to_config_dict(), status=dg.DagsterRunStatus.STARTED
        )
        assert isinstance(await tick(instance), dg.SkipReason)
