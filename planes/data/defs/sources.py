"""Watched folders and object stores: how their files come to the documents."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import dagster as dg

from planes.data.composition_sources import open_scanner
from planes.data.defs.resources import ending_with_parent
from planes.data.pipeline.sources import Scanned
from planes.data.settings import DataSettings, ScheduleSettings
from planes.shared.telemetry import configure_logging

TENANTS_TAG = "polyplane/tenants"
_MAX_TENANTS_IN_TAG = 5
_LOOK_S = 20.0  # a sensor has a minute
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


source_files = dg.AssetSpec(
    "source_files",
    group_name="sources",
    kinds={"file", "s3"},
    description="Files of watched folders and object stores. A scan observes them: what is new "
    "becomes a document, or the next version of its key's document, and waits to be claimed.",
)


@dg.op(description="Scans every watched source and takes over what is new.")
def scan(context: dg.OpExecutionContext) -> None:
    """Observe `source_files`."""
    settings, started = DataSettings(), time.monotonic()
    configure_logging("data", settings.log_level)
    with ending_with_parent():
        scanned = asyncio.run(_scan(settings))
    totals = sum((Counter(one.counts) for one in scanned), Counter[str]())
    metadata: dict[str, dg.MetadataValue | int | float] = {
        **totals,
        "sources": len(scanned),
        "errors": sum(one.error is not None for one in scanned),
        "by source": dg.MetadataValue.md(scan_table(scanned)),
        "seconds": round(time.monotonic() - started, 3),
    }
    if tenants := sorted({str(one.tenant_id) for one in scanned if any(one.counts.values())}):
        tags = {TENANTS_TAG: ",".join(tenants[:_MAX_TENANTS_IN_TAG])}
        context.instance.add_run_tags(context.run_id, tags)
    context.log_event(dg.AssetObservation(source_files.key, metadata=metadata))


@dg.job(
    executor_def=dg.in_process_executor,
    tags={"dagster/priority": "-1"},  # documents that wait go first
    description="Takes over new and changed files of the watched sources, for a minute at most. "
    "Started by the sensor `watched_sources`, the schedule `daily_ingestion`, and "
    "`polyplane admin scan-sources`.",
)
def scan_sources() -> None:
    """Scan once."""
    scan()


def watched_sources(schedules: ScheduleSettings) -> dg.SensorDefinition:
    """Return the sensor, which runs where `DATA_WATCH_SOURCES` is set."""

    @dg.sensor(
        name="watched_sources",
        job=scan_sources,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING
        if schedules.watch_sources
        else dg.DefaultSensorStatus.STOPPED,
        description="Looks at every watched source and starts a scan where something is new.",
    )
    def look(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        scans = dg.RunsFilter(job_name=scan_sources.name, statuses=_UNFINISHED)
        if context.instance.get_runs(scans, limit=1):
            yield dg.SkipReason("A scan is under way.")
        elif asyncio.run(_has_work(DataSettings())):
            yield dg.RunRequest()
        else:
            yield dg.SkipReason("Nothing is new.")

    return look


def scan_table(scanned: list[Scanned]) -> str:
    """Return what a scan did to each source, as a Markdown table."""
    rows = ["| source | tenant | files | error |", "|---|---|---|---|"]
    for one in scanned:
        files = ", ".join(f"{number} {name}" for name, number in one.counts.items() if number)
        error = (one.error or "").replace("|", "\\|")
        rows.append(f"| {one.source_id} | {one.tenant_id} | {files or 'nothing new'} | {error} |")
    return "\n".join(rows)


async def _scan(settings: DataSettings) -> list[Scanned]:
    async with open_scanner(settings) as scanner:
        return await scanner.scan(seconds=settings.source_scan_s)


async def _has_work(settings: DataSettings) -> bool:
    async with open_scanner(settings) as scanner:
        return await scanner.has_work(seconds=_LOOK_S)
