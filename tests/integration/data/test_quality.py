"""Checks of the whole index, against a real registry and object store."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import dagster as dg
import pytest

from planes.data.definitions import definitions
from planes.data.pipeline.quality import Finding, IndexQuality, check_counts
from planes.shared.domain import VersionCount, document_prefix, text_key
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.integration.data.conftest import Platform, Upload, ingest

TEXT = "The lighthouse keeper counts the ships that pass at night."


@pytest.fixture
async def index(platform: Platform) -> AsyncIterator[IndexQuality]:
    database = Database(platform.settings.database_url.get_secret_value(), service="test")
    await database.open()
    yield IndexQuality(database, platform.objects, PostgresChunks(database))
    await database.close()


@pytest.fixture
async def ready(platform: Platform) -> Upload:
    """A searchable document; another tenant has one too."""
    upload = await platform.upload(TEXT.encode())
    await platform.upload(b"A text of another tenant.")
    async with platform.run("ready") as pipeline:
        await ingest(pipeline)
    return upload


async def everything(index: IndexQuality) -> dict[str, Finding]:
    counts = await index.counts()
    return {
        **check_counts(counts),
        "every_version_has_its_text": await index.check_texts(row.tenant_id for row in counts),
        "no_stray_files": await index.check_files(),
        **await index.check_sample(100),
    }


async def faults(index: IndexQuality) -> set[str]:
    return {name for name, finding in (await everything(index)).items() if not finding.holds}


async def test_a_sound_index_holds_everything(index: IndexQuality, ready: Upload) -> None:
    found = await everything(index)
    assert [name for name, finding in found.items() if not finding.holds] == []
    assert found["counts_agree"].numbers["index chunks"] == 2
    assert found["every_version_has_its_text"].numbers["versions"] == 2
    assert found["vectors_of_length_one"].numbers["chunks"] == 2
    assert str(ready.tenant_id) in found["counts_agree"].table


async def test_a_lost_chunk_is_found(
    platform: Platform, index: IndexQuality, ready: Upload
) -> None:
    await platform.admin.execute("DELETE FROM chunks_g1 WHERE version_id = $1", ready.version_id)
    assert await faults(index) == {"counts_agree"}
    finding = check_counts(await index.counts())["counts_agree"]
    assert finding.named == [f"tenant {ready.tenant_id}: 1 versions have another number of chunks"]


async def test_chunks_of_no_version_and_chunks_there_twice_are_found(
    platform: Platform, index: IndexQuality, ready: Upload
) -> None:
    columns = "tenant_id, document_id, version_id, ordinal, char_start, char_end, heading, body, "
    columns += "language, terms, embedding"
    copy = f"INSERT INTO chunks_g1 (id, {columns}) SELECT $1, {columns} FROM chunks_g1 WHERE version_id = $2"  # noqa: S608, E501
    await platform.admin.execute(copy, uuid4(), ready.version_id)
    assert await faults(index) == {"counts_agree", "no_repeated_chunks"}
    await platform.admin.execute(
        "UPDATE document_versions SET visibility = 'gone' WHERE id = $1", ready.version_id
    )
    assert "no_orphan_chunks" in await faults(index)


class Stale(PostgresChunks):
    """A store whose listing shows what was there before documents came and went."""

    async def version_counts(
        self, tenant_id: UUID, *, generation: int
    ) -> AsyncGenerator[list[VersionCount], None]:
        del tenant_id, generation
        yield [VersionCount(uuid4(), 3, 3)]


async def test_what_comes_and_goes_while_it_is_counted_is_no_fault(
    platform: Platform, index: IndexQuality, ready: Upload
) -> None:
    database = index._database
    stale = IndexQuality(database, platform.objects, Stale(database))
    assert [name for name, one in check_counts(await stale.counts()).items() if not one.holds] == []
    await platform.admin.execute("DELETE FROM chunks_g1 WHERE version_id = $1", ready.version_id)
    assert not check_counts(await stale.counts())["counts_agree"].holds


async def test_damaged_vectors_and_offsets_are_found(
    platform: Platform, index: IndexQuality, ready: Upload
) -> None:
    await platform.admin.execute(
        "UPDATE chunks_g1 SET embedding = array_fill(0.5, ARRAY[384])::vector, "
        "char_start = char_start + 1 WHERE version_id = $1",
        ready.version_id,
    )
    assert await faults(index) == {"vectors_of_length_one", "offsets_give_texts"}


async def test_lost_texts_and_stray_files_are_found(
    platform: Platform, index: IndexQuality, ready: Upload
) -> None:
    ids = (ready.tenant_id, ready.document_id, ready.version_id)
    await platform.objects.remove(text_key(*ids))
    stray = f"{document_prefix(ready.tenant_id, ready.document_id)}{uuid4()}"
    await platform.objects.put(f"{stray}/original", b"of no version")
    found = await everything(index)
    assert {name for name, one in found.items() if not one.holds} == {
        "every_version_has_its_text",
        "no_stray_files",
    }
    assert found["no_stray_files"].named == [stray]


async def test_an_upload_under_way_is_no_stray_file(
    platform: Platform, index: IndexQuality, ready: Upload
) -> None:
    version_id = uuid4()
    await platform.admin.execute(
        "INSERT INTO uploads (version_id, tenant_id, document_id, expires_at) "
        "VALUES ($1, $2, $3, now() + $4)",
        version_id,
        ready.tenant_id,
        ready.document_id,
        timedelta(minutes=1),
    )
    prefix = document_prefix(ready.tenant_id, ready.document_id)
    await platform.objects.put(f"{prefix}{version_id}/original", b"on its way")
    assert await faults(index) == set()


async def test_drift_of_languages_is_told_once_there_are_enough_documents(
    platform: Platform, index: IndexQuality, ready: Upload
) -> None:
    del ready
    few = await index.check_drift(psi=0.25, least=2)
    assert few["language_drift"].holds
    assert "population stability index" not in few["language_drift"].numbers
    old = await platform.upload("Der Leuchtturmwärter zählt die Schiffe der Nacht.".encode())
    async with platform.run("old") as pipeline:
        await ingest(pipeline)
    await platform.admin.execute(
        "UPDATE document_versions SET published_at = now() - interval '10 days' WHERE id = $1",
        old.version_id,
    )
    found = (await index.check_drift(psi=0.25, least=1))["language_drift"]
    assert not found.holds
    assert found.numbers["recent"] == 2
    assert "| de |" in found.table


async def test_the_job_tells_dagster_what_is_wrong(
    platform: Platform, ready: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    await platform.admin.execute("DELETE FROM chunks_g1 WHERE version_id = $1", ready.version_id)
    monkeypatch.setenv("DATABASE_URL", platform.settings.database_url.get_secret_value())
    monkeypatch.setenv("OBJECTS_DIR", os.fspath(platform.settings.objects_dir))
    results = await run_job("quality")
    failed = [one for one in results.get_asset_check_evaluations() if not one.passed]
    assert [one.check_name for one in failed] == ["counts_agree"]
    assert str(ready.tenant_id) in str(failed[0].metadata["at fault"].value)
    assert "| tenant |" in str(failed[0].metadata["table"].value)


async def run_job(name: str) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_job_def(name)
    with dg.DagsterInstance.ephemeral() as instance:
        return await asyncio.to_thread(job.execute_in_process, instance=instance)
