"""What the registry tells of a search to stores that stand elsewhere."""

from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import asyncpg
import pytest

from planes.shared.domain import DocumentFilter, SearchScope
from planes.shared.errors import InvalidInput
from planes.shared.stores import postgres_search_registry
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_search_registry import SearchRegistry
from tests.contract.conftest import ACME, GLOBEX

LEGAL = DocumentFilter(tags=("legal",))


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    for tenant in (ACME, GLOBEX):
        await connection.execute(
            "INSERT INTO users (id, email, email_key, password_hash, display_name) "
            "VALUES ($1, '', $2, '', '')",
            tenant,
            str(tenant),
        )
    yield connection
    await connection.close()


@pytest.fixture
def registry(database_of: Callable[[str], Database]) -> SearchRegistry:
    """As the serving plane sees it."""
    return SearchRegistry(database_of("serving"))


async def add_documents(admin: asyncpg.Connection, tenant: object, tag: str, count: int) -> set:
    """Add documents and return their ids."""
    rows = [(uuid4(), tenant, [tag], uuid4().bytes, uuid4()) for _ in range(count)]
    await admin.executemany(
        "INSERT INTO documents (id, tenant_id, owner_id, name, sha256, newest_version_id, tags) "
        "VALUES ($1, $2, $2, '', $4, $5, $3)",
        rows,
    )
    return {row[0] for row in rows}


async def test_a_filter_becomes_the_ids_of_the_tenants_own_documents(
    registry: SearchRegistry, admin: asyncpg.Connection
) -> None:
    legal = await add_documents(admin, ACME, "legal", 3)
    await add_documents(admin, ACME, "other", 2)
    await add_documents(admin, GLOBEX, "legal", 2)
    some = next(iter(legal))
    await admin.execute("UPDATE documents SET deleted_at = now() WHERE id = $1", some)

    async def ids(**narrower: object) -> set | None:
        scope = SearchScope(tenant_id=ACME, generation=1, **narrower)  # type: ignore[arg-type]
        found = (await registry.corpus("", scope)).document_ids
        return None if found is None else set(found)

    assert await ids() is None
    assert await ids(document_ids=(some,)) == {some}
    assert await ids(documents=LEGAL) == legal - {some}
    one = next(iter(legal - {some}))
    assert await ids(documents=LEGAL, document_ids=(one, some, uuid4())) == {one}
    assert await ids(documents=DocumentFilter(tags=("none",))) == set()


async def test_a_filter_that_means_too_many_documents_is_refused(
    registry: SearchRegistry, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_search_registry, "MOST_DOCUMENTS", 3)
    scope = SearchScope(tenant_id=ACME, generation=1, documents=LEGAL)
    legal = await add_documents(admin, ACME, "legal", 3)
    assert set((await registry.corpus("", scope)).document_ids or ()) == legal
    await add_documents(admin, ACME, "legal", 1)
    with pytest.raises(InvalidInput, match="Narrow it"):
        await registry.corpus("", scope)


async def test_rare_terms_weigh_more_and_unknown_ones_nothing(
    registry: SearchRegistry, admin: asyncpg.Connection
) -> None:
    await admin.execute("INSERT INTO corpus_languages VALUES ($1, 1, 'en', 100)", ACME)
    await admin.executemany(
        "INSERT INTO term_frequencies VALUES ($1, 1, $2, $3)",
        [(ACME, "heron", 1), (ACME, "river", 90), (GLOBEX, "owl", 1)],
    )
    scope = SearchScope(tenant_id=ACME, generation=1)
    weights = (await registry.corpus("Herons, rivers and owls", scope)).weights
    assert weights.keys() == {"heron", "river"}
    assert weights["heron"] > weights["river"] > 0
