"""A cancelled job's documents never become searchable, wherever the run is."""

from uuid import UUID

import pytest

from planes.data.pipeline.ingestion import Ingestion
from planes.shared.domain import new_id
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
