"""A cancelled job's documents never become searchable, wherever the run is."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from planes.data.pipeline.batch import Vectors
from planes.data.pipeline.embed import embed_in_slices
from planes.data.pipeline.ingestion import Ingestion
from planes.shared.domain import new_id
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.integration.data.conftest import Platform, Upload, ingest

pytestmark = pytest.mark.integration
TEXT = b"The warranty lasts two years. " * 40


async def job_over(platform: Platform, upload: Upload) -> UUID:
    job_id = new_id()
    await platform.admin.execute(
        "INSERT INTO jobs (id, tenant_id, created_by) "
        "SELECT $1, tenant_id, user_id FROM memberships WHERE tenant_id = $2",
        job_id,
        upload.tenant_id,
    )
    await platform.admin.execute(
        "INSERT INTO job_items (job_id, tenant_id, document_id, version_id) "
        "VALUES ($1, $2, $3, $4)",
        job_id,
        upload.tenant_id,
        upload.document_id,
        upload.version_id,
    )
    return job_id


async def cancel(platform: Platform, upload: Upload, job_id: UUID) -> None:
    async with platform.admin.transaction():
        await platform.admin.execute(
            "SELECT set_config('app.tenant_id', $1, true)", str(upload.tenant_id)
        )
        assert not await platform.admin.fetchval("SELECT cancel_job($1, 10)", job_id)


async def run_to(pipeline: Ingestion, last: str) -> None:
    """Every step up to one of them."""
    steps = ["claim", "parse", "chunk", "embed", "index"]
    for step in steps[: steps.index(last) + 1]:
        if step == "claim":
            await pipeline.claim(seconds=10, documents=100, attempts=3)
        else:
            await getattr(pipeline, step)()


@pytest.mark.parametrize("last", ["claim", "parse", "chunk", "embed", "index"])
async def test_a_version_cancelled_after_any_step_is_not_published(
    platform: Platform, last: str
) -> None:
    upload = await platform.upload(TEXT)
    other = await platform.upload(b"Not cancelled. " * 20, tenant_id=upload.tenant_id)
    job_id, going_on = await job_over(platform, upload), await job_over(platform, other)
    async with platform.run("first") as pipeline:
        await run_to(pipeline, last)
        await cancel(platform, upload, job_id)
        steps = ["parse", "chunk", "embed", "index", "publish"]
        for step in steps[max(0, ["claim", *steps].index(last)) :]:
            await getattr(pipeline, step)()
    version = await platform.version(upload)
    assert (version["status"], version["error"]["code"]) == ("cancelled", "cancelled")
    assert version["visibility"] in {"none", "hidden"}
    assert (await platform.version(other))["status"] == "ready"
    finished = "SELECT finished_at IS NOT NULL FROM jobs WHERE id = $1"
    assert await platform.admin.fetchval(finished, job_id)
    assert await platform.admin.fetchval(finished, going_on)
    await platform.expire_leases()
    async with platform.run("second") as pipeline:
        assert await pipeline.claim(seconds=10, documents=100, attempts=3) == []
        await pipeline.remove()
    assert await platform.chunks(upload) == []
    assert await platform.chunks(other)


async def test_a_document_that_is_cancelled_while_it_is_embedded_is_left_alone(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.data.pipeline.lease._WRITE_EVERY_S", 0.01)
    monkeypatch.setattr("planes.data.pipeline.lease._RENEW_EVERY_S", 0.01)
    monkeypatch.setattr("planes.data.pipeline.embed._SLICE", 1)
    upload = await platform.upload(TEXT * 8)
    job_id, slices = await job_over(platform, upload), []
    async with platform.run("run") as pipeline:
        works = await pipeline.claim(seconds=10, documents=100, attempts=3)

        async def embed(*arguments: Any) -> AsyncIterator[tuple[list[int], Vectors]]:
            async for places, vectors in embed_in_slices(*arguments):
                slices.append(places)
                yield places, vectors
                if len(slices) == 1:
                    await cancel(platform, upload, job_id)
                    async with asyncio.timeout(10):
                        while pipeline._tools.keeper.holds(works[0]):
                            await asyncio.sleep(0.01)

        monkeypatch.setattr("planes.data.pipeline.ingestion.embed_in_slices", embed)
        assert len(await pipeline.parse()) == 1
        assert (await pipeline.chunk())[0].chunk_count > 2
        assert await pipeline.embed() == []
        assert await pipeline.index() == []
    assert len(slices) == 2
    assert await platform.chunks(upload) == []


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_document_of_very_many_chunks_is_indexed_piece_by_piece(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    monkeypatch.setattr("planes.data.pipeline.index._AT_ONCE", 2)
    upload = await platform.upload(TEXT * 12)
    job_id, pieces = await job_over(platform, upload), []
    correct = PostgresChunks.add_chunks

    async def add_chunks(self: PostgresChunks, *arguments: Any, **options: Any) -> Any:
        pieces.append(arguments)
        if is_cancelled and len(pieces) == 1:
            await cancel(platform, upload, job_id)
        return await correct(self, *arguments, **options)

    monkeypatch.setattr(PostgresChunks, "add_chunks", add_chunks)
    async with platform.run("run") as pipeline:
        await run_to(pipeline, "index")
        chunks = await platform.chunks(upload)
        assert len(pieces) == 1 if is_cancelled else len(chunks) > 4
        published = await pipeline.publish()
    await platform.expire_leases()
    async with platform.run("later") as pipeline:
        await pipeline.remove()
    assert [work.version_id for work in published] == ([] if is_cancelled else [upload.version_id])
    left = await platform.chunks(upload)
    assert left == ([] if is_cancelled else chunks)
    assert [chunk["ordinal"] for chunk in left] == list(range(len(left)))


async def test_chunks_that_a_deletion_removed_keep_no_batch_unpublished(
    platform: Platform,
) -> None:
    kept = await platform.upload(TEXT)
    gone = await platform.upload(b"Deleted. " * 20, tenant_id=kept.tenant_id)
    async with platform.run("run") as pipeline:
        await run_to(pipeline, "index")
        await platform.admin.execute(
            "UPDATE document_versions SET status = 'cancelled' WHERE id = $1", gone.version_id
        )
        await platform.admin.execute("DELETE FROM chunks_g1 WHERE version_id = $1", gone.version_id)
        assert not any((await pipeline.check_index()).values())
        assert [work.version_id for work in await pipeline.publish()] == [kept.version_id]


async def test_a_published_version_is_searchable_until_the_next_one_of_its_bytes_is(
    platform: Platform,
) -> None:
    first = await platform.upload(TEXT)
    async with platform.run("first") as pipeline:
        await ingest(pipeline)
    old = {row["id"] for row in await platform.chunks(first)}
    again = await platform.upload(TEXT, replaces=first)
    job_id = await job_over(platform, again)
    async with platform.run("second") as pipeline:
        await run_to(pipeline, "index")
        assert (await platform.version(first))["visibility"] == "live"
        assert {row["id"] for row in await platform.chunks(first)} == old
        new = {row["id"] for row in await platform.chunks(again)}
        assert len(new) == len(old)
        assert not new & old
        await pipeline.publish()
    assert (await platform.version(again))["visibility"] == "live"
    assert (await platform.version(first))["visibility"] == "gone"
    outcome = "SELECT outcome FROM job_items WHERE job_id = $1"
    assert await platform.admin.fetchval(outcome, job_id) == "ready"


async def test_a_document_that_fails_ends_its_job_and_tells_its_webhooks_at_once(
    platform: Platform,
) -> None:
    upload = await platform.upload(b"%PDF-1.7 nothing", "application/pdf")
    job_id = await job_over(platform, upload)
    await platform.admin.execute(
        "INSERT INTO webhooks (id, tenant_id, created_by, url, events, sealed_secret) "
        "SELECT $1, tenant_id, user_id, 'https://example.com', "
        "ARRAY['document.failed', 'job.finished'], '' FROM memberships WHERE tenant_id = $2",
        new_id(),
        upload.tenant_id,
    )
    async with platform.run("first") as pipeline:
        await run_to(pipeline, "parse")
    events = await platform.admin.fetch("SELECT event, body FROM webhook_deliveries ORDER BY event")
    assert [row["event"] for row in events] == ["document.failed", "job.finished"]
    assert '"status": "failed"' in events[1]["body"]
    assert str(job_id) in events[1]["body"]
