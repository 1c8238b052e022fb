"""From an upload to searchable chunks, on a real PostgreSQL and the real model."""

import asyncio
from collections.abc import Iterable

import numpy as np
import pytest

from planes.data.pipeline.batch import BatchFiles
from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.lease import LeaseKeeper
from planes.data.pipeline.parse import Parser
from planes.data.pipeline.registry import ClaimLimits, Progress, Registry
from planes.shared.domain import DocumentStatus, SearchScope, text_key
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.fakes_data import PDF, pdf
from tests.integration.data.conftest import Platform, ingest

pytestmark = pytest.mark.integration
TEXT = b"The Rhine rises in the Alps. " * 60
OTHER = b"Turbines turn steam into motion. " * 60


async def test_an_upload_becomes_searchable(platform: Platform) -> None:
    upload = await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    version = await platform.version(upload)
    assert (version["status"], version["visibility"], version["percent"]) == ("ready", "live", 100)
    assert (version["language"], version["page_count"]) == ("en", None)
    assert version["lease_owner"] is None
    chunks = await platform.chunks(upload)
    assert len(chunks) == version["chunk_count"] > 1
    key = text_key(upload.tenant_id, upload.document_id, upload.version_id)
    text = (await platform.objects.get(key)).decode()
    assert [text[c["char_start"] : c["char_end"]] for c in chunks] == [c["body"] for c in chunks]
    assert not [name for name in platform.files() if name.startswith("batches/")]


async def test_search_finds_what_was_published_by_words(platform: Platform) -> None:
    upload = await platform.upload(TEXT)
    await platform.upload(OTHER, tenant_id=upload.tenant_id)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    database = Database(platform.settings.database_url.get_secret_value(), service="test")
    await database.open()
    vector = np.full(384, 384**-0.5, dtype=np.float32)
    arms = await PostgresChunks(database).search(
        "Where does the Rhine rise?", vector, scope=SearchScope(upload.tenant_id, 1), depth=100
    )
    await database.close()
    best = max(arms.candidates, key=lambda candidate: candidate.lexical or 0)
    assert best.document_id == upload.document_id


async def test_pages_of_a_pdf_reach_the_chunks(platform: Platform) -> None:
    upload = await platform.upload(pdf(["first page", "second page"]), PDF)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    assert (await platform.version(upload))["page_count"] == 2
    assert (await platform.chunks(upload))[0]["page"] == 1


async def test_a_document_at_fault_fails_and_stops_no_other(platform: Platform) -> None:
    bad = await platform.upload(b"%PDF damaged", PDF)
    blank = await platform.upload(b" \n")
    good = await platform.upload(TEXT, tenant_id=bad.tenant_id)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    assert (await platform.version(bad))["error"]["code"] == "corrupt"
    version = await platform.version(blank)
    assert (version["status"], version["error"]["code"]) == ("failed", "no-text")
    assert version["error"]["retryable"] is False
    assert (await platform.version(good))["status"] == "ready"


async def test_a_file_that_changed_or_vanished_is_not_read(platform: Platform) -> None:
    changed, vanished = await platform.upload(TEXT), await platform.upload(OTHER)
    folder = platform.settings.objects_dir
    next(folder.glob(f"*/documents/*/{changed.version_id}/original")).write_bytes(b"other")
    next(folder.glob(f"*/documents/*/{vanished.version_id}/original")).unlink()
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    assert (await platform.version(changed))["error"]["code"] == "corrupt"
    assert (await platform.version(vanished))["error"]["code"] == "missing-file"


async def test_every_step_can_be_repeated(platform: Platform) -> None:
    upload = await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await pipeline.claim(seconds=10, documents=100, attempts=3)
        for step in (pipeline.parse, pipeline.chunk, pipeline.embed, pipeline.index):
            await step()
            await step()
        await pipeline.publish()
        assert await pipeline.publish() == []
    assert len(await platform.chunks(upload)) == (await platform.version(upload))["chunk_count"]
    counts = "SELECT max(chunks) FROM term_frequencies WHERE term = 'alp'"
    assert await platform.admin.fetchval(counts) == len(await platform.chunks(upload))


async def test_a_run_that_ends_early_gives_its_documents_back(platform: Platform) -> None:
    upload = await platform.upload(TEXT)
    async with platform.run("one") as pipeline:
        await pipeline.claim(seconds=10, documents=100, attempts=3)
        await pipeline.parse()
    version = await platform.version(upload)
    assert (version["status"], version["lease_owner"]) == ("embedding", None)
    assert version["next_attempt_at"] > version["updated_at"]


async def test_a_worker_that_lost_its_lease_publishes_nothing(platform: Platform) -> None:
    upload = await platform.upload(TEXT)
    async with platform.run("slow") as slow:
        await slow.claim(seconds=10, documents=100, attempts=3)
        await slow.parse()
        await slow.chunk()
        await slow.embed()
        await slow.index()
        await platform.expire_leases()
        async with platform.run("fast") as fast:
            await fast.claim(seconds=10, documents=100, attempts=3)
            assert await slow.publish() == []
            assert await slow.index() == []
            for step in (fast.parse, fast.chunk, fast.embed, fast.index):
                await step()
            assert len(await fast.publish()) == 1
    version = await platform.version(upload)
    assert (version["status"], version["attempts"]) == ("ready", 2)
    assert len(await platform.chunks(upload)) == version["chunk_count"]


async def test_a_document_that_is_never_finished_fails_in_the_end(platform: Platform) -> None:
    upload = await platform.upload(TEXT)
    for attempt in range(4):
        await platform.expire_leases()
        await platform.admin.execute("UPDATE document_versions SET next_attempt_at = now()")
        async with platform.run(f"run {attempt}") as pipeline:
            await pipeline.claim(seconds=10, documents=100, attempts=3)
    version = await platform.version(upload)
    assert (version["status"], version["error"]["code"]) == ("failed", "interrupted")


async def test_a_document_that_may_end_runs_is_claimed_alone(platform: Platform) -> None:
    suspect = await platform.upload(TEXT)
    texts = (OTHER, OTHER * 2)
    others = [await platform.upload(text, tenant_id=suspect.tenant_id) for text in texts]
    await platform.admin.execute(
        "UPDATE document_versions SET attempts = 2 WHERE id = $1", suspect.version_id
    )
    async with platform.run("one") as pipeline:
        claimed = await pipeline.claim(seconds=10, documents=100, attempts=5)
        assert [work.version_id for work in claimed] == [suspect.version_id]
    async with platform.run("two") as pipeline:
        claimed = await pipeline.claim(seconds=10, documents=100, attempts=5)
        assert {work.version_id for work in claimed} == {one.version_id for one in others}


async def test_a_suspect_behind_others_does_not_join_them(platform: Platform) -> None:
    first = await platform.upload(TEXT)
    suspect = await platform.upload(OTHER, tenant_id=first.tenant_id)
    await platform.admin.execute(
        "UPDATE document_versions SET attempts = 2 WHERE id = $1", suspect.version_id
    )
    async with platform.run("run") as pipeline:
        claimed = await pipeline.claim(seconds=10, documents=100, attempts=5)
        assert [work.version_id for work in claimed] == [first.version_id]


async def test_an_outage_costs_no_attempt_but_of_the_document_in_hand(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await platform.upload(TEXT)
    other = await platform.upload(OTHER, tenant_id=first.tenant_id)

    def fail(*_: object) -> ExtractedText:
        raise Unavailable("the parser does not answer")

    monkeypatch.setattr(Parser, "parse", fail)
    async with platform.run("run") as pipeline:
        await pipeline.claim(seconds=10, documents=100, attempts=3)
        with pytest.raises(Unavailable):
            await pipeline.parse()
    assert (await platform.version(first))["attempts"] == 1
    assert (await platform.version(other))["attempts"] == 0


async def test_an_outage_with_no_document_in_hand_costs_no_attempt(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await platform.upload(TEXT)

    async def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(BatchFiles, "put_vectors", fail)
    async with platform.run("run") as pipeline:
        await pipeline.claim(seconds=10, documents=100, attempts=3)
        await pipeline.parse()
        await pipeline.chunk()
        with pytest.raises(OSError, match="No space"):
            await pipeline.embed()
    version = await platform.version(upload)
    assert (version["status"], version["attempts"]) == ("embedding", 0)


async def test_an_abandoned_version_under_a_lease_does_not_wait(platform: Platform) -> None:
    upload = await platform.upload(TEXT)
    database = Database(platform.settings.database_url.get_secret_value(), service="test")
    await database.open()
    registry = Registry(database, worker="run")
    await platform.admin.execute(
        "UPDATE document_versions SET status = 'cancelled', visibility = 'hidden', "
        "lease_until = now() + interval '1 minute' WHERE id = $1",
        upload.version_id,
    )
    assert (await registry.waiting()).removals == 0
    await platform.expire_leases()
    assert (await registry.waiting()).removals == 1
    await database.close()


async def test_a_keeper_that_failed_is_heard_of(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.data.pipeline.lease._WRITE_EVERY_S", 0.01)
    failed = asyncio.Event()

    async def fail(*_: object) -> None:
        failed.set()
        raise ValueError("a defect")

    monkeypatch.setattr(Registry, "report", fail)
    with pytest.raises(ValueError, match="a defect"):
        async with platform.run("run"):
            await asyncio.wait_for(failed.wait(), 10)


async def test_progress_that_could_not_be_written_is_written_later(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.data.pipeline.lease._WRITE_EVERY_S", 0.01)
    correct, outage, written = Registry.report, [Unavailable("once")], asyncio.Event()

    async def fail_once(registry: Registry, progress: Iterable[Progress]) -> None:
        notes = list(progress)
        if notes and outage:
            raise outage.pop()
        await correct(registry, notes)
        if notes:
            written.set()

    monkeypatch.setattr(Registry, "report", fail_once)
    upload = await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await pipeline.claim(seconds=10, documents=1, attempts=3)
        await pipeline.parse()
        await asyncio.wait_for(written.wait(), 10)
        assert (await platform.version(upload))["percent"] > 0


async def test_a_run_claims_only_what_it_can_do_in_time(platform: Platform) -> None:
    tenant_id = await platform.tenant()
    for number in range(6):
        content = f"{number} words ".encode() * 30_000
        await platform.upload(content, tenant_id=tenant_id)
    small = await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        claimed = await pipeline.claim(seconds=10, documents=100, attempts=3)
        assert small.version_id in {work.version_id for work in claimed}
        assert len(claimed) < 7


async def test_leases_are_renewed_and_progress_written(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.data.pipeline.lease._WRITE_EVERY_S", 0.01)
    monkeypatch.setattr("planes.data.pipeline.lease._RENEW_EVERY_S", 0.02)
    upload = await platform.upload(TEXT)
    database = Database(platform.settings.database_url.get_secret_value(), service="test")
    await database.open()
    registry = Registry(database, worker="run")
    async with LeaseKeeper(registry) as keeper, asyncio.timeout(10):
        works = await registry.claim(ClaimLimits(10, 10, 1, 3))
        keeper.hold(works)
        await platform.expire_leases()
        keeper.note(Progress(works[0], DocumentStatus.EMBEDDING, 42))
        while not (
            (version := await platform.version(upload))["percent"] == 42
            and (await platform.admin.fetchval("SELECT now()")) < version["lease_until"]
        ):
            await asyncio.sleep(0.01)
    assert (await platform.version(upload))["lease_owner"] is None
    await database.close()
