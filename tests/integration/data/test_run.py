"""A whole run as Dagster executes it, on a real PostgreSQL."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest
import structlog

from planes.data.definitions import definitions
from planes.data.defs.assets import CLAIMED_TAG
from planes.data.defs.sensors import waiting_documents
from planes.data.pipeline.chunk import Chunker, TextChunk
from planes.data.pipeline.extracted import ExtractedText
from tests.integration.data.conftest import Platform

pytestmark = pytest.mark.integration
TEXT = b"The Rhine rises in the Alps. " * 20


@pytest.fixture
def environment(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The variables of a run; the logging that it configures ends with the test."""
    monkeypatch.setenv("DATABASE_URL", platform.settings.database_url.get_secret_value())
    monkeypatch.setenv("OBJECTS_DIR", str(platform.settings.objects_dir))
    monkeypatch.setenv("DATA_NICE", "0")  # the run is this process
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def run(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Execute the job in a thread, because Dagster drives an event loop of its own."""
    job = definitions.resolve_job_def("ingestion")
    return await asyncio.to_thread(job.execute_in_process, instance=instance, raise_on_error=False)


@pytest.mark.usefixtures("environment")
async def test_a_run_publishes_what_waits_and_tells_what_it_did(platform: Platform) -> None:
    upload = await platform.upload(TEXT)
    with dg.DagsterInstance.ephemeral() as instance:
        result = await run(instance)
        assert result.success
        tags = instance.get_run_by_id(result.run_id).tags
    assert (await platform.version(upload))["status"] == "ready"
    assert tags["polyplane/claimed"] == "1"
    assert tags["polyplane/tenants"] == str(upload.tenant_id)
    events = result.asset_materializations_for_node("published_documents")
    assert events[0].metadata["documents"].value == 1
    assert all(check.passed for check in result.get_asset_check_evaluations())


@pytest.mark.usefixtures("environment")
async def test_a_run_with_nothing_to_do_succeeds(platform: Platform) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert (await run(instance)).success
    assert platform.files() == []


@pytest.mark.usefixtures("environment")
async def test_a_failed_check_keeps_the_batch_unpublished_and_nothing_stuck(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct = Chunker.chunk

    def shifted(self: Chunker, extracted: ExtractedText) -> Iterator[TextChunk]:
        for chunk in correct(self, extracted):
            wrong = "BROKEN" in extracted.text
            yield replace(chunk, start=chunk.start + 1, end=chunk.end + 1) if wrong else chunk

    monkeypatch.setattr(Chunker, "chunk", shifted)
    good = await platform.upload(TEXT)
    broken = await platform.upload(b"BROKEN " + TEXT, tenant_id=good.tenant_id)
    with dg.DagsterInstance.ephemeral() as instance:
        assert not (await run(instance)).success
        version = await platform.version(broken)
        assert (version["status"], version["error"]["code"]) == ("failed", "check-failed")
        version = await platform.version(good)
        assert (version["status"], version["lease_owner"]) == ("embedding", None)
        assert await platform.chunks(good) == []
        await platform.admin.execute("UPDATE document_versions SET next_attempt_at = now()")
        assert (await run(instance)).success
    assert (await platform.version(good))["status"] == "ready"


async def tick(instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    """Evaluate the sensor in a thread, because it drives an event loop of its own."""

    def evaluate() -> dg.RunRequest | dg.SkipReason:
        with dg.build_sensor_context(instance=instance) as context:
            return next(waiting_documents(context))

    return await asyncio.to_thread(evaluate)


@pytest.mark.usefixtures("environment")
async def test_the_sensor_asks_for_a_run_only_where_something_waits(platform: Platform) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert isinstance(await tick(instance), dg.SkipReason)
        upload = await platform.upload(TEXT)
        assert isinstance(await tick(instance), dg.RunRequest)
        await platform.delete(upload)
        assert isinstance(await tick(instance), dg.RunRequest)


@pytest.mark.usefixtures("environment")
async def test_the_sensor_waits_for_a_run_that_has_yet_to_claim(platform: Platform) -> None:
    await platform.upload(TEXT)
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def("ingestion")
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING)
        assert isinstance(await tick(instance), dg.SkipReason)


@pytest.mark.usefixtures("environment")
async def test_a_run_that_never_reached_the_queue_holds_nothing_up(platform: Platform) -> None:
    await platform.upload(TEXT)
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def("ingestion")
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED)
        assert isinstance(await tick(instance), dg.RunRequest)


@pytest.mark.usefixtures("environment")
async def test_the_sensor_queues_a_run_behind_one_that_has_claimed(platform: Platform) -> None:
    await platform.upload(TEXT)
    with dg.DagsterInstance.ephemeral() as instance:
        job = definitions.resolve_job_def("ingestion")
        started = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert isinstance(await tick(instance), dg.SkipReason)
        instance.add_run_tags(started.run_id, {CLAIMED_TAG: "3"})
        assert isinstance(await tick(instance), dg.RunRequest)


@pytest.mark.usefixtures("environment")
async def test_the_sensor_removes_what_a_killed_run_left(platform: Platform) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        killed = instance.create_run_for_job(
            definitions.resolve_job_def("ingestion"), status=dg.DagsterRunStatus.STARTED
        )
        await platform.objects.put(f"batches/{killed.run_id}/claimed.jsonl", b"")
        await tick(instance)
        assert len(platform.files()) == 1
        instance.report_run_failed(killed)
        await tick(instance)
        assert platform.files() == []
