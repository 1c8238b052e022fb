"""What every chunk store does: find by meaning and by words, within a scope, and nothing beyond."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest
from numpy.typing import NDArray

from planes.shared.domain import (
    Candidate,
    Chunk,
    Comparison,
    DocumentFilter,
    MetadataCondition,
    SearchScope,
    chunk_id,
)
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunk_rows import indexed_terms
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.contract.conftest import ACME, GLOBEX

Vector = NDArray[np.float32]


def direction(*weights: float) -> Vector:
    """A unit vector that leans towards the first axes by the given weights."""
    vector = np.zeros(384, dtype=np.float32)
    vector[: len(weights)] = weights
    return vector / np.linalg.norm(vector)


def version_of(
    *texts: str, tenant: UUID = ACME, document: UUID | None = None
) -> tuple[UUID, list[Chunk]]:
    """A version with one chunk for each text."""
    version_id, document_id = uuid4(), document or uuid4()
    chunks = [
        Chunk(
            id=chunk_id(version_id, ordinal),
            tenant_id=tenant,
            document_id=document_id,
            version_id=version_id,
            ordinal=ordinal,
            start=ordinal * 100,
            end=ordinal * 100 + len(text),
            page=ordinal + 1,
            heading="Guide > Birds",
            text=text,
            language="en",
        )
        for ordinal, text in enumerate(texts)
    ]
    return version_id, chunks


def scope(tenant: UUID = ACME, **narrower: Any) -> SearchScope:
    return SearchScope(tenant_id=tenant, generation=1, **narrower)


def texts_of(candidates: tuple[Candidate, ...]) -> set[str]:
    return {candidate.chunk.text for candidate in candidates}


async def counted(chunks: PostgresChunks, version_id: UUID) -> int:
    counts = await chunks.count_versions(ACME, [version_id], generation=1)
    return counts.get(version_id, 0)


@pytest.fixture
def publish(chunks: PostgresChunks, database_of: Callable[[str], Database]) -> Any:
    """Write a version and count its words, as publishing does."""

    async def write(version: tuple[UUID, list[Chunk]], *vectors: Vector) -> UUID:
        version_id, of_version = version
        given = vectors or tuple(direction(1) for _ in of_version)
        await chunks.replace_versions(of_version, np.stack(given), generation=1)
        async with database_of("data").tenant(of_version[0].tenant_id) as connection:
            await connection.execute(
                "INSERT INTO corpus_languages VALUES ($1, 1, 'en', $2) ON CONFLICT "
                "(tenant_id, generation, language) "
                "DO UPDATE SET chunks = corpus_languages.chunks + excluded.chunks",
                of_version[0].tenant_id,
                len(of_version),
            )
            for chunk in of_version:
                await connection.executemany(
                    "INSERT INTO term_frequencies VALUES ($1, 1, $2, 1) ON CONFLICT "
                    "(tenant_id, generation, term) "
                    "DO UPDATE SET chunks = term_frequencies.chunks + 1",
                    [(chunk.tenant_id, term) for term in sorted(set(indexed_terms(chunk)))],
                )
        return version_id

    return write


async def test_finds_by_meaning_with_the_cosine_as_score(
    chunks: PostgresChunks, publish: Any
) -> None:
    await publish(version_of("near", "far"), direction(1), direction(0, 1))
    found = await chunks.search("nothing", direction(3, 4), scope=scope(), depth=10)
    scores = {candidate.chunk.text: candidate.dense for candidate in found.candidates}
    assert scores["near"] == pytest.approx(0.6, abs=1e-5)
    assert scores["far"] == pytest.approx(0.8, abs=1e-5)


async def test_finds_by_words_what_meaning_misses(chunks: PostgresChunks, publish: Any) -> None:
    texts = [f"filler number {n}" for n in range(10)]
    vectors = [direction(1) for _ in texts]
    await publish(version_of(*texts, "The herons were nesting"), *vectors, direction(0, 1))
    found = await chunks.search("heron's nests", direction(1), scope=scope(), depth=3)
    best = max(found.candidates, key=lambda candidate: candidate.lexical or 0)
    assert best.chunk.text == "The herons were nesting"
    assert best.dense == pytest.approx(0, abs=1e-5), "both scores are filled"
    assert all(candidate.lexical is not None for candidate in found.candidates)


async def test_a_rare_word_weighs_more_than_a_common_one(
    chunks: PostgresChunks, publish: Any
) -> None:
    common = [f"the river and its {n} bridges" for n in ("old", "new", "long", "short", "grey")]
    await publish(version_of(*common, "a kingfisher"))
    found = await chunks.search("kingfisher river", direction(0, 1), scope=scope(), depth=10)
    best = max(found.candidates, key=lambda candidate: candidate.lexical or 0)
    assert best.chunk.text == "a kingfisher"


async def test_chunks_come_back_as_they_were_written(chunks: PostgresChunks, publish: Any) -> None:
    version = version_of("Ein Fünf-Sterne-Hotel 👩‍🚀 'quoted' \\ \"text\"\nwith lines")
    await publish(version)
    found = await chunks.search("hotel", direction(1), scope=scope(), depth=1)
    assert [candidate.chunk for candidate in found.candidates] == version[1]


async def test_never_returns_another_tenants_chunk(chunks: PostgresChunks, publish: Any) -> None:
    theirs = version_of("secret plans", tenant=GLOBEX)
    await publish(theirs)
    await publish(version_of("our plans"))
    for narrower in ({}, {"document_ids": (theirs[1][0].document_id,)}):
        found = await chunks.search("secret plans", direction(1), scope=scope(**narrower), depth=10)
        assert texts_of(found.candidates) <= {"our plans"}
    empty = await chunks.search("plans", direction(1), scope=scope(uuid4()), depth=10)
    assert empty.is_empty


async def test_a_role_that_only_reads_cannot_write(
    publish: Any, database_of: Callable[[str], Database]
) -> None:
    version_id = await publish(version_of("plans"))
    reader = PostgresChunks(database_of("serving"))
    assert not (await reader.search("plans", direction(1), scope=scope(), depth=1)).is_empty
    with pytest.raises(Exception, match="permission denied"):
        await reader.remove_everywhere(ACME, version_id)


async def test_hidden_versions_and_other_documents_are_left_out_before_the_ranking(
    chunks: PostgresChunks, publish: Any
) -> None:
    hidden = await publish(version_of(*[f"plans {n}" for n in range(20)]))
    wanted = version_of("plans in the open", "more plans")
    await publish(wanted, direction(0, 1), direction(0, 1))
    found = await chunks.search(
        "plans", direction(1), scope=scope(hidden_versions=(hidden,)), depth=5
    )
    assert texts_of(found.candidates) == {"plans in the open", "more plans"}
    only = scope(document_ids=(wanted[1][0].document_id,))
    found = await chunks.search("plans", direction(1), scope=only, depth=5)
    assert texts_of(found.candidates) == {"plans in the open", "more plans"}
    nothing = await chunks.search("plans", direction(1), scope=scope(document_ids=()), depth=5)
    assert nothing.is_empty


@pytest.fixture
async def labelled(publish: Any, database_urls: dict[str, str]) -> None:
    """Documents named by their one chunk's text, with tags, a day of upload, and metadata."""
    admin = await asyncpg.connect(database_urls["admin"])
    await admin.execute(
        "INSERT INTO users (id, email, email_key, password_hash, display_name) "
        "VALUES ($1, '', '', '', '')",
        ACME,
    )
    for name, tags, day, metadata in (
        (
            "old",
            ["legal", "paper"],
            1,
            '{"year": 1999, "day": "1999-05-01", "by": {"team": "x"}}',
        ),
        (
            "new",
            ["legal"],
            10,
            '{"year": 2026, "day": "2026-01-31", "by": {"team": "y", "n": 1}}',
        ),
        ("bare", [], 20, '{"of": "ark"}'),
        ("text", ["other"], 30, '{"year": "2020", "day": null, "of": "Zoo"}'),
    ):
        version_id, of_version = version_of(name)
        await publish((version_id, of_version))
        await admin.execute(
            "INSERT INTO documents (id, tenant_id, owner_id, name, sha256, newest_version_id, "
            "tags, created_at, metadata) VALUES ($1, $2, $2, $3, $4, $5, $6, $7, $8::jsonb)",
            of_version[0].document_id,
            ACME,
            name,
            name.encode(),
            version_id,
            tags,
            datetime(2026, 5, day, tzinfo=UTC),
            metadata,
        )
    await admin.close()


def _where(key: str, comparison: Comparison, value: object) -> DocumentFilter:
    return DocumentFilter(conditions=(MetadataCondition(key, comparison, value),))


@pytest.mark.usefixtures("labelled")
@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (DocumentFilter(), {"old", "new", "bare", "text"}),
        (DocumentFilter(tags=("paper", "other")), {"old", "text"}),
        (DocumentFilter(tags=()), set()),
        (DocumentFilter(uploaded_from=datetime(2026, 5, 10, tzinfo=UTC)), {"new", "bare", "text"}),
        (DocumentFilter(uploaded_to=datetime(2026, 5, 10, tzinfo=UTC)), {"old"}),
        (DocumentFilter(metadata={"by": {"team": "y"}}), {"new"}),
        (DocumentFilter(metadata={"by": {"team": "x"}}, tags=("other",)), set()),
        (_where("year", Comparison.AT_LEAST, 2000), {"new"}),
        (_where("year", Comparison.AT_MOST, 2026), {"old", "new"}),
        (_where("day", Comparison.AT_LEAST, "2000"), {"new"}),
        (_where("of", Comparison.AT_LEAST, "a"), {"bare"}),
        (_where("of", Comparison.AT_MOST, "a"), {"text"}),
        (_where("year", Comparison.IN, [1999, "2020"]), {"old", "text"}),
        (_where("day", Comparison.IN, [None]), {"text"}),
        (_where("absent", Comparison.IN, [None]), set()),
        (_where("year' OR true --", Comparison.AT_LEAST, 0), set()),
    ],
)
async def test_labels_narrow_both_arms(
    chunks: PostgresChunks, wanted: DocumentFilter, names: set[str]
) -> None:
    question = "old new bare text"
    found = await chunks.search(question, direction(1), scope=scope(documents=wanted), depth=10)
    assert texts_of(found.candidates) == names


@pytest.mark.usefixtures("labelled")
async def test_labels_of_a_deleted_document_find_nothing(
    chunks: PostgresChunks, database_urls: dict[str, str]
) -> None:
    admin = await asyncpg.connect(database_urls["admin"])
    await admin.execute("UPDATE documents SET deleted_at = now() WHERE name = 'old'")
    await admin.close()
    legal = scope(documents=DocumentFilter(tags=("legal",)))
    found = await chunks.search("old new", direction(1), scope=legal, depth=10)
    assert texts_of(found.candidates) == {"new"}


async def test_writing_a_version_again_replaces_it(chunks: PostgresChunks, publish: Any) -> None:
    version_id, of_version = version_of("one", "two", "three")
    await publish((version_id, of_version))
    two = np.stack([direction(1), direction(1)])
    await chunks.replace_versions(of_version[:2], two, generation=1)
    assert await counted(chunks, version_id) == 2


async def test_a_version_can_be_written_piece_by_piece(
    chunks: PostgresChunks, publish: Any
) -> None:
    version_id, of_version = version_of("one heron", "two herons", "three")
    await publish((version_id, of_version))
    vectors = np.stack([direction(1)] * 3)
    first = await chunks.replace_versions(of_version[:1], vectors[:1], generation=1)
    assert await counted(chunks, version_id) == 1
    rest = await chunks.add_chunks(of_version[1:], vectors[1:], generation=1)
    assert await counted(chunks, version_id) == 3
    assert (first[version_id]["heron"], rest[version_id]["heron"]) == (1, 1)


async def test_two_writers_of_one_version_leave_it_whole(chunks: PostgresChunks) -> None:
    version_id, of_version = version_of(*[f"text {n}" for n in range(50)])
    vectors = np.stack([direction(1)] * 50)
    writes = [chunks.replace_versions(of_version, vectors, generation=1) for _ in range(2)]
    await asyncio.gather(*writes, return_exceptions=True)
    assert await counted(chunks, version_id) == 50


async def test_removing_a_version_counts_what_was_there(
    chunks: PostgresChunks, publish: Any
) -> None:
    version_id = await publish(version_of("one", "two"))
    other = await publish(version_of("three"))
    assert await chunks.remove_everywhere(GLOBEX, version_id) == 0
    assert await chunks.remove_everywhere(ACME, version_id) == 2
    assert await chunks.remove_everywhere(ACME, version_id) == 0
    assert await counted(chunks, other) == 1


@pytest.mark.parametrize(
    "question", ["", "!!!", "the of and", "it's", "a' | b & !c:*", "\\", "x" * 5000, "日本語"]
)
async def test_any_question_can_be_searched(
    chunks: PostgresChunks, publish: Any, question: str
) -> None:
    await publish(version_of("plans"))
    found = await chunks.search(question, direction(1), scope=scope(), depth=10)
    assert texts_of(found.candidates) == {"plans"}
