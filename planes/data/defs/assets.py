"""The way of a batch of documents, as Dagster shows it. The work is in `planes.data.pipeline`."""

import time
from collections import Counter
from collections.abc import Sequence

import dagster as dg

from planes.data.defs.resources import IngestionRun
from planes.data.defs.sources import TENANTS_TAG, source_files
from planes.data.pipeline.plots import bar_table
from planes.data.pipeline.work import Work

RETRY = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL)
CLAIMED_TAG = "polyplane/claimed"
_BATCH_TAG = "polyplane/batch"
_MAX_TENANTS_IN_TAG = 5
Run = dg.ResourceParam[IngestionRun]
Result = dg.MaterializeResult[None]


@dg.asset(group_name="ingestion", kinds={"postgres"}, deps=[source_files])
def source_documents(context: dg.AssetExecutionContext, ingestion_run: Run) -> Result:
    """Uploaded documents that this run has claimed from the registry, shared between tenants."""
    started, settings = time.monotonic(), ingestion_run.settings
    works = ingestion_run.loop.call(
        ingestion_run.pipeline.claim(
            seconds=settings.batch_s,
            backlog_s=settings.backlog_s,
            documents=settings.batch_documents,
            attempts=settings.max_attempts,
        )
    )
    context.instance.add_run_tags(context.run.run_id, _tags(works, context.run.run_id))
    sizes = sum(work.size_bytes for work in works)
    formats = dict(Counter(work.media_type for work in works))
    tenants = Counter(str(work.tenant_id) for work in works)
    return _result(
        works,
        started,
        size_bytes=sizes,
        formats=dg.MetadataValue.json(formats),
        formats_plot=dg.MetadataValue.md(bar_table("format", formats)),
        tenants_plot=dg.MetadataValue.md(bar_table("tenant", tenants)),
    )


@dg.asset(group_name="ingestion", kinds={"python"}, deps=[source_documents], retry_policy=RETRY)
def parsed_documents(ingestion_run: Run) -> Result:
    """Each document's text with pages, headings and language, read in a limited process."""
    started = time.monotonic()
    works = ingestion_run.loop.call(ingestion_run.pipeline.parse())
    languages = dict(Counter(work.language for work in works))
    return _result(
        works,
        started,
        languages=dg.MetadataValue.json(languages),
        languages_plot=dg.MetadataValue.md(bar_table("language", languages)),
    )


@dg.asset(group_name="ingestion", kinds={"python"}, deps=[parsed_documents], retry_policy=RETRY)
def document_chunks(ingestion_run: Run) -> Result:
    """Spans of at most 256 tokens with exact offsets, pages and headings."""
    started = time.monotonic()
    works = ingestion_run.loop.call(ingestion_run.pipeline.chunk())
    return _result(works, started, chunks=_chunks(works))


@dg.asset(group_name="ingestion", kinds={"openvino"}, deps=[document_chunks], retry_policy=RETRY)
def embedded_chunks(ingestion_run: Run) -> Result:
    """A unit vector of all-MiniLM-L6-v2 for each chunk and its heading."""
    started = time.monotonic()
    works = ingestion_run.loop.call(ingestion_run.pipeline.embed())
    per_s = _chunks(works) / max(time.monotonic() - started, 1e-3)
    return _result(works, started, chunks=_chunks(works), chunks_per_s=per_s)


@dg.asset(
    group_name="ingestion",
    kinds={"postgres", "pgvector"},
    deps=[embedded_chunks],
    retry_policy=RETRY,
)
def indexed_chunks(ingestion_run: Run) -> Result:
    """The batch's chunks in the index, hidden from search. Materialising again replaces them."""
    started = time.monotonic()
    works = ingestion_run.loop.call(ingestion_run.pipeline.index())
    return _result(works, started, chunks=_chunks(works))


@dg.asset(group_name="ingestion", kinds={"postgres"}, deps=[indexed_chunks], retry_policy=RETRY)
def published_documents(ingestion_run: Run) -> Result:
    """Documents that search now shows; what they replace is removed."""
    started = time.monotonic()
    works = ingestion_run.loop.call(ingestion_run.pipeline.publish())
    between = ingestion_run.pipeline.documents_between
    return _result(works, started, chunks=_chunks(works), documents_between=between)


@dg.asset(group_name="removal", kinds={"postgres"}, retry_policy=RETRY)
def removed_documents(ingestion_run: Run) -> Result:
    """Chunks and files of deleted documents, gone; the registry keeps a receipt of the counts."""
    started = time.monotonic()
    removed = ingestion_run.loop.call(ingestion_run.pipeline.remove())
    return dg.MaterializeResult(
        metadata={
            "documents": removed.documents,
            "versions": removed.versions,
            "chunks": removed.chunks,
            "files": removed.files,
            "seconds": round(time.monotonic() - started, 3),
        }
    )


def _result(
    works: Sequence[Work], started: float, **metadata: dg.MetadataValue | int | float
) -> Result:
    seconds = round(time.monotonic() - started, 3)
    return dg.MaterializeResult(metadata={"documents": len(works), **metadata, "seconds": seconds})


def _chunks(works: Sequence[Work]) -> int:
    return sum(work.chunk_count for work in works)


def _tags(works: Sequence[Work], run_id: str) -> dict[str, str]:
    tenants = sorted({str(work.tenant_id) for work in works})
    tags = {CLAIMED_TAG: str(len(works)), _BATCH_TAG: run_id}
    if 0 < len(tenants) <= _MAX_TENANTS_IN_TAG:
        tags[TENANTS_TAG] = ",".join(tenants)
    return tags
