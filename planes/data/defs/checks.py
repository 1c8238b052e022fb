"""What must hold before a batch is published. A document at fault fails; the others are retried."""

from collections.abc import Iterator

import dagster as dg

from planes.data.defs import assets
from planes.data.defs.resources import IngestionRun
from planes.data.pipeline.work import Work

Run = dg.ResourceParam[IngestionRun]


def _blocking(asset: dg.AssetsDefinition, name: str, description: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(name, asset=asset, blocking=True, description=description)


@dg.multi_asset_check(
    specs=[
        _blocking(
            assets.document_chunks, "no_blank_chunk", "Every document has chunks, none blank."
        ),
        _blocking(
            assets.document_chunks,
            "offsets_give_the_text",
            "The extracted text between a chunk's offsets is the chunk's text.",
        ),
    ]
)
def chunk_checks(ingestion_run: Run) -> Iterator[dg.AssetCheckResult]:
    """Check the chunks of the batch."""
    findings = ingestion_run.loop.call(ingestion_run.pipeline.check_chunks())
    yield from _results(assets.document_chunks, findings)


@dg.multi_asset_check(
    specs=[
        _blocking(
            assets.embedded_chunks,
            "vectors_have_length_one",
            "Every chunk has a vector, of length 1 within 0.001.",
        )
    ]
)
def vector_checks(ingestion_run: Run) -> Iterator[dg.AssetCheckResult]:
    """Check the vectors of the batch."""
    findings = ingestion_run.loop.call(ingestion_run.pipeline.check_vectors())
    yield from _results(assets.embedded_chunks, findings)


@dg.multi_asset_check(
    specs=[
        _blocking(
            assets.indexed_chunks,
            "registry_and_index_agree",
            "The index shows as many chunks of each version as the registry counts.",
        ),
        _blocking(assets.indexed_chunks, "ids_are_unique", "No two chunks have the same id."),
    ]
)
def index_checks(ingestion_run: Run) -> Iterator[dg.AssetCheckResult]:
    """Check the index against registry and batch."""
    findings = ingestion_run.loop.call(ingestion_run.pipeline.check_index())
    yield from _results(assets.indexed_chunks, findings)


def _results(
    asset: dg.AssetsDefinition, findings: dict[str, list[Work]]
) -> Iterator[dg.AssetCheckResult]:
    for name, at_fault in findings.items():
        documents = [str(work.document_id) for work in at_fault]
        yield dg.AssetCheckResult(
            asset_key=asset.key,
            check_name=name,
            passed=not at_fault,
            metadata={"documents at fault": dg.MetadataValue.json(documents)},
        )
