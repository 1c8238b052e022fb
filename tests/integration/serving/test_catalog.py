from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

import pytest

from planes.serving.agent.catalog import DocumentCatalog
from planes.serving.retrieval.neighbours import Neighbours
from planes.shared.domain import DocumentFilter, Passage, SearchScope, new_id
from planes.shared.embedding import MiniLMEmbedder
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.fakes_serving import Library, chunk

YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder()


@pytest.fixture
def library(database_urls: Mapping[str, str], embedder: MiniLMEmbedder) -> Library:
    return Library(database_urls, embedder)


@pytest.fixture
async def catalog(database_urls: Mapping[str, str]) -> AsyncIterator[DocumentCatalog]:
    database = Database(database_urls["serving"], service="test")
    await database.open()
    yield DocumentCatalog(database, PostgresChunks(database))
    await database.close()


async def with_headings(library: Library, tenant_id: UUID) -> UUID:
    """A document of three chunks under two headings."""
    document, version = new_id(), new_id()
    headings = ["Harbour", "Harbour", "Harbour > Cranes"]
    chunks = [
        chunk(
            f"Paragraph {ordinal}.",
            tenant_id=tenant_id,
            document_id=document,
            version_id=version,
            ordinal=ordinal,
            start=20 * ordinal,
            page=ordinal + 1,
            heading=heading,
        )
        for ordinal, heading in enumerate(headings)
    ]
    await library.add_chunks("harbour.txt", chunks)
    return document


async def test_a_list_holds_what_the_caller_may_search_and_nothing_else(
    catalog: DocumentCatalog, library: Library
) -> None:
    acme, globex = await library.add_tenant(), await library.add_tenant()
    harbour, _ = await library.add_document(acme, "harbour.txt", ["The harbour is old."])
    bridge, hidden = await library.add_document(acme, "bridge.txt", ["The bridge is red."])
    gone, _ = await library.add_document(acme, "gone.txt", ["The ferry is gone."])
    await library.add_document(globex, "secret.txt", ["The code is swordfish."])
    await library.tombstone(gone)

    async def names(*arguments: object) -> set[str]:
        scope = SearchScope(acme, 1, *arguments)  # type: ignore[arg-type]
        return {one.name for one in await catalog.documents(scope, limit=10)}

    assert await names() == {"harbour.txt", "bridge.txt"}
    assert await names((hidden,)) == {"harbour.txt"}
    assert await names((), (bridge,)) == {"bridge.txt"}
    assert await names((), ()) == set()
    assert await names((), None, DocumentFilter(tags=("red",))) == set()
    assert await names((), None, DocumentFilter(uploaded_from=YEAR_2000)) == {
        "harbour.txt",
        "bridge.txt",
    }
    assert len(await catalog.documents(SearchScope(acme, 1), limit=1)) == 1
    assert harbour != bridge


async def test_an_outline_holds_the_headings_in_reading_order(
    catalog: DocumentCatalog, library: Library
) -> None:
    acme, globex = await library.add_tenant(), await library.add_tenant()
    document = await with_headings(library, acme)
    found = await catalog.outline(document, SearchScope(acme, 1), limit=10)
    assert [(one.breadcrumb, one.page) for one in found] == [
        ("Harbour", 1),
        ("Harbour > Cranes", 3),
    ]
    assert await catalog.outline(document, SearchScope(globex, 1), limit=10) == []
    assert await catalog.outline(document, SearchScope(acme, 1, (), ()), limit=10) == []
    old = SearchScope(acme, 1, (), None, DocumentFilter(uploaded_to=YEAR_2000))
    assert await catalog.outline(document, old, limit=10) == []


async def test_the_best_passages_are_read_with_what_stands_beside_them(
    database_urls: Mapping[str, str], library: Library
) -> None:
    acme, globex = await library.add_tenant(), await library.add_tenant()
    document, version = new_id(), new_id()
    of = {"tenant_id": acme, "document_id": document, "version_id": version}
    chunks = [chunk(f"Paragraph {n}.", ordinal=n, start=20 * n, **of) for n in range(9)]
    await library.add_chunks("harbour.txt", chunks)
    passages = [Passage(chunks[n], "harbour.txt", 1, 0.0) for n in (1, 2, 8, 5)]
    database = Database(database_urls["serving"], service="test")
    await database.open()

    async def beside(scope: SearchScope) -> list[list[int]]:
        found = await Neighbours(PostgresChunks(database)).expand(passages, scope)
        assert [one.chunk for one in found] == [one.chunk for one in passages]
        return [[c.ordinal for c in one.read if c != one.chunk] for one in found]

    assert await beside(SearchScope(acme, 1)) == [[0], [3], [7], []]
    assert await beside(SearchScope(acme, 1, (version,))) == [[], [], [], []]
    assert await beside(SearchScope(globex, 1)) == [[], [], [], []]
    await database.close()
