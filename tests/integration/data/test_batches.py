"""Many documents of several tenants in one run, on a real PostgreSQL and the real model."""

from collections.abc import Sequence

import pytest

from planes.data.pipeline import ingestion
from planes.data.pipeline.interlude import Interlude
from planes.data.pipeline.registry import ClaimLimits, Registry
from planes.data.pipeline.work import Work
from planes.shared.embedding import BertEmbedder, Vectors
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.integration.data.conftest import Platform, Upload, ingest

pytestmark = pytest.mark.integration
POISON = "poison"


def text(number: int) -> bytes:
    return f"Lighthouse {number} stands on a rock. ".encode() * (20 + number)


async def uploads(platform: Platform, count: int) -> list[Upload]:
    first = await platform.upload(text(0))
    others = [await platform.upload(text(n), tenant_id=first.tenant_id) for n in range(1, count)]
    return [first, *others]


async def ready(platform: Platform, upload: Upload) -> bool:
    version = await platform.version(upload)
    return bool(version["status"] == "ready") and version["chunk_count"] == len(
        await platform.chunks(upload)
    )


async def test_parts_of_a_batch_keep_their_documents_apart(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion, "_PART_CHARS", 2_000)
    documents = [*await uploads(platform, 5), *await uploads(platform, 2)]
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    for document in documents:
        assert await ready(platform, document)
        content = await platform.objects.get(
            f"{document.tenant_id}/documents/{document.document_id}/{document.version_id}/text.txt"
        )
        for chunk in await platform.chunks(document):
            assert content.decode()[chunk["char_start"] : chunk["char_end"]] == chunk["body"]
    counts = "SELECT sum(chunks) FROM term_frequencies WHERE term = 'lighthous' AND tenant_id = $1"
    tenant_id = documents[0].tenant_id
    chunks = [len(await platform.chunks(document)) for document in documents[:5]]
    assert await platform.admin.fetchval(counts, tenant_id) == sum(chunks)


async def test_the_document_that_the_embedder_fails_on_is_found(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = await uploads(platform, 3)
    bad = await platform.upload(POISON.encode() * 50, tenant_id=good[0].tenant_id)
    correct = BertEmbedder.embed

    def embed(self: BertEmbedder, texts: Sequence[str]) -> Vectors:
        if any(POISON in text for text in texts):
            raise ValueError("a defect")
        return correct(self, texts)

    monkeypatch.setattr(BertEmbedder, "embed", embed)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    assert [await ready(platform, document) for document in good] == [True, True, True]
    assert (await platform.version(bad))["error"]["code"] == "internal"


async def test_a_repetition_after_an_outage_finds_the_suspect(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = await uploads(platform, 2)
    bad = await platform.upload(POISON.encode() * 50, tenant_id=good[0].tenant_id)
    correct = PostgresChunks.replace_versions

    async def replace_versions(self: PostgresChunks, chunks, vectors, *, generation):  # type: ignore[no-untyped-def]
        if any(chunk.version_id == bad.version_id for chunk in chunks):
            raise Unavailable("the server crashed")
        return await correct(self, chunks, vectors, generation=generation)

    monkeypatch.setattr(PostgresChunks, "replace_versions", replace_versions)
    async with platform.run("run") as pipeline:
        await pipeline.claim(seconds=10, documents=100, attempts=3)
        for step in (pipeline.parse, pipeline.chunk, pipeline.embed):
            await step()
        for _ in range(2):  # as Dagster repeats a step
            with pytest.raises(Unavailable):
                await pipeline.index()
    attempts = [(await platform.version(each))["attempts"] for each in (*good, bad)]
    assert attempts == [0, 0, 1]


async def test_small_work_of_another_tenant_is_published_in_the_midst(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.data.pipeline.interlude._EVERY_S", 0.0)
    documents = await uploads(platform, 4)
    async with platform.run("run") as pipeline:
        await pipeline.claim(seconds=0.1, backlog_s=60, documents=100, attempts=3)
        await pipeline.parse()
        late = await platform.upload(text(1))
        await pipeline.chunk()
        assert pipeline.documents_between == 1
        assert await ready(platform, late)
        assert (await platform.version(documents[0]))["status"] == "embedding"
        for step in (pipeline.embed, pipeline.index, pipeline.publish):
            await step()
    assert all([await ready(platform, document) for document in documents])
    assert not [name for name in platform.files() if name.startswith("batches/")]


async def test_a_defect_in_work_in_between_is_not_laid_to_the_document_in_hand(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.data.pipeline.interlude._EVERY_S", 0.0)
    correct = Registry.claim

    async def claim(self: Registry, limits: ClaimLimits, *, between: bool = False) -> list[Work]:
        if between:
            raise ValueError("a defect")
        return await correct(self, limits, between=between)

    monkeypatch.setattr(Registry, "claim", claim)
    documents = await uploads(platform, 2)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    assert all([await ready(platform, document) for document in documents])


async def test_two_versions_of_a_document_in_one_batch_leave_the_newer_one(
    platform: Platform,
) -> None:
    older = await platform.upload(text(1))
    newer = await platform.upload(text(2), replaces=older)
    async with platform.run("run") as pipeline:
        await ingest(pipeline)
    assert await ready(platform, newer)
    assert (await platform.version(older))["status"] == "cancelled"
    live = "SELECT array_agg(id) FROM document_versions WHERE visibility = 'live'"
    assert await platform.admin.fetchval(live) == [newer.version_id]


async def test_a_failure_in_the_midst_ends_the_asking_and_not_the_batch() -> None:
    calls = []

    async def take() -> int:
        calls.append(1)
        raise Unavailable("the database does not answer")

    interlude = Interlude(take)
    interlude._next = 0
    await interlude.play()
    await interlude.play()
    assert (len(calls), interlude.documents) == (1, 0)
