"""What the data plane does at certain times; each schedule is off unless its setting is on."""

import asyncio

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from planes.data.defs.quality import quality
from planes.data.defs.sources import scan_sources
from planes.data.settings import DataSettings, ScheduleSettings
from planes.shared.domain import IndexRecipe
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_generations import PostgresGenerations

_AS_SET = "The live generation is made by what is configured."


Job = dg.JobDefinition | UnresolvedAssetJobDefinition


@dg.asset(group_name="generations", kinds={"postgres"})
def reembedding_need() -> dg.MaterializeResult[None]:
    """Whether the configured embedder or chunker differs from the live generation's."""
    settings = DataSettings()
    found = asyncio.run(_difference(settings))
    return dg.MaterializeResult(
        metadata={
            "needed": dg.MetadataValue.bool(found is not None),
            "difference": found or _AS_SET,
            "embedder": settings.embedder,
            "chunker": settings.chunker,
        }
    )


reembedding_check = dg.define_asset_job(
    "reembedding_check",
    selection=[reembedding_need],
    executor_def=dg.in_process_executor,
    description="Compares the settings with the live generation. It builds and switches nothing.",
)


def schedules(settings: ScheduleSettings) -> list[dg.ScheduleDefinition]:
    """Return the schedules, in the time zone of `DATA_TIMEZONE`."""
    return [
        _schedule("daily_ingestion", scan_sources, "0 2 * * *", settings),
        _schedule("weekly_reembedding_check", reembedding_check, "0 3 * * 0", settings),
        _schedule("hourly_quality_checks", quality, "7 * * * *", settings),
    ]


def _schedule(
    name: str,
    job: Job,
    cron: str,
    settings: ScheduleSettings,
) -> dg.ScheduleDefinition:
    is_on = bool(getattr(settings, name))
    return dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING
        if is_on
        else dg.DefaultScheduleStatus.STOPPED,
        description=f"Runs where DATA_{name.upper()} is true.",
    )


async def _difference(settings: DataSettings) -> str | None:
    database = Database(
        settings.database_url.get_secret_value(), service="polyplane-reembedding", max_connections=1
    )
    await database.open()
    try:
        generations = PostgresGenerations(database, models_dir=settings.embedding_models_dir)
        recipe = IndexRecipe(settings.embedder, settings.chunker)
        return await generations.difference(recipe)
    finally:
        await database.close()
