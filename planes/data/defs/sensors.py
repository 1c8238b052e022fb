"""Starts runs for whatever waits, and cleans up after runs that were killed."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from planes.data.defs.assets import CLAIMED_TAG
from planes.data.defs.jobs import ingestion
from planes.data.pipeline.registry import Registry, Waiting
from planes.data.settings import DataSettings
from planes.shared.stores.object_settings import object_store
from planes.shared.stores.postgres import Database

# Not NOT_STARTED: a run that a fault kept from the queue stays so until monitoring ends it.
_BEFORE_START = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING]
_UNSUCCESSFUL = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dg.sensor(
    job=ingestion,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts a run where documents or deletions wait and no run is about to claim them.",
)
def waiting_documents(
    context: dg.SensorEvaluationContext,
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for a run, unless one has yet to claim: that one takes what waits."""
    settings = DataSettings()
    _remove_leftovers(context, settings)
    if _about_to_claim(context.instance):
        yield dg.SkipReason("A run is about to claim what waits.")
    elif waiting := asyncio.run(_waiting(settings)):
        context.log.info("%d documents, %d removals wait", waiting.documents, waiting.removals)
        yield dg.RunRequest()
    else:
        yield dg.SkipReason("Nothing waits.")


def _about_to_claim(instance: dg.DagsterInstance) -> bool:
    if instance.get_runs(dg.RunsFilter(job_name=ingestion.name, statuses=_BEFORE_START), limit=1):
        return True
    started = dg.RunsFilter(job_name=ingestion.name, statuses=[dg.DagsterRunStatus.STARTED])
    return any(CLAIMED_TAG not in run.tags for run in instance.get_runs(started))


async def _waiting(settings: DataSettings) -> Waiting:
    database = Database(
        settings.database_url.get_secret_value(), service="polyplane-sensor", max_connections=1
    )
    await database.open()
    try:
        return await Registry(database, worker="sensor").waiting()
    finally:
        await database.close()


def _remove_leftovers(context: dg.SensorEvaluationContext, settings: DataSettings) -> None:
    """Remove the intermediates of runs that ended badly since the last look."""
    now = datetime.now(UTC)
    since = datetime.fromisoformat(context.cursor) if context.cursor else now - timedelta(days=1)
    ended = dg.RunsFilter(job_name=ingestion.name, statuses=_UNSUCCESSFUL, updated_after=since)
    objects = object_store(settings)
    for run in context.instance.get_runs(ended):
        try:
            asyncio.run(objects.remove_prefix(f"batches/{run.run_id}/"))
        except OSError as error:  # what lies about must not stop the ingestion
            context.log.warning("leftovers of run %s not removed: %s", run.run_id, error)
    context.update_cursor((now - timedelta(minutes=5)).isoformat())
