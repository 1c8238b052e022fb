"""Search in PostgreSQL through the product's adapter, beside an exact scan in NumPy.

A tenant of 1,000, one of 10,000 and one of 100,000 chunks, and a thousand tenants of 100, all in
one table. Embedding is no part of it: the vectors are drawn around a thousand centres, as those of
texts lie in topics, and questions lie near one of them. Texts are of this repository's
documentation. The bare loop holds a tenant's vectors in memory and has no words, filters or
transactions; what it finds is exact. Writing the chunks takes minutes.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from planes.shared.domain import SearchScope, new_id
from planes.shared.embedding import DIMENSION
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.benchmarks.pinning import pin
from tests.benchmarks.records import Conditions, Measurement, in_turns
from tests.evaluation import texts as prose
from tests.evaluation.own_database import own_database
from tests.fakes_serving import Library, chunk

Vectors = NDArray[np.float32]

_SHAPES = {"1k": (1, 1_000), "10k": (1, 10_000), "100k": (1, 100_000), "tenants": (1_000, 100)}
"""Tenants, and chunks of each."""
_P95_GOALS_MS = {"100k": 10.0, "tenants": 10.0}
_RECALL_GOAL = 0.99
_DOCUMENT_CHUNKS = 1_000  # at most
_QUESTIONS, _QUESTION_WORDS = 100, 8
_DEPTH, _FIRST = 100, 10
_CENTRES, _SPREAD = 1_000, 0.8
_TEXTS, _TEXT_BYTES = 2_000, 900


class Drawn:
    """Vectors in place of an embedder's, and what it has drawn."""

    def __init__(self) -> None:
        """Draw the centres, the same ones every time."""
        self._source = np.random.default_rng(1)
        self._centres = self._around(np.zeros((_CENTRES, DIMENSION), np.float32))
        self.drawn: list[Vectors] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a vector a passage, and remember them."""
        self.drawn.append(self.vectors(len(texts)))
        return self.drawn[-1]

    def vectors(self, count: int) -> Vectors:
        """Return unit vectors, each near one of the centres."""
        return self._around(self._centres[self._source.integers(_CENTRES, size=count)])

    def _around(self, places: Vectors) -> Vectors:
        moved = places + _SPREAD * _unit(self._source.standard_normal(places.shape))
        return _unit(moved).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Corpus:
    """A tenant's chunks: their ids, and a vector each."""

    tenant_id: UUID
    ids: Sequence[UUID]
    vectors: Vectors

    def nearest(self, vector: Vectors, count: int) -> list[UUID]:
        """Return the exact nearest chunks, the nearest first."""
        cosines = self.vectors @ vector
        found = np.argpartition(-cosines, min(count, len(cosines)) - 1)[:count]
        return [self.ids[place] for place in found[np.argsort(-cosines[found])]]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a corpus, and what should be among the first ten."""

    corpus: Corpus
    text: str
    vector: Vectors
    expected: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class Round:
    """All questions, asked once, one after the other."""

    p95_ms: float
    recall: float


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Measure each shape, the adapter and the scan in turns; the database has the other cores."""
    pin(0, conditions.cores.load)  # what is started now stays there
    with own_database() as urls, asyncio.Runner() as runner:
        pin(0, conditions.cores.measured, descendants=False)
        drawn = Drawn()
        asked = {shape: runner.run(_written(urls, drawn, shape)) for shape in _SHAPES}
        runner.run(_analysed(urls))
        database = Database(urls["serving"], service="benchmark", max_connections=2)
        runner.run(database.open())
        store = PostgresChunks(database)
        for shape, questions in asked.items():
            works: dict[str, Callable[[], Round]] = {
                "store": lambda some=questions: runner.run(_search(store, some)),  # type: ignore[misc]
                "bare": partial(_scan, questions),
            }
            yield from _measurements(shape, in_turns(conditions.rounds, works))
        runner.run(database.close())


async def _written(urls: Mapping[str, str], drawn: Drawn, shape: str) -> list[Question]:
    """Write a shape's tenants, and return questions to them in turn."""
    tenants, chunks = _SHAPES[shape]
    bodies = [text.decode() for text in prose.texts(_TEXTS, size_bytes=_TEXT_BYTES)]
    corpora = [await _corpus(urls, drawn, chunks, bodies) for _ in range(tenants)]
    vectors = drawn.vectors(_QUESTIONS)
    return [
        _question(corpora[number * 7 % tenants], bodies[number * 13 % _TEXTS], vector)
        for number, vector in enumerate(vectors)
    ]


async def _corpus(
    urls: Mapping[str, str], drawn: Drawn, count: int, bodies: Sequence[str]
) -> Corpus:
    library, ids = Library(urls, drawn), list[UUID]()
    tenant_id = await library.add_tenant()
    drawn.drawn.clear()
    for first in range(0, count, _DOCUMENT_CHUNKS):
        document_id, version_id = new_id(), new_id()
        numbers = range(first, min(count, first + _DOCUMENT_CHUNKS))
        made = [
            chunk(
                bodies[number % len(bodies)],
                tenant_id=tenant_id,
                document_id=document_id,
                version_id=version_id,
                ordinal=number - first,
            )
            for number in numbers
        ]
        await library.add_chunks(f"{first}.txt", made)
        ids += [one.id for one in made]
    return Corpus(tenant_id, ids, np.concatenate(drawn.drawn))


async def _analysed(urls: Mapping[str, str]) -> None:
    """Do what autovacuum would do at some time, so that it is done."""
    owner = await asyncpg.connect(urls["admin"])
    await owner.execute("VACUUM ANALYZE")
    await owner.close()


def _question(corpus: Corpus, body: str, vector: Vectors) -> Question:
    text = " ".join(body.split()[-_QUESTION_WORDS:])
    return Question(corpus, text, vector, frozenset(corpus.nearest(vector, _FIRST)))


async def _search(store: PostgresChunks, questions: Sequence[Question]) -> Round:
    taken_ms, recalls = list[float](), list[float]()
    for one in questions:
        started = time.perf_counter()
        arms = await store.search(
            one.text, one.vector, scope=SearchScope(one.corpus.tenant_id, 1), depth=_DEPTH
        )
        taken_ms.append(1e3 * (time.perf_counter() - started))
        by_meaning = sorted(arms.candidates, key=lambda found: -(found.dense or 0.0))
        first = {found.id for found in by_meaning[:_FIRST]}
        recalls.append(len(first & one.expected) / len(one.expected))
    return Round(_p95(taken_ms), sum(recalls) / len(recalls))


def _scan(questions: Sequence[Question]) -> Round:
    taken_ms = list[float]()
    for one in questions:
        started = time.perf_counter()
        one.corpus.nearest(one.vector, _DEPTH)
        taken_ms.append(1e3 * (time.perf_counter() - started))
    return Round(_p95(taken_ms), 1.0)


def _measurements(shape: str, rounds: Mapping[str, tuple[Round, ...]]) -> Iterator[Measurement]:
    p95, bare = f"retrieval.{shape}.p95", f"retrieval.{shape}.bare.p95"
    taken = {who: tuple(each.p95_ms for each in rounds[who]) for who in rounds}
    recalls = tuple(each.recall for each in rounds["store"])
    yield Measurement(p95, "ms", taken["store"], "lower", (bare,), _P95_GOALS_MS.get(shape))
    yield Measurement(bare, "ms", taken["bare"], "lower")
    yield Measurement(f"retrieval.{shape}.recall", "of exact", recalls, "higher", goal=_RECALL_GOAL)


def _p95(taken_ms: Sequence[float]) -> float:
    return sorted(taken_ms)[int(0.95 * (len(taken_ms) - 1))]


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    lengths: NDArray[np.floating] = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.floating] = vectors / lengths
    return unit
