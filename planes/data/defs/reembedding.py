"""Builds generations of the index beside the live one, in turns between the ingestion's runs.

Runs go one by one, so a turn is short, ends where documents wait, and the sensor asks for the next.
"""

import asyncio
import time
from collections.abc import Iterator

import dagster as dg

from planes.data.defs.resources import ending_with_parent
from planes.data.pipeline.parse import Parser
from planes.data.pipeline.registry import Registry
from planes.data.settings import DataSettings
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_generations import PostgresGenerations
from planes.shared.telemetry import configure_logging

_LAST_TURN_S = 240.0
_SWITCH_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.2
_PRIORITY = {"dagster/priority": "-1"}  # ingestion runs that wait go first
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]
Metadata = dict[str, dg.MetadataValue | int | float | str]


class Turn(dg.Config):
    """Which generation is built; the last turn before a switch gives way to no document."""

    generation: int
    is_last: bool = False


@dg.asset(group_name="generations", kinds={"openvino", "pgvector"})
def generation_index(config: Turn) -> dg.MaterializeResult[None]:
    """Chunks of every searchable document in a generation that is not searched yet, or no more."""
    settings = DataSettings()
    configure_logging("data", settings.log_level)
    with Parser(settings.parse_limits()) as parser, ending_with_parent():
        return dg.MaterializeResult(metadata=asyncio.run(_build(settings, parser, config)))


reembedding = dg.define_asset_job(
    "reembedding",
    selection=dg.AssetSelection.assets(generation_index),
    executor_def=dg.in_process_executor,
    tags=_PRIORITY,
    description="Adds to a generation of the index what it lacks, for a minute at most, while no "
    "document waits. Started by `polyplane admin build-generation` and its sensor.",
)


@dg.sensor(
    job=reembedding,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts the next turn of a generation that is being built, where nothing waits.",
)
def unfinished_generations(
    context: dg.SensorEvaluationContext,
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for a turn, unless one is under way or documents wait."""
    turns = dg.RunsFilter(job_name=reembedding.name, statuses=_UNFINISHED)
    if context.instance.get_runs(turns, limit=1):
        yield dg.SkipReason("A turn is under way.")
    elif number := asyncio.run(_wanted(DataSettings())):
        yield dg.RunRequest(run_config=run_config(number), tags=_PRIORITY)
    else:
        yield dg.SkipReason("No generation is to be built now.")


def run_config(number: int) -> dg.RunConfig:
    """Return what tells a run to build a generation."""
    return dg.RunConfig(ops={generation_index.op.name: Turn(generation=number)})


async def _build(settings: DataSettings, parser: Parser, config: Turn) -> Metadata:
    # imported by runs alone, not by the code server
    from planes.data.composition_generations import open_reembedding

    async with open_reembedding(settings, config.generation, parser) as opened:
        seconds = _LAST_TURN_S if config.is_last else settings.reembedding_s
        built = await opened.build(seconds=seconds, gives_way=not config.is_last)
        if config.is_last and built.is_done:
            await _wait_for_switch(opened.generations, config.generation)
        progress = await opened.generations.progress(config.generation)
    return {
        "generation": config.generation,
        "documents": built.versions,
        "chunks": built.chunks,
        "chunks_per_s": round(built.chunks / max(built.seconds, 1e-3), 1),
        "searchable": progress.versions,
        "missing": progress.missing,
        "failed": dg.MetadataValue.json(built.failed),
        "seconds": built.seconds,
    }


async def _wait_for_switch(generations: PostgresGenerations, number: int) -> None:
    """Keep other runs from publishing anything until the operator's command has switched."""
    ends = time.monotonic() + _SWITCH_WITHIN_S
    while time.monotonic() < ends:
        if (await generations.get(number)).state == "live":
            return
        await asyncio.sleep(_LOOK_EVERY_S)


async def _wanted(settings: DataSettings) -> int | None:
    """Return the generation whose turn it is; None where documents wait, which go first."""
    database = Database(
        settings.database_url.get_secret_value(), service="polyplane-sensor", max_connections=1
    )
    await database.open()
    try:
        if (await Registry(database, worker="sensor").waiting()).documents:
            return None
        wanted = (one for one in await PostgresGenerations(database).all() if one.build_wanted)
        return next((one.number for one in wanted if one.state != "live"), None)
    finally:
        await database.close()
