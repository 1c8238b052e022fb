"""What the Qdrant adapter promises besides what every chunk store does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from planes.shared.domain import Chunk, SearchScope, chunk_id
from planes.shared.errors import Conflict, InvalidInput, Unavailable
from planes.shared.indexing import indexed_terms
from planes.shared.lexical import lexical_score, term_weights
from planes.shared.stores.postgres_search_registry import SearchedCorpus
from planes.shared.stores.qdrant import QdrantChunks
from planes.shared.stores.qdrant_settings import QdrantSettings
from services.embedded.ports import free_port
from tests.contract.conftest import ACME
from tests.servers import qdrant
from tests.servers.qdrant import QdrantServer, settings_of

pytestmark = pytest.mark.contract("chunks", "qdrant", "qdrant")


class KnownCorpus:
    """A registry that knows one term, and filters no documents."""

    async def corpus(self, question: str, scope: SearchScope) -> SearchedCorpus:
        weights = {"heron": 2.0} if "heron" in question else {}
        return SearchedCorpus(weights, scope.document_ids)


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Any]]:
    """Open stores on the same collections, by the address and further settings."""
    stores: list[QdrantChunks] = []
    prefix = uuid4().hex

    async def open_store(url: str, **values: object) -> QdrantChunks:
        settings = settings_of(url, **{"qdrant_prefix": prefix, **values})
        stores.append(QdrantChunks(settings, KnownCorpus()))
        await stores[-1].open()
        return stores[-1]

    yield open_store
    for store in stores:
        await store.close()


@pytest.fixture(scope="module")
def own_server(server_folder: Path) -> Iterator[QdrantServer]:
    """A server that the test may kill."""
    if reason := qdrant.missing():
        pytest.skip(reason)
    server = QdrantServer(server_folder / f"qdrant-{uuid4().hex}", free_port())
    server.start()
    try:
        server.wait_until_open()
        yield server
    finally:
        server.end()


def written(count: int, dimension: int = 384) -> tuple[UUID, list[Chunk], np.ndarray]:
    """A version, its chunks and their vectors."""
    version_id, document_id = uuid4(), uuid4()
    chunks = [
        Chunk(
            id=chunk_id(version_id, ordinal),
            tenant_id=ACME,
            document_id=document_id,
            version_id=version_id,
            ordinal=ordinal,
            start=0,
            end=5,
            page=None,
            heading="",
            text=f"heron number {ordinal}",
            language="en",
        )
        for ordinal in range(count)
    ]
    vectors = np.random.default_rng(0).normal(size=(count, dimension)).astype(np.float32)
    return version_id, chunks, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def test_what_was_written_outlives_the_servers_death(
    own_server: QdrantServer, opened: Callable[..., Any]
) -> None:
    store = await opened(own_server.url)
    await store.create_generation(1, 384)
    version_id, chunks, vectors = written(1201)
    await store.replace_versions(chunks, vectors, generation=1)
    own_server.kill()
    with pytest.raises(Unavailable):
        await store.count_versions(ACME, [version_id], generation=1)
    own_server.start()
    own_server.wait_until_open()
    assert await store.count_versions(ACME, [version_id], generation=1) == {version_id: 1201}
    ids = [chunk.id for chunk in chunks]
    held = await store.vectors(ACME, ids, generation=1)
    assert all(np.array_equal(held[key], row) for key, row in zip(ids, vectors, strict=True))


async def test_a_silent_server_costs_the_deadline_and_no_more(
    own_server: QdrantServer, opened: Callable[..., Any]
) -> None:
    store = await opened(own_server.url, qdrant_deadline_s=0.5)
    own_server.freeze()
    async with asyncio.timeout(20):
        with pytest.raises(Unavailable):
            await store.chunks_at(ACME, [(uuid4(), 0)], generation=1)
    own_server.go_on()
    assert await store.chunks_at(ACME, [(uuid4(), 0)], generation=1) == []


async def test_no_server_and_a_wrong_key_are_told_apart(
    qdrant_url: str, opened: Callable[..., Any]
) -> None:
    with pytest.raises(Unavailable):
        await opened(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(InvalidInput, match="QDRANT_API_KEY"):
        await opened(qdrant_url, qdrant_api_key="another")


async def test_an_old_server_is_refused_with_what_to_install(
    server_folder: Path, opened: Callable[..., Any]
) -> None:
    if reason := qdrant.missing():
        pytest.skip(reason)
    arguments = ("--version", "1.9.2")
    server = QdrantServer(server_folder / f"qdrant-{uuid4().hex}", free_port(), *arguments)
    server.start()
    try:
        server.wait_until_open()
        with pytest.raises(InvalidInput, match=r"1\.9\.2 is too old: install 1\."):
            await opened(server.url)
    finally:
        server.end()


async def test_a_generation_of_another_dimension_is_a_conflict(
    qdrant_url: str, opened: Callable[..., Any]
) -> None:
    store = await opened(qdrant_url)
    await store.create_generation(7, 8)
    await store.create_generation(7, 8)
    with pytest.raises(Conflict, match="8 dimensions"):
        await store.create_generation(7, 384)
    assert await store.generations() == {7: 8}
    await store.drop_generation(7)
    await store.drop_generation(7)
    assert await store.generations() == {}


async def test_two_who_make_a_generation_at_once_both_succeed(
    qdrant_url: str, opened: Callable[..., Any]
) -> None:
    stores = [await opened(qdrant_url) for _ in range(4)]
    await asyncio.gather(*(store.create_generation(1, 8) for store in stores))
    assert await stores[0].generations() == {1: 8}
    await stores[0].drop_generation(1)


async def test_writing_to_a_generation_that_is_not_there_names_the_command(
    qdrant_url: str, opened: Callable[..., Any]
) -> None:
    store = await opened(qdrant_url)
    _, chunks, vectors = written(1)
    with pytest.raises(Unavailable, match="polyplane migrate"):
        await store.replace_versions(chunks, vectors, generation=3)


@pytest.mark.parametrize(
    "values", [{"qdrant_exact_search": True}, {"qdrant_quantization": "int8"}, {}]
)
async def test_every_way_of_searching_finds_the_closest_with_its_cosine(
    qdrant_url: str, opened: Callable[..., Any], values: dict[str, object]
) -> None:
    store = await opened(qdrant_url, **values)
    await store.create_generation(1, 384)
    _, chunks, vectors = written(500)
    await store.replace_versions(chunks, vectors, generation=1)
    scope = SearchScope(tenant_id=ACME, generation=1)
    found = await store.search("?", vectors[77], scope=scope, depth=10)
    ordinals = {chunk.id: chunk.ordinal for chunk in chunks}
    scores = {ordinals[candidate.id]: candidate.dense for candidate in found.candidates}
    cosines = vectors @ vectors[77]
    assert set(scores) == set(np.argsort(-cosines)[:10].tolist())
    assert all(scores[row] == pytest.approx(cosines[row], abs=1e-5) for row in scores)
    await store.drop_generation(1)


async def test_the_lexical_score_is_bm25(qdrant_url: str, opened: Callable[..., Any]) -> None:
    store = await opened(qdrant_url)
    await store.create_generation(1, 384)
    _, chunks, vectors = written(2)
    await store.replace_versions(chunks, vectors, generation=1)
    scope = SearchScope(tenant_id=ACME, generation=1)
    found = await store.search("heron", vectors[0], scope=scope, depth=10)
    expected = lexical_score(term_weights(indexed_terms(chunks[0])), {"heron": 2.0})
    assert [c.lexical for c in found.candidates] == [pytest.approx(expected, rel=1e-5)] * 2
    found = await store.search("egret", vectors[0], scope=scope, depth=10)
    assert [c.lexical for c in found.candidates] == [0, 0]
    await store.drop_generation(1)


async def test_the_store_tells_what_it_is(qdrant_url: str, opened: Callable[..., Any]) -> None:
    described = await (await opened(qdrant_url)).describe()
    assert described["store"].startswith("Qdrant 1.")


@pytest.mark.parametrize(
    ("url", "flaw"),
    [
        ("http://qdrant.example.com:6333", "QDRANT_ALLOW_HTTP"),
        ("qdrant.example.com", "https://"),
        ("https://", "https://"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(url: str, flaw: str) -> None:
    with pytest.raises(ValueError, match=flaw):
        QdrantSettings.model_validate({"qdrant_url": url})


def test_plain_http_can_be_allowed() -> None:
    given = {"qdrant_url": "http://qdrant:6333", "qdrant_allow_http": True}
    assert QdrantSettings.model_validate(given).qdrant_url is not None
