"""Checks of the whole index, over all tenants, beside those that every batch must pass."""

import asyncio
import time
from collections.abc import Iterator

import dagster as dg

from planes.data.defs.assets import published_documents, removed_documents
from planes.data.defs.resources import ending_with_parent
from planes.data.pipeline.quality import Finding, IndexQuality, check_counts
from planes.data.settings import DataSettings
from planes.shared.stores.chunk_settings import chunk_stores
from planes.shared.stores.object_settings import object_store
from planes.shared.stores.postgres import Database
from planes.shared.telemetry import configure_logging

search_index = dg.AssetSpec(
    "search_index",
    deps=[published_documents, removed_documents],
    group_name="index",
    kinds={"postgres", "pgvector"},
    description="What every tenant's search reads: the chunks of the live generation, their "
    "versions in the registry, and the files they came from.",
)

_CHECKS = {
    "counts_agree": "Registry and index count the same chunks of every searchable version.",
    "no_orphan_chunks": "Every chunk belongs to a version that may have chunks.",
    "no_repeated_chunks": "No two chunks have the same place in a version.",
    "every_version_has_its_text": "The extracted text of every searchable version is stored.",
    "no_stray_files": "Every stored file belongs to a version, or to an upload under way.",
    "vectors_of_length_one": "Vectors have length 1 within 0.001, on a sample.",
    "offsets_give_texts": "The stored text between a chunk's offsets is the chunk's, on a sample.",
    "language_drift": "The last day's documents have the languages of the 30 days before.",
    "length_drift": "The last day's documents have the lengths of the 30 days before.",
}


@dg.multi_asset_check(
    name="index_quality",
    specs=[
        dg.AssetCheckSpec(name, asset=search_index.key, description=description)
        for name, description in _CHECKS.items()
    ],
)
def index_quality() -> Iterator[dg.AssetCheckResult]:
    """Check all of the index."""
    settings, started = DataSettings(), time.monotonic()
    configure_logging("data", settings.log_level)
    with ending_with_parent():
        findings = asyncio.run(_check(settings))
    seconds = round(time.monotonic() - started, 3)
    for name, finding in findings.items():
        yield _result(name, finding, seconds)


quality = dg.define_asset_job(
    "quality",
    selection=dg.AssetSelection.checks(*index_quality.check_keys),
    executor_def=dg.in_process_executor,
    tags={"dagster/priority": "-1"},  # documents that wait go first
    description="Checks the whole index. Started by the schedule `hourly_quality_checks`.",
)


def _result(name: str, finding: Finding, seconds: float) -> dg.AssetCheckResult:
    is_drift = name.endswith("_drift")
    metadata: dict[str, dg.MetadataValue | int | float] = {
        **finding.numbers,
        "at fault": dg.MetadataValue.json(finding.named),
        "faults": len(finding.at_fault),
        "seconds of all checks": seconds,
    }
    if finding.table:
        metadata["table"] = dg.MetadataValue.md(finding.table)
    return dg.AssetCheckResult(
        asset_key=search_index.key,
        check_name=name,
        passed=finding.holds,
        severity=dg.AssetCheckSeverity.WARN if is_drift else dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )


async def _check(settings: DataSettings) -> dict[str, Finding]:
    database = Database(
        settings.database_url.get_secret_value(), service="polyplane-quality", max_connections=2
    )
    await database.open()
    store = chunk_stores(settings, database)
    try:
        await store.open()
        index = IndexQuality(database, object_store(settings), store)
        counts = await index.counts()
        return {
            **check_counts(counts),
            "every_version_has_its_text": await index.check_texts(row.tenant_id for row in counts),
            "no_stray_files": await index.check_files(),
            **await index.check_sample(settings.quality_sample),
            **await index.check_drift(psi=settings.drift_psi, least=settings.drift_documents),
        }
    finally:
        await store.close()
        await database.close()
