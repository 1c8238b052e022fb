"""A second generation of the index: built beside the live one, switched to, and back."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from planes.data.pipeline.parse import Parser
from planes.shared.domain import IndexRecipe, SearchScope, spans_key, text_key
from planes.shared.embedding import DIMENSION, MiniLMEmbedder
from planes.shared.embedding_models import MODEL_NAME
from planes.shared.errors import Conflict, InvalidInput, Unavailable
from planes.shared.recipe import check_recipe, difference, dimension_of
from planes.shared.stores.chunk_settings import ChunkStoreSettings, chunk_stores
from planes.shared.stores.generation_keeper import GenerationKeeper
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.fakes_data import PDF, pdf
from tests.integration.data.conftest import (
    Builders,
    Platform,
    Upload,
    ingest_all,
    remove_all,
)
from tests.tiny_encoder import CONFIG, NAME, weights, write
from tests.tiny_encoder import DIMENSION as TINY_DIMENSION

pytestmark = pytest.mark.integration
SMALL = IndexRecipe(MODEL_NAME, "semchunk-64")
RHINE = b"The Rhine rises in the Alps and flows to the sea. " * 60
STEAM = b"Turbines turn steam into motion, and motion into current. " * 60
BEES = b"Bees dance to tell each other where the flowers are. " * 60
_BUILDER = """
import asyncio, sys
from planes.data.composition_generations import open_reembedding
from planes.data.pipeline.parse import ParseLimits, Parser
from planes.data.settings import DataSettings

async def build():
    opened = open_reembedding(DataSettings(), int(sys.argv[1]), Parser(ParseLimits()))
    async with opened as reembedding:
        await reembedding.build(seconds=600, gives_way=False)

asyncio.run(build())
"""


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder()


@pytest.fixture
def generations(owner: Database) -> GenerationKeeper:
    return GenerationKeeper(owner, chunk_stores(ChunkStoreSettings.of({}), owner))


async def chunk_count(platform: Platform, generation: int, upload: Upload | None = None) -> int:
    query = f"SELECT count(*) FROM chunks_g{generation}"  # noqa: S608
    if upload is None:
        return int(await platform.admin.fetchval(query))
    return int(await platform.admin.fetchval(f"{query} WHERE version_id = $1", upload.version_id))


async def begun(platform: Platform, generations: GenerationKeeper) -> int:
    """Make a second generation beside an ingested document, which it still lacks."""
    await platform.upload(RHINE)
    await ingest_all(platform)
    return await generations.create(SMALL)


Find = Callable[[Upload, str], Awaitable[set[UUID]]]


@pytest.fixture
def find(owner: Database, embedder: MiniLMEmbedder) -> Find:
    """Documents that a search in the live generation shows, as the gateway asks for it."""

    async def search(upload: Upload, words: str) -> set[UUID]:
        async with owner.platform() as connection:
            row = await connection.fetchrow("SELECT * FROM search_scope($1)", upload.tenant_id)
        assert row is not None
        hidden = tuple(row["hidden_versions"])
        scope = SearchScope(upload.tenant_id, row["live_generation"], hidden_versions=hidden)
        vector = embedder.embed([words])[0]
        found = await PostgresChunks(owner).search(words, vector, scope=scope, depth=100)
        return {candidate.document_id for candidate in found.candidates}

    return search


async def check_counts(platform: Platform, generation: int) -> None:
    """Word counts are exactly those of the searchable chunks, and no chunk has no document."""
    difference_of_terms = f"""
    SELECT count(*) FROM
        (SELECT c.tenant_id, t.term, count(*) AS chunks FROM chunks_g{generation} c
         JOIN document_versions v ON v.id = c.version_id AND v.visibility = 'live',
         unnest(tsvector_to_array(c.terms)) AS t (term) GROUP BY 1, 2) shown
    FULL JOIN (SELECT * FROM term_frequencies WHERE generation = {generation}) counted
        USING (tenant_id, term)
    WHERE shown.chunks IS DISTINCT FROM counted.chunks
    """  # noqa: S608
    assert await platform.admin.fetchval(difference_of_terms) == 0
    orphans = f"""
    SELECT count(*) FROM chunks_g{generation} c LEFT JOIN document_versions v
        ON v.id = c.version_id AND v.visibility IN ('live', 'hidden') WHERE v.id IS NULL
    """  # noqa: S608
    assert await platform.admin.fetchval(orphans) == 0


async def test_a_generation_is_built_switched_to_and_back_without_losing_a_document(
    platform: Platform, find: Find, generations: GenerationKeeper, builders: Builders
) -> None:
    rhine = await platform.upload(RHINE)
    manual = await platform.upload(pdf(["The Rhine on page one", "and on two"]), PDF)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    assert (await generations.progress(number)).missing == 2
    await generations.note_evaluation(number, {"questions": 1})
    assert await generations.switch(number) == 2, "refused, naming how many are missing"
    assert (await generations.live()).number == 1
    built = await builders.build(number)
    assert (built.versions, built.failed, built.is_done) == (2, [], True)
    assert await chunk_count(platform, 2, rhine) > await chunk_count(platform, 1, rhine)
    pages = await platform.admin.fetch(
        "SELECT page FROM chunks_g2 WHERE version_id = $1 ORDER BY ordinal", manual.version_id
    )
    assert [row["page"] for row in pages] == [1, 2]
    corpus = "SELECT min(corpus_version) FROM tenants"
    before = await platform.admin.fetchval(corpus)
    assert await generations.switch(number) == 0
    assert await platform.admin.fetchval(corpus) == before + 1, "what was cached is dropped"
    assert await find(rhine, "Rhine") == {rhine.document_id}
    row = await platform.version(rhine)
    assert (row["generation"], row["chunk_count"]) == (2, await chunk_count(platform, 2, rhine))
    await check_counts(platform, 2)

    later = await platform.upload(BEES)
    await ingest_all(platform, "after")
    assert await chunk_count(platform, 1, later) == 0
    assert await chunk_count(platform, 2, later) > await chunk_count(platform, 1, rhine) // 2
    assert (await generations.previous()).number == 1
    assert await generations.switch(1) == 1, "the old one lacks what came since"
    assert (await builders.build(1)).versions == 1
    assert await generations.switch(1) == 0
    assert await find(later, "bees dance") == {later.document_id}
    assert (await platform.version(later))["chunk_count"] == await chunk_count(platform, 1, later)
    await check_counts(platform, 1)
    await check_counts(platform, 2)


async def test_documents_published_replaced_and_deleted_meanwhile_are_as_they_should_be(
    platform: Platform, find: Find, generations: GenerationKeeper, builders: Builders
) -> None:
    kept = await platform.upload(RHINE)
    deleted = await platform.upload(STEAM, tenant_id=kept.tenant_id)
    replaced = await platform.upload(b"An old text about bees. " * 40, tenant_id=kept.tenant_id)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    await builders.build(number)
    both = await chunk_count(platform, 1, deleted) + await chunk_count(platform, 2, deleted)
    await platform.delete(deleted)
    newer = await platform.upload(BEES, replaces=replaced)
    added = await platform.upload(b"Herons nest in trees. " * 40, tenant_id=kept.tenant_id)
    await ingest_all(platform, "meanwhile")
    assert await remove_all(platform) == both
    receipt = await platform.admin.fetchrow("SELECT * FROM deletions")
    assert receipt["chunks"] == both, "of every generation"
    assert await chunk_count(platform, 2, replaced) == 0
    assert (await builders.build(number)).versions == 2
    assert await generations.switch(number, unevaluated=True) == 0
    for words, upload in (("Rhine", kept), ("bees dance", newer), ("herons nest", added)):
        assert upload.document_id in await find(kept, words)
    assert deleted.document_id not in await find(kept, "turbines turn steam")
    await check_counts(platform, 1)
    await check_counts(platform, 2)


async def test_a_version_whose_generation_was_switched_in_the_midst_is_taken_up_again(
    platform: Platform, find: Find, generations: GenerationKeeper, builders: Builders
) -> None:
    number = await generations.create(SMALL)
    upload = await platform.upload(RHINE)
    async with platform.run("overtaken") as pipeline:
        await pipeline.claim(seconds=10, documents=10, attempts=3)
        await pipeline.parse()
        await pipeline.chunk()
        await pipeline.embed()
        await pipeline.index()
        assert await generations.switch(number, unevaluated=True) == 0
        assert await pipeline.publish() == []
    assert await find(upload, "Rhine") == set()
    await platform.admin.execute("UPDATE document_versions SET next_attempt_at = now()")
    await ingest_all(platform, "next")
    assert await find(upload, "Rhine") == {upload.document_id}
    row = await platform.version(upload)
    assert (row["status"], row["generation"]) == ("ready", 2)
    assert (await builders.build(1)).versions == 1
    await check_counts(platform, 1)
    await check_counts(platform, 2)


async def test_a_version_indexed_for_the_old_generation_only_writes_nothing_after_the_switch(
    platform: Platform, generations: GenerationKeeper
) -> None:
    number = await generations.create(SMALL)
    upload = await platform.upload(RHINE)
    async with platform.run("overtaken") as pipeline:
        await pipeline.claim(seconds=10, documents=10, attempts=3)
        await pipeline.parse()
        await pipeline.chunk()
        await pipeline.embed()
        assert await generations.switch(number, unevaluated=True) == 0
        assert await pipeline.index() == []
    assert await chunk_count(platform, 1) == 0
    assert (await platform.version(upload))["lease_owner"] is None


async def test_a_document_processed_again_during_a_switch_is_published_in_the_new_generation(
    platform: Platform, find: Find, generations: GenerationKeeper, builders: Builders
) -> None:
    upload = await platform.upload(RHINE)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    await builders.build(number)
    await platform.admin.execute("UPDATE document_versions SET status = 'received', attempts = 0")
    async with platform.run("overtaken") as pipeline:
        await pipeline.claim(seconds=10, documents=10, attempts=3)
        await pipeline.parse()
        await pipeline.chunk()
        await pipeline.embed()
        await pipeline.index()
        assert await generations.switch(number, unevaluated=True) == 0
        assert await pipeline.publish() == [], "its chunks stand in the old one"
    await platform.admin.execute("UPDATE document_versions SET next_attempt_at = now()")
    await ingest_all(platform, "next")
    assert await find(upload, "Rhine") == {upload.document_id}
    row = await platform.version(upload)
    assert (row["status"], row["generation"]) == ("ready", 2)
    assert row["chunk_count"] == await chunk_count(platform, 2, upload)
    assert (await builders.build(1)).versions == 1
    assert await generations.switch(1) == 0
    await check_counts(platform, 1)


async def test_a_builder_that_was_stopped_in_the_midst_embeds_only_what_is_missing(
    platform: Platform, generations: GenerationKeeper, builders: Builders
) -> None:
    upload = await platform.upload(RHINE * 4)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    stopped = await builders.build(number, seconds=0.0)
    first = await chunk_count(platform, number, upload)
    assert (stopped.is_done, stopped.versions, stopped.chunks) == (False, 0, first)
    assert first > 0
    await platform.admin.execute("UPDATE chunks_g2 SET heading = 'spoiled' WHERE ordinal = 0")
    rest = await builders.build(number)
    whole = await chunk_count(platform, number, upload)
    assert (rest.is_done, rest.versions, rest.chunks) == (True, 1, whole - first + 1)
    await check_counts(platform, number)
    again = await builders.build(number)
    assert (again.versions, again.chunks, again.is_done) == (0, 0, True)


async def test_a_builder_that_is_killed_leaves_nothing_that_hinders_the_next(
    platform: Platform, generations: GenerationKeeper, builders: Builders
) -> None:
    upload = await platform.upload(RHINE * 8)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    database_url = platform.settings.database_url.get_secret_value()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _BUILDER,
        str(number),
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "OBJECTS_DIR": str(platform.settings.objects_dir),
        },
    )
    async with asyncio.timeout(60):
        while await chunk_count(platform, number, upload) == 0:
            await asyncio.sleep(0.01)
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    before = await chunk_count(platform, number, upload)
    assert (await generations.progress(number)).missing == 1
    async with asyncio.timeout(10):  # until the server notices that the builder is gone
        while not (rest := await builders.build(number)).is_alone:
            await asyncio.sleep(0.1)
    assert rest.is_done
    assert rest.chunks == await chunk_count(platform, number, upload) - before
    assert (await generations.exact_progress(number)).missing == 0
    await check_counts(platform, number)


async def test_a_lost_chunk_is_noticed_before_the_switch_and_mended(
    platform: Platform, generations: GenerationKeeper, builders: Builders
) -> None:
    number = await begun(platform, generations)
    await builders.build(number)
    await platform.admin.execute("DELETE FROM chunks_g2 WHERE ordinal = 1")
    assert await generations.switch(number, unevaluated=True) == 1
    built = await builders.build(number)
    assert (built.versions, built.chunks) == (1, 1)
    assert await generations.switch(number, unevaluated=True) == 0
    await check_counts(platform, number)


async def test_a_document_that_the_index_does_not_show_whole_is_not_taken_for_complete(
    platform: Platform,
    generations: GenerationKeeper,
    builders: Builders,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = await begun(platform, generations)
    count = PostgresChunks.count_versions

    async def one_less(*given: Any, **named: Any) -> dict[UUID, int]:
        return {version: shown - 1 for version, shown in (await count(*given, **named)).items()}

    with monkeypatch.context() as patch:
        patch.setattr(PostgresChunks, "count_versions", one_less)
        with pytest.raises(Unavailable):
            await builders.build(number)
    assert (await generations.progress(number)).missing == 1
    assert (await builders.build(number)).versions == 1


async def test_an_index_that_does_not_answer_holds_no_document_against_its_deletion(
    platform: Platform,
    generations: GenerationKeeper,
    builders: Builders,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = await begun(platform, generations)

    async def never(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(PostgresChunks, "add_chunks", never)
    with pytest.raises(Unavailable):
        async with asyncio.timeout(60):
            await builders.build(number)


async def test_a_document_published_while_a_switch_counts_keeps_it_from_happening(
    platform: Platform,
    generations: GenerationKeeper,
    builders: Builders,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = await begun(platform, generations)
    await builders.build(number)
    count = PostgresChunks.count_versions
    published: list[Upload] = []

    async def count_late(*given: Any, **named: Any) -> dict[UUID, int]:
        if not published:
            published.append(await platform.upload(BEES))
            await ingest_all(platform, "meanwhile")
        return await count(*given, **named)

    monkeypatch.setattr(PostgresChunks, "count_versions", count_late)
    assert await generations.switch(number, unevaluated=True) == 1
    assert (await generations.live()).number == 1
    await builders.build(number)
    assert await generations.switch(number, unevaluated=True) == 0


async def test_a_document_that_is_doubted_while_a_switch_counts_keeps_it_from_happening(
    platform: Platform,
    generations: GenerationKeeper,
    builders: Builders,
    owner: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload = await platform.upload(RHINE)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    await builders.build(number)
    await platform.admin.execute(
        "UPDATE document_versions SET published_at = published_at - interval '1 day'"
    )
    count = PostgresChunks.count_versions

    async def count_and_doubt(*given: Any, **named: Any) -> dict[UUID, int]:
        counted = await count(*given, **named)
        async with owner.tenant(upload.tenant_id) as connection:
            await connection.execute(
                "SELECT doubt_versions($1, $2, $3)", upload.tenant_id, [upload.version_id], number
            )
        return counted

    with monkeypatch.context() as patch:
        patch.setattr(PostgresChunks, "count_versions", count_and_doubt)
        assert await generations.switch(number, unevaluated=True) == 1
    assert (await generations.live()).number == 1


async def test_a_builder_gives_way_to_documents_that_wait(
    platform: Platform,
    generations: GenerationKeeper,
    builders: Builders,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("planes.data.pipeline.turn._LOOK_EVERY_S", 0.0)
    for _ in range(3):
        await platform.upload(RHINE * 4)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    await platform.upload(STEAM)
    built = await builders.build(number)
    assert not built.is_done
    assert built.chunks > 0
    assert (await builders.build(number, seconds=600, gives_way=False)).is_done


async def test_only_one_builder_a_generation_is_at_work(
    platform: Platform, generations: GenerationKeeper, builders: Builders
) -> None:
    await platform.upload(RHINE * 4)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    both = await asyncio.gather(builders.build(number), builders.build(number))
    assert sorted(built.is_alone for built in both) == [False, True]
    assert (await generations.exact_progress(number)).missing == 0


async def test_of_two_switches_at_once_each_finds_one_live_generation(
    platform: Platform, find: Find, generations: GenerationKeeper, builders: Builders
) -> None:
    upload = await platform.upload(RHINE)
    await ingest_all(platform)
    numbers = [await generations.create(SMALL), await generations.create(SMALL)]
    for number in numbers:
        await builders.build(number)
    switches = [generations.switch(number, unevaluated=True) for number in (*numbers, *numbers)]
    ends = await asyncio.gather(*switches, return_exceptions=True)
    assert all(end == 0 or isinstance(end, Conflict) for end in ends)
    assert [one.state for one in await generations.all()].count("live") == 1
    assert await find(upload, "Rhine") == {upload.document_id}


async def test_publishing_during_switches_loses_nothing(
    platform: Platform, find: Find, generations: GenerationKeeper, builders: Builders
) -> None:
    first = await platform.upload(RHINE)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    await builders.build(number)
    uploads = [
        await platform.upload(b"Herons nest in trees, number %d. " % n * 20) for n in range(4)
    ]

    async def publish() -> None:
        for round_ in range(12):
            await platform.admin.execute("UPDATE document_versions SET next_attempt_at = now()")
            async with platform.run(f"run {round_}") as pipeline:
                if not await pipeline.claim(seconds=0.01, documents=1, attempts=20):
                    return
                await pipeline.parse()
                await pipeline.chunk()
                await pipeline.embed()
                await pipeline.index()
                await pipeline.publish()

    async def switch() -> None:
        for target in (2, 1, 2):
            async with asyncio.timeout(60):
                while await generations.switch(target, unevaluated=True):
                    await builders.build(target, gives_way=False)

    await asyncio.gather(publish(), switch())
    live = (await generations.live()).number
    assert (await generations.exact_progress(live)).missing == 0
    for upload in (first, *uploads):
        assert (await platform.version(upload))["status"] == "ready"
        assert await find(upload, "Rhine herons nest") == {upload.document_id}
    await check_counts(platform, live)


async def test_older_documents_get_their_pages_from_the_original(
    platform: Platform, generations: GenerationKeeper, builders: Builders
) -> None:
    upload = await platform.upload(pdf(["The Rhine on page one", "and on two"]), PDF)
    await ingest_all(platform)
    place = upload.tenant_id, upload.document_id, upload.version_id
    await platform.objects.remove(spans_key(*place))
    number = await generations.create(SMALL)
    await builders.build(number)
    rows = "SELECT page, body FROM chunks_g2 ORDER BY ordinal"
    assert [row["page"] for row in await platform.admin.fetch(rows)] == [1, 2]


async def test_older_documents_that_are_read_differently_now_keep_text_and_pages(
    platform: Platform, generations: GenerationKeeper, builders: Builders
) -> None:
    upload = await platform.upload(pdf(["The Rhine on page one", "and on two"]), PDF)
    await ingest_all(platform)
    place = upload.tenant_id, upload.document_id, upload.version_id
    await platform.objects.remove(spans_key(*place))
    text = (await platform.objects.get(text_key(*place))).decode().replace("Rhine", "RHINE")
    await platform.objects.put(text_key(*place), text.encode())
    number = await generations.create(SMALL)
    await builders.build(number)
    rows = await platform.admin.fetch("SELECT * FROM chunks_g2 ORDER BY ordinal")
    assert [row["page"] for row in rows] == [1, 2]
    assert all(text[row["char_start"] : row["char_end"]] == row["body"] for row in rows)
    assert "RHINE" in rows[0]["body"]


async def test_a_document_whose_text_is_gone_is_named_and_keeps_the_switch_from_happening(
    platform: Platform, generations: GenerationKeeper, builders: Builders
) -> None:
    good, bad = await platform.upload(RHINE), await platform.upload(STEAM)
    await ingest_all(platform)
    await platform.objects.remove(text_key(bad.tenant_id, bad.document_id, bad.version_id))
    number = await generations.create(SMALL)
    await generations.want_build(number)
    built = await builders.build(number)
    assert [failure["document_id"] for failure in built.failed] == [str(bad.document_id)]
    assert await chunk_count(platform, number, good) > 0
    assert await generations.switch(number, unevaluated=True) == 1
    generation = await generations.get(number)
    assert generation.build["failures"] == 1
    assert not generation.build_wanted, "nothing more can be done"


async def test_an_unevaluated_generation_is_not_switched_to(
    generations: GenerationKeeper,
) -> None:
    number = await generations.create(SMALL)
    with pytest.raises(Conflict, match="evaluate it first"):
        await generations.switch(number)
    with pytest.raises(Conflict, match="live already"):
        await generations.switch(1)
    with pytest.raises(Conflict, match="no generation 9"):
        await generations.switch(9)
    with pytest.raises(Conflict, match="nothing to go to"):
        await generations.previous()


async def test_a_generation_is_dropped_once_nothing_reads_it(
    platform: Platform, find: Find, generations: GenerationKeeper, builders: Builders
) -> None:
    upload = await platform.upload(RHINE)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    await builders.build(number)
    with pytest.raises(Conflict, match="is live"):
        await generations.drop(1)
    await generations.switch(number, unevaluated=True)
    with pytest.raises(Conflict, match="minute"):
        await generations.drop(1)
    await platform.admin.execute("UPDATE generations SET retired_at = now() - interval '1 hour'")
    await generations.drop(1)
    assert [one.number for one in await generations.all()] == [2]
    with pytest.raises(Conflict):
        await generations.previous()
    left = "SELECT count(*) FROM term_frequencies WHERE generation = 1"
    assert await platform.admin.fetchval(left) == 0
    assert await find(upload, "Rhine") == {upload.document_id}
    assert await generations.create(SMALL) == 3, "numbers are not used again"
    await platform.delete(upload)
    assert await remove_all(platform) > 0
    await check_counts(platform, 2)


async def test_a_new_chunk_table_is_guarded_like_the_live_one(
    platform: Platform,
    generations: GenerationKeeper,
    builders: Builders,
    database_urls: dict[str, str],
) -> None:
    ours, theirs = await platform.upload(RHINE), await platform.upload(STEAM)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    await builders.build(number)
    facts = """
    SELECT relacl::text, relrowsecurity,
        (SELECT array_agg((polname, polroles, pg_get_expr(polqual, polrelid))::text
                          ORDER BY polname)
         FROM pg_policy WHERE polrelid = c.oid),
        (SELECT array_agg(regexp_replace(indexdef, '_g[12]', '', 'g') ORDER BY indexdef)
         FROM pg_indexes WHERE tablename = c.relname)
    FROM pg_class c WHERE relname = $1
    """
    for kind in ("chunks", "vectors"):
        new = await platform.admin.fetchrow(facts, f"{kind}_g2")
        assert new is not None
        assert new == await platform.admin.fetchrow(facts, f"{kind}_g1")
    for service in ("data", "serving"):
        connection = await asyncpg.connect(database_urls[service])
        tenant = str(ours.tenant_id)
        assert await connection.fetch("SELECT tenant_id FROM chunks_g2") == []
        await connection.execute("SELECT set_config('app.tenant_id', $1, false)", tenant)
        seen = await connection.fetch("SELECT DISTINCT document_id FROM chunks_g2")
        assert [row["document_id"] for row in seen] == [ours.document_id]
        for act in ("create_generation('x', 1, 'y')", "drop_generation(2)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SELECT {act}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT switch_generation(2, true)")
        await connection.close()
    assert theirs.tenant_id != ours.tenant_id


async def test_a_deleted_tenant_leaves_no_chunk_in_any_generation(
    platform: Platform, generations: GenerationKeeper, builders: Builders
) -> None:
    upload, other = await platform.upload(RHINE), await platform.upload(STEAM)
    await ingest_all(platform)
    number = await generations.create(SMALL)
    await builders.build(number)
    await platform.admin.execute(
        "UPDATE tenants SET deleted_at = now() WHERE id = $1", upload.tenant_id
    )
    while await platform.admin.fetchval("SELECT erase_tenant($1, 1000)", upload.tenant_id):
        pass
    for generation in (1, number):
        assert await chunk_count(platform, generation, upload) == 0
        assert await chunk_count(platform, generation, other) > 0


@pytest.mark.parametrize(
    ("embedder", "chunker", "reason"),
    [
        ("BAAI/bge-small-en", "semchunk-128", "no embedding model BAAI/bge-small-en"),
        (MODEL_NAME, "semchunk-512", "64 to 256"),
        (MODEL_NAME, "semchunk-128; DROP TABLE x", "no chunker"),
        (MODEL_NAME, "recursive-128", "no chunker"),
    ],
)
async def test_what_cannot_be_made_is_refused_with_what_is_missing(
    generations: GenerationKeeper, embedder: str, chunker: str, reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        await generations.create(IndexRecipe(embedder, chunker))
    assert len(await generations.all()) == 1


async def test_a_generation_is_built_and_fed_by_a_model_of_its_own(
    platform: Platform, parser: Parser, owner: Database, tmp_path: Path
) -> None:
    write(tmp_path / NAME, CONFIG, weights())
    platform.settings = platform.settings.model_copy(update={"embedding_models_dir": tmp_path})
    first = await platform.upload(b"Herons eat fish.")
    await ingest_all(platform)
    generations = GenerationKeeper(
        owner, chunk_stores(ChunkStoreSettings.of({}), owner), models_dir=tmp_path
    )
    number = await generations.create(IndexRecipe(NAME, "semchunk-64"))
    await Builders(platform, parser).build(number)
    assert await generations.switch(number, unevaluated=True) == 0
    second = await platform.upload(b"Boats lie in the harbour.", tenant_id=first.tenant_id)
    await ingest_all(platform, "later")
    wide = f"SELECT count(*) FROM chunks_g{number} WHERE vector_dims(embedding) = $1"  # noqa: S608
    assert await platform.admin.fetchval(wide, TINY_DIMENSION) == 2
    assert await chunk_count(platform, number, second) == 1


def test_the_settings_are_compared_with_the_live_generation() -> None:
    live = IndexRecipe(MODEL_NAME, "semchunk-256")
    assert difference(live, live) is None
    told = difference(live, SMALL)
    assert told == "The settings ask for chunker semchunk-64 instead of semchunk-256."
    assert dimension_of(MODEL_NAME) == DIMENSION
    check_recipe(live)
