"""The code location `polyplane`: assets, checks, jobs, schedules and sensors of the data plane."""

import dagster as dg

from planes.data.defs import assets, checks, schedules, sources
from planes.data.defs import quality as index
from planes.data.defs import reembedding as generations
from planes.data.defs.jobs import ingestion
from planes.data.defs.reembedding import reembedding, unfinished_generations
from planes.data.defs.resources import ingestion_run
from planes.data.defs.sensors import waiting_documents
from planes.data.settings import ScheduleSettings

wanted = ScheduleSettings.read()

definitions = dg.Definitions(
    assets=[
        *dg.load_assets_from_modules([assets, generations]),
        sources.source_files,
        index.search_index,
        schedules.reembedding_need,
    ],
    asset_checks=dg.load_asset_checks_from_modules([checks, index]),
    jobs=[ingestion, reembedding, sources.scan_sources, schedules.reembedding_check, index.quality],
    schedules=schedules.schedules(wanted),
    sensors=[waiting_documents, unfinished_generations, sources.watched_sources(wanted)],
    resources={"ingestion_run": ingestion_run},
)
