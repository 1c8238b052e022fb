"""What deletion and replacement leave behind: receipts, and nothing else."""

from dataclasses import replace

import asyncpg
import pytest
from pydantic import SecretStr

from planes.shared.domain import new_id
from planes.shared.stores.redis_caches import CacheEntry, RedisCaches, entry_key
from planes.shared.stores.redis_clients import redis_client
from services.embedded.ports import free_port
from services.embedded.redis import Redis
from tests.integration.data.conftest import Platform, ingest

pytestmark = pytest.mark.integration
TEXT = b"The Rhine rises in the Alps. " * 60
OTHER = b"Turbines turn steam into motion. " * 60


async def test_deletion_removes_chunks_files_and_word_counts(platform: Platform) -> None:
    gone, kept = await platform.upload(TEXT), await platform.upload(OTHER)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    chunk_count = len(await platform.chunks(gone))
    await platform.delete(gone)
    async with platform.run("other run") as pipeline:
        removed = await pipeline.remove()
    assert (removed.documents, removed.chunks, removed.files) == (1, chunk_count, 3)
    receipt = await platform.admin.fetchrow("SELECT * FROM deletions")
    assert receipt["completed_at"] is not None
    assert (receipt["chunks"], receipt["files"]) == (chunk_count, 3)
    assert await platform.chunks(gone) == []
    assert (await platform.version(gone))["visibility"] == "gone"
    assert len(await platform.chunks(kept)) > 0
    assert all(str(gone.document_id) not in name for name in platform.files())
    left = "SELECT count(*) FROM term_frequencies WHERE tenant_id = $1"
    assert await platform.admin.fetchval(left, gone.tenant_id) == 0
    assert await platform.admin.fetchval(left, kept.tenant_id) > 0


async def test_a_receipt_counts_all_although_the_removal_was_interrupted(
    platform: Platform,
) -> None:
    gone = await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    chunk_count = len(await platform.chunks(gone))
    await platform.delete(gone)
    await platform.admin.execute("ALTER FUNCTION retire_version RENAME TO away")
    async with platform.run("interrupted") as pipeline:
        with pytest.raises(asyncpg.UndefinedFunctionError):
            await pipeline.remove()
    assert await platform.chunks(gone) == []
    await platform.admin.execute("ALTER FUNCTION away RENAME TO retire_version")
    await platform.admin.execute("UPDATE deletions SET lease_until = now()")
    async with platform.run("other run") as pipeline:
        await pipeline.remove()
    receipt = await platform.admin.fetchrow("SELECT * FROM deletions")
    assert receipt["completed_at"] is not None
    assert (receipt["chunks"], receipt["files"]) == (chunk_count, 3)


async def test_deletion_waits_for_the_run_that_holds_the_document(platform: Platform) -> None:
    upload = await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await pipeline.claim(seconds=10, documents=100, attempts=3)
        await platform.delete(upload)
        assert (await pipeline.remove()).documents == 0
        await pipeline.parse()
        await pipeline.chunk()
        await pipeline.embed()
        await pipeline.index()
        assert await pipeline.publish() == []
    await platform.admin.execute("UPDATE deletions SET lease_until = now()")
    async with platform.run("other run") as pipeline:
        assert (await pipeline.remove()).documents == 1
    assert await platform.chunks(upload) == []
    assert platform.files() == []


async def test_a_new_version_replaces_the_old_one(platform: Platform) -> None:
    old = await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    new = await platform.upload(OTHER, replaces=old)
    async with platform.run("other run") as pipeline:
        await ingest(pipeline)
    assert (await platform.version(new))["visibility"] == "live"
    assert (await platform.version(old))["visibility"] == "gone"
    assert await platform.chunks(old) == []
    terms = "SELECT count(*) FROM term_frequencies WHERE term = 'alp'"
    assert await platform.admin.fetchval(terms) == 0


async def test_an_old_version_that_comes_late_does_not_replace_the_newest(
    platform: Platform,
) -> None:
    old = await platform.upload(TEXT)
    async with platform.run("late") as late:
        await late.claim(seconds=10, documents=1, attempts=3)
        new = await platform.upload(OTHER, replaces=old)
        async with platform.run("early") as early:
            await ingest(early)
        await late.parse()
        await late.chunk()
        await late.embed()
        await late.index()
        assert await late.publish() == []
    assert (await platform.version(old))["status"] == "cancelled"
    assert (await platform.version(new))["visibility"] == "live"
    assert await platform.chunks(old) == []
    assert len(await platform.chunks(new)) > 0


async def test_the_same_content_in_two_tenants_stays_apart(platform: Platform) -> None:
    one, two = await platform.upload(TEXT), await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    await platform.delete(one)
    async with platform.run("other run") as pipeline:
        await pipeline.remove()
    assert await platform.chunks(one) == []
    assert {chunk["tenant_id"] for chunk in await platform.chunks(two)} == {two.tenant_id}


async def test_a_failed_version_that_is_wanted_again_is_not_retired(platform: Platform) -> None:
    upload = await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    version_id = (await platform.version(upload))["id"]
    await platform.admin.execute("SELECT retire_version($1)", version_id)
    assert (await platform.version(upload))["visibility"] == "live"
    hide = "UPDATE document_versions SET visibility = 'hidden', status = $1 WHERE id = $2"
    await platform.admin.execute(hide, "received", version_id)
    await platform.admin.execute("SELECT retire_version($1)", version_id)
    assert (await platform.version(upload))["visibility"] == "hidden"
    await platform.admin.execute(hide, "failed", version_id)
    await platform.admin.execute("SELECT retire_version($1)", version_id)
    assert (await platform.version(upload))["visibility"] == "gone"


async def test_deletion_removes_what_was_cached_and_counts_it(
    platform: Platform, redis_server: Redis
) -> None:
    gone = await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    bystander = new_id()
    caches = RedisCaches(redis_client(redis_server.serving_url()))
    for tenant in (gone.tenant_id, bystander):
        for digest in ("one", "two"):
            assert await caches.put(CacheEntry(tenant, 1, "answer", digest, b"text"), ttl_s=60)
    await platform.delete(gone)
    await platform.admin.execute(
        "UPDATE tenants SET corpus_version = 2 WHERE id = $1", gone.tenant_id
    )
    platform.settings.redis_url = SecretStr(redis_server.data_url())
    async with platform.run("other run") as pipeline:
        assert (await pipeline.remove()).cache_entries == 2
    receipt = await platform.admin.fetchrow("SELECT * FROM deletions")
    assert receipt["cache_entries"] == 2
    assert receipt["completed_at"] is not None
    assert await caches.get(entry_key(gone.tenant_id, "answer", "one")) is None
    assert await caches.get(entry_key(bystander, "answer", "one")) == b"text"
    # what was begun before the deletion ends after it
    late = CacheEntry(gone.tenant_id, 1, "answer", "late", b"quotes the document")
    assert not await caches.put(late, ttl_s=60)
    assert await caches.put(replace(late, corpus_version=2), ttl_s=60)
    await caches.close()


async def test_a_deletion_is_not_complete_while_caches_cannot_be_asked(
    platform: Platform,
) -> None:
    gone = await platform.upload(TEXT)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    await platform.delete(gone)
    platform.settings.redis_url = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    async with platform.run("other run") as pipeline:
        with pytest.raises(ExceptionGroup, match="still there"):
            await pipeline.remove()
    receipt = await platform.admin.fetchrow("SELECT * FROM deletions")
    assert receipt["completed_at"] is None
    assert await platform.chunks(gone) == []
