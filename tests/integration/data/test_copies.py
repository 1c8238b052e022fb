"""The index copied to another store: live, resumable, to the last bit, and switched to and back."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import pytest

from planes.shared.domain import IndexRecipe
from planes.shared.embedding_models import MODEL_NAME
from planes.shared.errors import Conflict, InvalidInput, Unavailable
from planes.shared.stores.chunk_generations import prepare_chunk_store
from planes.shared.stores.chunk_settings import ChunkStoreSettings, chunk_stores
from planes.shared.stores.chunks_by_generation import ChunksByGeneration
from planes.shared.stores.copy_check import CopyCheck, TenantComparison
from planes.shared.stores.generation_keeper import GenerationKeeper
from planes.shared.stores.postgres import Database
from services.cli.generation_desk import Desk
from services.cli.store_copies import begin_copy, verify_copy
from tests.integration.data.conftest import Builders, Platform, Upload, ingest_all, remove_all
from tests.integration.data.test_generations import BEES, RHINE, STEAM
from tests.servers.qdrant import API_KEY

pytestmark = pytest.mark.integration
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


@dataclass
class Stores:
    """PostgreSQL and another store, with the variables that name it, and the operator's hands."""

    other: str
    variables: dict[str, str]
    settings: ChunkStoreSettings
    chunks: ChunksByGeneration
    keeper: GenerationKeeper
    owner: Database

    async def compare(self, source: int, target: int) -> list[TenantComparison]:
        check = CopyCheck(self.owner, self.chunks, source=source, target=target)
        return [found async for found in check.compare()]

    async def is_equal(self, source: int, target: int, *, chunks: int) -> bool:
        found = await self.compare(source, target)
        assert sum(one.chunks[0] for one in found) == chunks
        return all(one.is_equal and one.sha256[0] == one.sha256[1] for one in found)

    async def count(self, generation: int, upload: Upload) -> int:
        counts = await self.chunks.count_versions(
            upload.tenant_id, [upload.version_id], generation=generation
        )
        return counts.get(upload.version_id, 0)


def _variables(request: pytest.FixtureRequest, other: str) -> dict[str, str]:
    name = f"test_{uuid4().hex}"
    if other == "mongo":
        url: str = request.getfixturevalue("mongo_url")
        return {"MONGO_URL": url, "MONGO_DATABASE": name, "MONGO_EXACT_SEARCH": "true"}
    return {
        "QDRANT_URL": request.getfixturevalue("qdrant_url"),
        "QDRANT_API_KEY": API_KEY,
        "QDRANT_PREFIX": name,
        "QDRANT_EXACT_SEARCH": "true",
    }


@pytest.fixture(params=["mongo", "qdrant"])
async def stores(
    request: pytest.FixtureRequest, platform: Platform, owner: Database
) -> AsyncIterator[Stores]:
    """The other store is known, and the index stands in PostgreSQL."""
    variables = {"CHUNK_STORE": "postgres", **_variables(request, request.param)}
    settings = ChunkStoreSettings.of(variables)
    platform.settings = platform.settings.model_copy(update=settings.model_dump())
    await prepare_chunk_store(settings, _owner_url(request))
    async with _open(settings, owner) as chunks:
        keeper = GenerationKeeper(owner, chunks)
        yield Stores(request.param, variables, settings, chunks, keeper, owner)
        other = await chunks.kept_in(request.param)
        for number in await other.generations():
            await other.drop_generation(number)


def _owner_url(request: pytest.FixtureRequest) -> str:
    urls: dict[str, str] = request.getfixturevalue("database_urls")
    return urls["admin"]


@asynccontextmanager
async def _open(
    settings: ChunkStoreSettings, database: Database
) -> AsyncIterator[ChunksByGeneration]:
    chunks = chunk_stores(settings, database)
    await chunks.open()
    yield chunks
    await chunks.close()


async def total(platform: Platform) -> int:
    query = "SELECT sum(chunk_count) FROM document_versions WHERE visibility = 'live'"
    return int(await platform.admin.fetchval(query))


async def begun(platform: Platform, stores: Stores) -> tuple[Upload, int]:
    """Make a copy that still lacks the one document that there is."""
    upload = await platform.upload(RHINE)
    await ingest_all(platform)
    return upload, await stores.keeper.create_copy(1, store=stores.other)


async def test_a_copy_is_verified_switched_to_and_back_without_losing_a_document(
    platform: Platform, stores: Stores, builders: Builders
) -> None:
    rhine, bees = await platform.upload(RHINE * 8), await platform.upload(BEES)
    await ingest_all(platform)
    number = await stores.keeper.create_copy(1, store=stores.other)
    built = await builders.build(number)
    assert (built.versions, built.failed, built.is_done) == (2, [], True)
    assert built.chunks == await total(platform)
    assert await stores.is_equal(1, number, chunks=built.chunks)
    with pytest.raises(Conflict, match="never compared"):
        await stores.keeper.switch(number)
    await stores.keeper.note_verified(number, {"chunks": built.chunks})
    assert await stores.keeper.switch(number) == 0
    assert await stores.count(number, rhine) == (await platform.version(rhine))["chunk_count"]

    later = await platform.upload(STEAM, tenant_id=bees.tenant_id)
    await ingest_all(platform, "after")
    row = await platform.version(later)
    assert (row["status"], row["generation"]) == ("ready", number)
    assert await stores.count(1, later) == 0
    assert await stores.count(number, later) == row["chunk_count"] > 0
    assert await stores.keeper.switch(1) == 1, "it lacks what came since"
    assert (await builders.build(1)).versions == 1
    assert await stores.keeper.switch(1) == 0
    assert await stores.is_equal(number, 1, chunks=await total(platform))


async def test_what_comes_goes_and_changes_during_a_copy_is_as_it_should_be(
    platform: Platform, stores: Stores, builders: Builders
) -> None:
    kept = await platform.upload(RHINE)
    deleted = await platform.upload(STEAM, tenant_id=kept.tenant_id)
    replaced = await platform.upload(b"An old text about bees. " * 40, tenant_id=kept.tenant_id)
    await ingest_all(platform)
    number = await stores.keeper.create_copy(1, store=stores.other)
    await builders.build(number)
    both = await stores.count(1, deleted) + await stores.count(number, deleted)
    await platform.delete(deleted)
    newer = await platform.upload(BEES, replaces=replaced)
    await ingest_all(platform, "meanwhile")
    await builders.build(number)
    assert await remove_all(platform) == both
    receipt = await platform.admin.fetchrow("SELECT * FROM deletions")
    assert receipt["chunks"] == both, "of both stores"
    for upload in (deleted, replaced):
        assert await stores.count(number, upload) == 0
    assert await stores.count(number, newer) == (await platform.version(newer))["chunk_count"]
    assert await stores.is_equal(1, number, chunks=await total(platform))
    assert await stores.keeper.switch(number, unevaluated=True) == 0


async def test_a_deleted_document_never_comes_back_with_a_copy_that_lagged_behind(
    platform: Platform, stores: Stores, builders: Builders
) -> None:
    upload, number = await begun(platform, stores)
    await platform.delete(upload)
    assert (await builders.build(number)).versions == 0
    await remove_all(platform)
    assert (await builders.build(number)).is_done
    assert await stores.count(number, upload) == 0


async def test_a_copy_that_is_killed_is_taken_up_where_it_was(
    platform: Platform, stores: Stores, builders: Builders
) -> None:
    upload = await platform.upload(RHINE * 60)
    await ingest_all(platform)
    number = await stores.keeper.create_copy(1, store=stores.other)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _BUILDER,
        str(number),
        env={
            **os.environ,
            **stores.variables,
            "DATABASE_URL": platform.settings.database_url.get_secret_value(),
            "OBJECTS_DIR": str(platform.settings.objects_dir),
        },
    )
    async with asyncio.timeout(120):
        while await stores.count(number, upload) == 0:
            await asyncio.sleep(0.01)
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    before = await stores.count(number, upload)
    async with asyncio.timeout(20):  # until the server notices that the builder is gone
        while not (rest := await builders.build(number)).is_alone:
            await asyncio.sleep(0.1)
    assert rest.is_done
    assert rest.chunks <= await total(platform) - before
    assert await stores.is_equal(1, number, chunks=await total(platform))
    assert (await stores.keeper.exact_progress(number)).missing == 0


async def test_a_chunk_that_was_spoiled_in_the_copy_is_noticed_and_mended(
    platform: Platform, stores: Stores, builders: Builders
) -> None:
    upload = await platform.upload(RHINE * 8)
    await platform.upload(BEES)
    await ingest_all(platform)
    number = await stores.keeper.create_copy(1, store=stores.other)
    await builders.build(number)
    found = stores.chunks.embedded_chunks(upload.tenant_id, [upload.version_id], generation=number)
    chunk, vector = (await anext(found))[0]
    await found.aclose()
    await stores.chunks.add_chunks([chunk], -vector[None], generation=number)
    assert (await stores.keeper.exact_progress(number)).missing == 0, "as many as before"
    (differing,) = [one for one in await stores.compare(1, number) if not one.is_equal]
    assert differing.differing == [upload.version_id]
    assert differing.sha256[0] != differing.sha256[1]
    check = CopyCheck(stores.owner, stores.chunks, source=1, target=number)
    await check.doubt(differing)
    built = await builders.build(number)
    assert (built.versions, built.chunks, built.is_done) == (1, 1, True)
    assert await stores.is_equal(1, number, chunks=await total(platform))


async def test_a_document_whose_live_chunks_are_damaged_is_named_and_not_copied_as_if_it_were_whole(
    platform: Platform, stores: Stores, builders: Builders
) -> None:
    upload, whole = await platform.upload(RHINE * 8), await platform.upload(BEES)
    await ingest_all(platform)
    await platform.admin.execute(
        "DELETE FROM chunks_g1 WHERE version_id = $1 AND ordinal = 1", upload.version_id
    )
    number = await stores.keeper.create_copy(1, store=stores.other)
    built = await builders.build(number)
    assert [one["document_id"] for one in built.failed] == [str(upload.document_id)]
    assert await stores.count(number, whole) == (await platform.version(whole))["chunk_count"]
    assert await stores.keeper.switch(number, unevaluated=True) == 1


async def test_a_process_that_does_not_know_the_other_store_fails_instead_of_forgetting_it(
    platform: Platform, stores: Stores, builders: Builders
) -> None:
    upload, number = await begun(platform, stores)
    await builders.build(number)
    async with _open_ignorant(stores.owner) as ignorant:
        with pytest.raises(Unavailable, match=f"set {stores.other.upper()}_URL"):
            await ignorant.remove_everywhere(upload.tenant_id, upload.version_id)
        with pytest.raises(Unavailable, match=f"set {stores.other.upper()}_URL"):
            await ignorant.count_versions(upload.tenant_id, [], generation=number)
        with pytest.raises(InvalidInput, match=f"set {stores.other.upper()}_URL"):
            await ignorant.open()
        with pytest.raises(InvalidInput, match=f"set {stores.other.upper()}_URL"):
            await GenerationKeeper(stores.owner, ignorant).create_copy(1, store=stores.other)


@asynccontextmanager
async def _open_ignorant(owner: Database) -> AsyncIterator[ChunksByGeneration]:
    chunks = chunk_stores(ChunkStoreSettings.of({}), owner)
    yield chunks
    await chunks.close()


async def test_generations_stay_where_they_are_when_the_setting_changes(
    platform: Platform, stores: Stores
) -> None:
    upload = await platform.upload(RHINE)
    await ingest_all(platform)
    changed = stores.settings.model_copy(update={"chunk_store_wanted": stores.other})
    async with _open(changed, stores.owner) as chunks:
        counts = await chunks.count_versions(upload.tenant_id, [upload.version_id], generation=1)
        assert counts[upload.version_id] > 0
        number = await GenerationKeeper(stores.owner, chunks).create(
            IndexRecipe(MODEL_NAME, "semchunk-64")
        )
        assert (await chunks.kinds())[number] == stores.other
        assert set(await chunks.generations()) == {1, number}


async def test_a_deleted_tenant_leaves_no_chunk_in_any_store(
    platform: Platform, stores: Stores, builders: Builders
) -> None:
    upload, other = await platform.upload(RHINE), await platform.upload(BEES)
    await ingest_all(platform)
    number = await stores.keeper.create_copy(1, store=stores.other)
    await builders.build(number)
    both = await stores.count(1, upload) + await stores.count(number, upload)
    assert await stores.chunks.remove_tenant(upload.tenant_id) == both
    assert await stores.count(number, other) == await stores.count(1, other) > 0


async def test_the_operators_steps_take_up_a_copy_verify_it_and_name_what_is_wrong(
    platform: Platform,
    stores: Stores,
    builders: Builders,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await platform.upload(RHINE * 8)
    await ingest_all(platform)
    nothing = cast(Any, None)
    desk = Desk(stores.keeper, nothing, nothing, stores.chunks, stores.owner)
    with pytest.raises(Conflict, match="stands in postgres"):
        await begin_copy(desk, source=stores.other, target="postgres")
    with pytest.raises(InvalidInput, match="already"):
        await begin_copy(desk, source="postgres", target="postgres")
    number = await begin_copy(desk, source="postgres", target=stores.other)
    assert await begin_copy(desk, source="postgres", target=stores.other) == number
    await builders.build(number)
    later = await platform.upload(BEES)
    await ingest_all(platform, "after")
    assert not await verify_copy(desk, number)
    assert "1 documents are missing" in capsys.readouterr().out
    assert (await stores.keeper.get(number)).verified is None
    await platform.delete(later)
    assert await verify_copy(desk, number)
    verified = (await stores.keeper.get(number)).verified or {}
    chunks = await total(platform)
    assert (verified["tenants"], verified["chunks"], verified["compared_with"]) == (1, chunks, 1)
    assert f"{chunks} and {chunks} chunks" in capsys.readouterr().out
    with pytest.raises(Conflict, match="no copy of the live one"):
        await verify_copy(desk, 1)
