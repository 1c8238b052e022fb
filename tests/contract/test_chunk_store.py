"""What every chunk store does: find by meaning and by words, within a scope, and nothing beyond."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest
from numpy.typing import NDArray

from planes.shared.domain import (
    Chunk,
    Comparison,
    DocumentFilter,
    MetadataCondition,
    SearchScope,
    chunk_id,
)
from planes.shared.errors import Conflict, Unavailable
from planes.shared.index_ports import ChunkStore
from planes.shared.indexing import digest, fingerprint, indexed_terms
from planes.shared.stores.postgres import Database
from planes.shared.stores.qdrant import QdrantChunks
from tests.contract.chunk_servers import ChunkServer
from tests.contract.conftest import ACME, GLOBEX
from tests.servers.slow_proxy import SlowProxy

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


@dataclass(frozen=True)
class Read:
    """What a search says of a chunk, and the chunk as it is read afterwards."""

    chunk: Chunk
    dense: float | None
    lexical: float | None


@dataclass(frozen=True)
class Found:
    """A search's candidates, with their chunks."""

    candidates: Sequence[Read]

    @property
    def is_empty(self) -> bool:
        return not self.candidates


async def searched(
    chunks: ChunkStore, question: str, vector: Vector, *, scope: SearchScope, depth: int
) -> Found:
    """Search, and read every chunk that is found, as far as it was not removed in between."""
    arms = await chunks.search(question, vector, scope=scope, depth=depth)
    ids = [candidate.id for candidate in arms.candidates]
    assert len(ids) == len(set(ids))
    read = await chunks.chunks_of(scope.tenant_id, ids, generation=scope.generation)
    by_id = {chunk.id: chunk for chunk in read}
    assert len(read) == len(by_id)
    assert by_id.keys() <= set(ids)
    there = [candidate for candidate in arms.candidates if candidate.id in by_id]
    for candidate in there:
        chunk = by_id[candidate.id]
        assert candidate.document_id == chunk.document_id
        assert candidate.version_id == chunk.version_id
    return Found([Read(by_id[one.id], one.dense, one.lexical) for one in there])


def texts_of(candidates: Sequence[Read]) -> set[str]:
    return {candidate.chunk.text for candidate in candidates}


def vectors_for(chunks: list[Chunk]) -> Vector:
    return np.stack([direction(1, 0.01 * chunk.ordinal) for chunk in chunks])


async def all_of(chunks: ChunkStore, version: tuple[UUID, list[Chunk]]) -> list[Chunk]:
    """Return what the store has at the places of a version, in order."""
    places = [(version[0], chunk.ordinal) for chunk in version[1]]
    found = await chunks.chunks_at(version[1][0].tenant_id, places, generation=1)
    return sorted(found, key=lambda chunk: chunk.ordinal)


async def digests(chunks: ChunkStore, versions: list[UUID], *, tenant: UUID = ACME) -> list[bytes]:
    """Return the digests of all chunks of versions with their vectors, in order."""
    batches = [some async for some in chunks.embedded_chunks(tenant, versions, generation=1)]
    assert all(0 < len(some) <= 500 for some in batches)
    return sorted(digest(one) for some in batches for one in some)


async def counted(chunks: ChunkStore, version_id: UUID) -> int:
    counts = await chunks.count_versions(ACME, [version_id], generation=1)
    return counts.get(version_id, 0)


@pytest.fixture
def publish(chunks: ChunkStore, database_of: Callable[[str], Database]) -> Any:
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


async def test_finds_by_meaning_with_the_cosine_as_score(chunks: ChunkStore, publish: Any) -> None:
    await publish(version_of("near", "far"), direction(1), direction(0, 1))
    found = await searched(chunks, "nothing", direction(3, 4), scope=scope(), depth=10)
    scores = {candidate.chunk.text: candidate.dense for candidate in found.candidates}
    assert scores["near"] == pytest.approx(0.6, abs=1e-5)
    assert scores["far"] == pytest.approx(0.8, abs=1e-5)


async def test_finds_by_words_what_meaning_misses(
    chunks: ChunkStore, publish: Any, chunk_server: ChunkServer
) -> None:
    texts = [f"filler number {n}" for n in range(10)]
    vectors = [direction(1) for _ in texts]
    await publish(version_of(*texts, "The herons were nesting"), *vectors, direction(0, 1))
    found = await searched(chunks, "heron's nests", direction(1), scope=scope(), depth=3)
    best = max(found.candidates, key=lambda candidate: candidate.lexical or 0)
    assert best.chunk.text == "The herons were nesting"
    assert best.dense == pytest.approx(0, abs=1e-5), "both scores are filled"
    if not getattr(chunk_server, "ranks_words_itself", False):
        assert all(candidate.lexical is not None for candidate in found.candidates)


async def test_a_rare_word_weighs_more_than_a_common_one(chunks: ChunkStore, publish: Any) -> None:
    common = [f"the river and its {n} bridges" for n in ("old", "new", "long", "short", "grey")]
    await publish(version_of(*common, "a kingfisher"))
    found = await searched(chunks, "kingfisher river", direction(0, 1), scope=scope(), depth=10)
    best = max(found.candidates, key=lambda candidate: candidate.lexical or 0)
    assert best.chunk.text == "a kingfisher"


async def test_every_word_of_a_long_question_counts(chunks: ChunkStore, publish: Any) -> None:
    words = [f"heron{n:03}" for n in range(200)]
    await publish(version_of(" ".join(words), "filler"), direction(1), direction(0, 1))
    scores = []
    for asked in (1, 31, 32, 33, 34, 199, 200):
        question = " ".join(words[:asked])
        found = await searched(chunks, question, direction(1), scope=scope(), depth=10)
        scores.append(max(candidate.lexical or 0 for candidate in found.candidates))
    assert all(less < more for less, more in pairwise(scores)), scores


async def test_chunks_come_back_as_they_were_written(chunks: ChunkStore, publish: Any) -> None:
    version = version_of("Ein Fünf-Sterne-Hotel 👩‍🚀 'quoted' \\ \"text\"\nwith lines")
    await publish(version)
    found = await searched(chunks, "hotel", direction(1), scope=scope(), depth=1)
    assert [candidate.chunk for candidate in found.candidates] == version[1]


async def test_chunks_are_read_by_their_ids_within_a_tenant(
    chunks: ChunkStore, publish: Any
) -> None:
    ours, theirs = version_of("one", "two", "three"), version_of("secret", tenant=GLOBEX)
    await publish(ours)
    await publish(theirs)
    one, two, _ = ours[1]
    ids = [two.id, one.id, two.id, theirs[1][0].id, uuid4()]
    found = await chunks.chunks_of(ACME, ids, generation=1)
    assert sorted(found, key=lambda chunk: chunk.ordinal) == [one, two]
    assert await chunks.chunks_of(ACME, [], generation=1) == []


async def test_never_returns_another_tenants_chunk(chunks: ChunkStore, publish: Any) -> None:
    theirs = version_of("secret plans", tenant=GLOBEX)
    await publish(theirs)
    await publish(version_of("our plans"))
    for narrower in ({}, {"document_ids": (theirs[1][0].document_id,)}):
        found = await searched(
            chunks, "secret plans", direction(1), scope=scope(**narrower), depth=10
        )
        assert texts_of(found.candidates) <= {"our plans"}
    empty = await searched(chunks, "plans", direction(1), scope=scope(uuid4()), depth=10)
    assert empty.is_empty


async def test_hidden_versions_and_other_documents_are_left_out_before_the_ranking(
    chunks: ChunkStore, publish: Any
) -> None:
    hidden = await publish(version_of(*[f"plans {n}" for n in range(20)]))
    wanted = version_of("plans in the open", "more plans")
    await publish(wanted, direction(0, 1), direction(0, 1))
    found = await searched(
        chunks, "plans", direction(1), scope=scope(hidden_versions=(hidden,)), depth=5
    )
    assert texts_of(found.candidates) == {"plans in the open", "more plans"}
    only = scope(document_ids=(wanted[1][0].document_id,))
    found = await searched(chunks, "plans", direction(1), scope=only, depth=5)
    assert texts_of(found.candidates) == {"plans in the open", "more plans"}
    nothing = await searched(chunks, "plans", direction(1), scope=scope(document_ids=()), depth=5)
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
    chunks: ChunkStore, wanted: DocumentFilter, names: set[str]
) -> None:
    question = "old new bare text"
    found = await searched(chunks, question, direction(1), scope=scope(documents=wanted), depth=10)
    assert texts_of(found.candidates) == names


@pytest.mark.usefixtures("labelled")
async def test_an_empty_choice_of_documents_finds_nothing_whatever_the_labels(
    chunks: ChunkStore,
) -> None:
    legal = DocumentFilter(tags=("legal",))
    for narrower in ({"document_ids": ()}, {"document_ids": (uuid4(),)}):
        found = await searched(
            chunks, "old new", direction(1), scope=scope(documents=legal, **narrower), depth=10
        )
        assert found.is_empty


@pytest.mark.usefixtures("labelled")
async def test_labels_of_a_deleted_document_find_nothing(
    chunks: ChunkStore, database_urls: dict[str, str]
) -> None:
    admin = await asyncpg.connect(database_urls["admin"])
    await admin.execute("UPDATE documents SET deleted_at = now() WHERE name = 'old'")
    await admin.close()
    legal = scope(documents=DocumentFilter(tags=("legal",)))
    found = await searched(chunks, "old new", direction(1), scope=legal, depth=10)
    assert texts_of(found.candidates) == {"new"}


async def test_writing_a_version_again_replaces_it(chunks: ChunkStore, publish: Any) -> None:
    version_id, of_version = version_of("one", "two", "three")
    await publish((version_id, of_version))
    two = np.stack([direction(1), direction(1)])
    await chunks.replace_versions(of_version[:2], two, generation=1)
    assert await counted(chunks, version_id) == 2


async def test_a_version_can_be_written_piece_by_piece(chunks: ChunkStore, publish: Any) -> None:
    version_id, of_version = version_of("one heron", "two herons", "three")
    await publish((version_id, of_version))
    vectors = np.stack([direction(1)] * 3)
    await chunks.replace_versions(of_version[:1], vectors[:1], generation=1)
    assert await counted(chunks, version_id) == 1
    await chunks.add_chunks(of_version[1:], vectors[1:], generation=1)
    assert await counted(chunks, version_id) == 3


async def test_two_writers_of_one_version_leave_it_whole(chunks: ChunkStore) -> None:
    version_id, of_version = version_of(*[f"text {n}" for n in range(50)])
    vectors = np.stack([direction(1)] * 50)
    writes = [chunks.replace_versions(of_version, vectors, generation=1) for _ in range(2)]
    await asyncio.gather(*writes, return_exceptions=True)
    assert await counted(chunks, version_id) == 50


async def test_removing_a_version_counts_what_was_there(chunks: ChunkStore, publish: Any) -> None:
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
    chunks: ChunkStore, publish: Any, question: str
) -> None:
    await publish(version_of("plans"))
    found = await searched(chunks, question, direction(1), scope=scope(), depth=10)
    assert texts_of(found.candidates) == {"plans"}


@pytest.mark.usefixtures("database_of")
async def test_equal_scores_are_cut_the_same_way_every_time(
    chunks: ChunkStore, publish: Any
) -> None:
    if isinstance(chunks, QdrantChunks):
        pytest.skip("Qdrant decides which of equal chunks stay; docs/stores.md says so")
    for _ in range(4):
        await publish(version_of(*["the same heron"] * 5))
    found = [
        await searched(chunks, "heron", direction(1), scope=scope(), depth=3) for _ in range(3)
    ]
    ids = [{candidate.chunk.id for candidate in one.candidates} for one in found]
    assert ids[0] == ids[1] == ids[2]
    everything = await searched(chunks, "heron", direction(1), scope=scope(), depth=100)
    assert ids[0] == set(sorted(candidate.chunk.id for candidate in everything.candidates)[:3])


async def test_each_arm_gives_its_best(chunks: ChunkStore, publish: Any) -> None:
    texts = [f"filler {'word ' * n}" for n in range(1, 30)]
    vectors = [direction(1, n) for n in range(29)]
    await publish(version_of(*texts, "heron heron", "a heron"), *vectors, *[direction(0, 0, 1)] * 2)
    found = await searched(chunks, "heron", direction(1), scope=scope(), depth=2)
    assert texts_of(found.candidates) == {texts[0], texts[1], "heron heron", "a heron"}


@pytest.mark.usefixtures("database_of")
async def test_any_text_comes_back_to_the_last_code_point(chunks: ChunkStore) -> None:
    texts = [
        "e\u0301 is not \u00e9",
        "👩‍🚀🏳️‍🌈 \U0010ffff",
        "\u202emirrored\u202c \ufeff",
        "lines\r\n\tand\x0bmore\x7f",
        "$where: {'$gt': 1} \\u0000 %s ' \"",
        "日本語の文章",
        "x" * 200_000,
        "many words " * 20_000,
    ]
    version_id, of_version = version = version_of(*texts)
    odd = replace(of_version[0], heading="Ünïcode > $a.b", page=None, language="simple")
    of_version[0] = odd
    await chunks.replace_versions(of_version, vectors_for(of_version), generation=1)
    assert await all_of(chunks, version) == of_version
    found = await chunks.fingerprints(ACME, version_id, generation=1)
    assert found == {chunk.id: fingerprint(chunk) for chunk in of_version}


@pytest.mark.usefixtures("database_of")
async def test_many_chunks_are_written_counted_and_read_at_once(chunks: ChunkStore) -> None:
    version = version_id, of_version = version_of(*[f"text {n}" for n in range(2300)])
    vectors = vectors_for(of_version)
    await chunks.replace_versions(of_version, vectors, generation=1)
    assert await counted(chunks, version_id) == 2300
    assert await all_of(chunks, version) == of_version
    ids = [chunk.id for chunk in of_version]
    read = await chunks.vectors(ACME, [*ids, uuid4()], generation=1)
    assert list(read) != []
    assert np.array_equal(np.stack([read[id_] for id_ in ids]), vectors)
    assert read.keys() == set(ids)


@pytest.mark.usefixtures("database_of")
async def test_whole_versions_are_read_with_their_vectors_to_the_last_bit(
    chunks: ChunkStore,
) -> None:
    long, short = version_of(*[f"text {n}" for n in range(1203)]), version_of("Ünïcode 🐦", "")
    other, foreign = version_of("not asked for"), version_of("theirs", tenant=GLOBEX)
    written = {}
    for version_id, of_version in (long, short, other, foreign):
        vectors = vectors_for(of_version)
        await chunks.add_chunks(of_version, vectors, generation=1)
        written[version_id] = sorted(map(digest, zip(of_version, vectors, strict=True)))
    expected = sorted(written[long[0]] + written[short[0]])
    assert await digests(chunks, [long[0], short[0], long[0], foreign[0], uuid4()]) == expected
    assert await digests(chunks, []) == []


@pytest.mark.usefixtures("database_of")
async def test_adding_again_changes_nothing_and_a_changed_chunk_replaces_the_old(
    chunks: ChunkStore,
) -> None:
    version = version_id, of_version = version_of("one", "two")
    for _ in range(2):
        await chunks.add_chunks(of_version, vectors_for(of_version), generation=1)
    assert await all_of(chunks, version) == of_version
    changed = replace(of_version[1], text="too", page=None)
    await chunks.add_chunks([changed], direction(0, 1)[None], generation=1)
    assert await all_of(chunks, version) == [of_version[0], changed]
    read = await chunks.vectors(ACME, [changed.id], generation=1)
    assert np.array_equal(read[changed.id], direction(0, 1))
    assert await counted(chunks, version_id) == 2


@pytest.mark.usefixtures("database_of")
async def test_every_method_sees_its_own_tenant_alone(chunks: ChunkStore) -> None:
    version = version_id, of_version = version_of("ours", "too")
    await chunks.add_chunks(of_version, vectors_for(of_version), generation=1)
    ids, places = [chunk.id for chunk in of_version], [(version_id, 0), (version_id, 1)]
    spans = [(version_id, 0, 1)]
    assert await chunks.chunks_at(GLOBEX, places, generation=1) == []
    assert len(await chunks.chunks_at(ACME, places * 2, generation=1)) == 2, "none twice"
    assert await chunks.chunks_around(GLOBEX, spans, generation=1) == []
    assert await chunks.headings(GLOBEX, version_id, generation=1, limit=9) == []
    assert await chunks.pages(GLOBEX, version_id, generation=1) == []
    assert await chunks.fingerprints(GLOBEX, version_id, generation=1) == {}
    assert await chunks.vectors(GLOBEX, ids, generation=1) == {}
    assert await chunks.count_versions(GLOBEX, [version_id], generation=1) == {}
    assert await chunks.count_everywhere(GLOBEX, [version_id]) == 0
    assert [some async for some in chunks.version_counts(GLOBEX, generation=1)] == []
    assert await digests(chunks, [version_id], tenant=GLOBEX) == []
    await chunks.remove_chunks(GLOBEX, ids, generation=1)
    assert await chunks.remove_tenant(GLOBEX) == 0
    assert await all_of(chunks, version) == of_version


@pytest.mark.usefixtures("database_of")
async def test_nothing_asked_for_is_nothing_found(chunks: ChunkStore) -> None:
    assert await chunks.chunks_at(ACME, [], generation=1) == []
    assert await chunks.chunks_around(ACME, [], generation=1) == []
    assert await chunks.vectors(ACME, [], generation=1) == {}
    assert await chunks.count_versions(ACME, [], generation=1) == {}
    assert await chunks.count_everywhere(ACME, []) == 0
    await chunks.remove_chunks(ACME, [], generation=1)
    await chunks.add_chunks([], np.empty((0, 384), dtype=np.float32), generation=1)
    assert await chunks.tenants(generation=1) == []


@pytest.mark.usefixtures("database_of")
async def test_spans_are_found_in_the_chunks_that_hold_the_whole_of_them(
    chunks: ChunkStore,
) -> None:
    version_id, of_version = version_of("x" * 50, "y" * 150, "z" * 50)  # from 0, 100 and 200
    other_id, others = version_of("w" * 50)
    for some in (of_version, others):
        await chunks.add_chunks(some, vectors_for(some), generation=1)

    async def around(*spans: tuple[UUID, int, int]) -> set[UUID]:
        found = await chunks.chunks_around(ACME, spans, generation=1)
        assert len({chunk.id for chunk in found}) == len(found)
        return {chunk.id for chunk in found}

    first, second, third = (chunk.id for chunk in of_version)
    assert await around((version_id, 0, 50)) == {first}
    assert await around((version_id, 0, 51)) == set()
    assert await around((version_id, 210, 240)) == {second, third}
    assert await around((version_id, 210, 240), (version_id, 220, 230)) == {second, third}
    assert await around((other_id, 1, 2), (version_id, 100, 100)) == {others[0].id, second}


@pytest.mark.usefixtures("database_of")
async def test_headings_and_pages_come_in_reading_order(chunks: ChunkStore) -> None:
    version_id, plain = version_of(*["text"] * 6)
    told = [("B", 1), ("A", 2), ("", 2), ("B", 1), ("C", None), ("A", 1)]
    of_version = [
        replace(chunk, heading=heading, page=page)
        for chunk, (heading, page) in zip(plain, told, strict=True)
    ]
    shuffled = [of_version[n] for n in (4, 1, 3, 0, 5, 2)]
    await chunks.add_chunks(shuffled, vectors_for(shuffled), generation=1)
    found = await chunks.headings(ACME, version_id, generation=1, limit=2)
    assert [(one.breadcrumb, one.page) for one in found] == [("B", 1), ("A", 1)]
    every = await chunks.headings(ACME, version_id, generation=1, limit=9)
    assert [one.breadcrumb for one in every] == ["B", "A", "C"]
    assert await chunks.pages(ACME, version_id, generation=1) == [(1, 0, 504), (2, 100, 204)]


@pytest.mark.usefixtures("database_of")
async def test_counts_name_every_version_and_tenant_once(chunks: ChunkStore) -> None:
    expected = {}
    for size in (1, 2, 3):
        version_id, of_version = version_of(*["text"] * size)
        await chunks.add_chunks(of_version, vectors_for(of_version), generation=1)
        expected[version_id] = (size, size)
    theirs = version_of("text", tenant=GLOBEX)
    await chunks.add_chunks(theirs[1], vectors_for(theirs[1]), generation=1)
    counts = [one async for some in chunks.version_counts(ACME, generation=1) for one in some]
    assert {one.version_id: (one.chunks, one.places) for one in counts} == expected
    assert len(counts) == 3
    assert sorted(await chunks.tenants(generation=1)) == sorted([ACME, GLOBEX])


@pytest.mark.usefixtures("database_of")
async def test_generations_are_apart_and_a_version_is_removed_from_all(
    chunks: ChunkStore, keeper: ChunkStore
) -> None:
    await keeper.create_generation(2, 8)
    version_id, of_version = version_of("one", "two")
    small = np.eye(8, dtype=np.float32)[:2]
    await chunks.add_chunks(of_version, vectors_for(of_version), generation=1)
    await chunks.add_chunks(of_version[:1], small[:1], generation=2)
    assert await counted(chunks, version_id) == 2
    assert await chunks.count_versions(ACME, [version_id], generation=2) == {version_id: 1}
    in_second = SearchScope(tenant_id=ACME, generation=2)
    found = await searched(chunks, "", small[0], scope=in_second, depth=9)
    assert texts_of(found.candidates) == {"one"}
    assert await chunks.count_everywhere(ACME, [version_id, uuid4()]) == 3
    assert await chunks.remove_everywhere(ACME, version_id) == 3
    assert await chunks.count_everywhere(ACME, [version_id]) == 0
    await keeper.drop_generation(2)


@pytest.mark.usefixtures("database_of")
async def test_a_generation_is_made_and_dropped_as_often_as_it_is_asked(
    keeper: ChunkStore,
) -> None:
    assert await keeper.generations() == {1: 384}
    for _ in range(2):
        await keeper.create_generation(2, 8)
    with pytest.raises(Conflict):
        await keeper.create_generation(2, 16)
    assert await keeper.generations() == {1: 384, 2: 8}
    for _ in range(2):
        await keeper.drop_generation(2)
    assert await keeper.generations() == {1: 384}
    await keeper.create_generation(2, 16)
    assert (await keeper.generations())[2] == 16
    await keeper.drop_generation(2)


@pytest.mark.usefixtures("database_of")
async def test_a_tenant_goes_whole_and_alone(chunks: ChunkStore, keeper: ChunkStore) -> None:
    await keeper.create_generation(2, 384)
    for tenant in (ACME, GLOBEX):
        version_id, of_version = version_of("one", "two", tenant=tenant)
        for generation in (1, 2):
            await chunks.add_chunks(of_version, vectors_for(of_version), generation=generation)
    assert await chunks.remove_tenant(ACME) == 4
    assert await chunks.remove_tenant(ACME) == 0
    assert await chunks.tenants(generation=1) == [GLOBEX]
    assert await chunks.count_everywhere(GLOBEX, [version_id]) == 4
    await keeper.drop_generation(2)


async def test_what_is_removed_while_others_search_is_never_half_a_chunk(
    chunks: ChunkStore, publish: Any
) -> None:
    stays = version_of(*[f"heron {n}" for n in range(20)])
    await publish(stays)
    goes = [await publish(version_of(*[f"heron {n}" for n in range(20)])) for _ in range(5)]
    known = {chunk.id: chunk for chunk in stays[1]}

    async def search() -> None:
        found = await searched(chunks, "heron", direction(1), scope=scope(), depth=200)
        seen = {one.chunk.id: one.chunk for one in found.candidates}
        assert seen.items() >= known.items()

    removals = (chunks.remove_everywhere(ACME, version_id) for version_id in goes)
    results = await asyncio.gather(*removals, *(search() for _ in range(5)))
    assert results[:5] == [20] * 5
    found = await searched(chunks, "heron", direction(1), scope=scope(), depth=200)
    assert {one.chunk.id for one in found.candidates} == known.keys()


@pytest.mark.usefixtures("database_of")
async def test_writers_of_different_versions_do_not_hinder_one_another(
    chunks: ChunkStore,
) -> None:
    versions = [version_of(*[f"text {n}" for n in range(20)]) for _ in range(8)]
    await asyncio.gather(
        *(
            chunks.replace_versions(of_version, vectors_for(of_version), generation=1)
            for _, of_version in versions
        )
    )
    ids = [version_id for version_id, _ in versions]
    assert await chunks.count_versions(ACME, ids, generation=1) == dict.fromkeys(ids, 20)


@pytest.mark.usefixtures("database_of")
async def test_a_store_that_does_not_answer_is_unavailable(chunk_server: ChunkServer) -> None:
    proxy = SlowProxy(chunk_server.port)
    await proxy.open()
    version_id, of_version = version_of("one")
    vectors = vectors_for(of_version)
    async with chunk_server.store(port=proxy.port) as store:
        await store.add_chunks(of_version, vectors, generation=1)
        await proxy.close()
        answers = await asyncio.gather(
            store.search("one", direction(1), scope=scope(), depth=1),
            store.replace_versions(of_version, vectors, generation=1),
            store.count_versions(ACME, [version_id], generation=1),
            store.remove_everywhere(ACME, version_id),
            store.chunks_at(ACME, [(version_id, 0)], generation=1),
            store.chunks_of(ACME, [of_version[0].id], generation=1),
            store.describe(),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [Unavailable] * 7
        await proxy.heal()
        assert await counted(store, version_id) == 1
    await proxy.close()
