"""What holds of chunks in PostgreSQL alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import asyncpg
import numpy as np
import pytest
from numpy.typing import NDArray

from planes.shared.domain import SearchScope
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.contract.conftest import ACME, GLOBEX
from tests.contract.test_chunk_store import direction, scope, version_of
from tests.fakes_serving import Library

pytestmark = pytest.mark.contract("chunks", "postgres", "postgres")


async def test_a_role_that_only_reads_cannot_write(
    database_of: Callable[[str], Database],
) -> None:
    version_id, of_version = version_of("plans")
    await PostgresChunks(database_of("data")).add_chunks(
        of_version, np.stack([direction(1)]), generation=1
    )
    reader = PostgresChunks(database_of("serving"))
    assert not (await reader.search("plans", direction(1), scope=scope(), depth=1)).is_empty
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.remove_everywhere(ACME, version_id)


async def test_a_generation_that_is_not_there_is_unavailable(
    database_of: Callable[[str], Database],
) -> None:
    absent = SearchScope(tenant_id=ACME, generation=7)
    with pytest.raises(Unavailable):
        await PostgresChunks(database_of("serving")).search(
            "plans", direction(1), scope=absent, depth=1
        )


async def test_making_a_generation_that_is_there_is_no_error_of_the_database(
    database_urls: dict[str, str], server_folder: Path
) -> None:
    log = server_folder / "postgres.log"
    database = Database(database_urls["admin"], service="test")
    await database.open()
    errors = log.read_text("utf-8").count("ERROR")
    await PostgresChunks(database).create_generation(1, 384)
    await database.close()
    assert log.read_text("utf-8").count("ERROR") == errors


async def test_no_service_makes_or_drops_a_generation(
    database_of: Callable[[str], Database],
) -> None:
    store = PostgresChunks(database_of("data"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await store.create_generation(2, 8)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await store.drop_generation(1)


async def test_a_search_by_the_graph_finds_what_an_exact_one_does(
    database_of: Callable[[str], Database], database_urls: dict[str, str]
) -> None:
    admin = await asyncpg.connect(database_urls["admin"])
    await admin.execute(
        "CREATE OR REPLACE FUNCTION vectors_to_graph() RETURNS integer LANGUAGE sql IMMUTABLE "
        "RETURN 50"
    )
    await admin.execute("INSERT INTO corpus_languages VALUES ($1, 1, 'en', 600)", ACME)
    store, source = PostgresChunks(database_of("data")), np.random.default_rng(1)
    written: dict[UUID, NDArray[np.float32]] = {}
    versions = [version_of(*["plans"] * 300) for _ in range(2)]
    for tenant, (_, of_version) in (
        (GLOBEX, version_of(*["plans"] * 300, tenant=GLOBEX)),
        *((ACME, version) for version in versions),
    ):
        vectors = source.standard_normal((300, 384)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        await store.add_chunks(of_version, vectors, generation=1)
        if tenant == ACME:
            written |= {one.id: row for one, row in zip(of_version, vectors, strict=True)}
    graphed = await admin.fetch("SELECT tenant_id, is_graphed FROM vectors_g1 GROUP BY 1, 2")
    assert {tuple(row) for row in graphed} == {(GLOBEX, False), (ACME, True)}
    assert await admin.fetchval("SELECT count(*) FROM vectors_g1") == 900
    await admin.execute("SELECT set_config('app.tenant_id', $1, false)", str(ACME))
    assert await admin.fetchval("SELECT is_graph_faster(1, $1, 600)", ACME)
    await admin.close()

    async def check(**narrower: object) -> None:
        question = direction(*source.standard_normal(384))
        seen = await store.search("", question, scope=scope(**narrower), depth=10)
        nearest = sorted(written, key=lambda one: -float(written[one] @ question))[:10]
        assert len({one.id for one in seen.candidates} & set(nearest)) >= 9
        for one in seen.candidates:
            assert one.dense == pytest.approx(float(written[one.id] @ question), abs=1e-5)

    await check()
    hidden, of_hidden = versions[0]
    written = {key: row for key, row in written.items() if key not in {c.id for c in of_hidden}}
    await check(hidden_versions=(hidden,))
    assert await store.remove_everywhere(ACME, hidden) == 300
    await check()
    assert await store.remove_tenant(ACME) == 300
    assert (await store.search("", direction(1), scope=scope(), depth=10)).is_empty


async def test_a_search_knows_no_other_tenant_than_the_callers(
    database_of: Callable[[str], Database],
) -> None:
    _, of_version = version_of("plans")
    data = database_of("data")
    await PostgresChunks(data).add_chunks(of_version, np.stack([direction(1)]), generation=1)
    search = (
        "SELECT count(*) FROM search_chunks($1, 1, 1, '{}', NULL, array_fill(0.5, ARRAY[384])"
        "::vector, 10, 'plan', ARRAY['plan']::tsquery[], ARRAY[1.0])"
    )
    for tenant, found in ((ACME, 1), (GLOBEX, 0)):
        async with database_of("serving").tenant(tenant) as connection:
            assert await connection.fetchval(search, ACME) == found


async def test_row_level_security_shows_no_other_tenants_rows(
    database_of: Callable[[str], Database],
) -> None:
    _, of_version = version_of("plans")
    await PostgresChunks(database_of("data")).add_chunks(
        of_version, np.stack([direction(1)]), generation=1
    )
    for tenant, rows in ((ACME, 1), (GLOBEX, 0)):
        async with database_of("serving").tenant(tenant) as connection:
            for table in ("chunks_g1", "vectors_g1"):
                count = f"SELECT count(*) FROM {table}"  # noqa: S608
                assert await connection.fetchval(count) == rows


class Drawn:
    """Vectors in place of an embedder's: words alone decide what is found."""

    def __init__(self) -> None:
        self._source = np.random.default_rng(1)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = self._source.standard_normal((len(texts), 384)).astype(np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


async def test_words_find_chunks_of_chosen_documents_that_are_common_elsewhere(
    database_of: Callable[[str], Database], database_urls: dict[str, str]
) -> None:
    embedder = Drawn()
    library = Library(database_urls, embedder)
    tenant_id = await library.add_tenant()
    await library.add_document(tenant_id, "all.txt", ["Herons nest here."] * 310 + ["A nest."] * 30)
    plain = ["Nothing of that kind."] * 150
    chosen, _ = await library.add_document(tenant_id, "chosen.txt", [*plain, "One nest."])
    (vector,) = embedder.embed(["herons nest"])
    store = PostgresChunks(database_of("serving"))
    within = SearchScope(tenant_id, 1, document_ids=(chosen,))
    found = await store.search("herons nest", vector, scope=within, depth=10)
    assert len([one for one in found.candidates if one.lexical]) == 1
