"""Search in PostgreSQL through the product's adapter, beside an exact scan in NumPy.

A tenant of 1,000, one of 10,000 and one of 100,000 chunks, and a thousand tenants of 100, all in
one table. Embedding is no part of it. A hundred other questions come before the measured ones. The
bare loop holds a tenant's vectors in memory and has no words, filters or transactions; what it
finds is exact. Writing the chunks takes a minute or two.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from planes.shared.domain import SearchScope
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.benchmarks.corpora import Corpus, Drawn, Vectors, texts, written
from tests.benchmarks.pinning import pin
from tests.benchmarks.records import Conditions, Measurement, in_turns
from tests.evaluation.own_database import own_database

_SHAPES = {"1k": (1, 1_000), "10k": (1, 10_000), "100k": (1, 100_000), "tenants": (1_000, 100)}
"""Tenants, and chunks of each."""
_P95_GOALS_MS = {"100k": 10.0, "tenants": 10.0}
_RECALL_GOAL = 0.99
_QUESTIONS, _QUESTION_WORDS = 100, 8
_DEPTH, _FIRST = 100, 10


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
        corpora = runner.run(written(urls, drawn, _SHAPES))
        asked = {shape: _questions(drawn, some) for shape, some in corpora.items()}
        others = {shape: _questions(drawn, some, _QUESTIONS) for shape, some in corpora.items()}
        database = Database(urls["serving"], service="benchmark", max_connections=2)
        runner.run(database.open())
        store = PostgresChunks(database)
        for shape, questions in asked.items():
            runner.run(_search(store, others[shape]))  # a connection maps pages as it meets them
            works: dict[str, Callable[[], Round]] = {
                "store": lambda some=questions: runner.run(_search(store, some)),  # type: ignore[misc]
                "bare": partial(_scan, questions),
            }
            yield from _measurements(shape, in_turns(conditions.rounds, works))
        runner.run(database.close())


def _questions(drawn: Drawn, corpora: Sequence[Corpus], first: int = 0) -> list[Question]:
    """Return questions to tenants in turn, from the given number on."""
    bodies, vectors = texts(), drawn.vectors(_QUESTIONS)
    return [
        _question(corpora[number * 7 % len(corpora)], bodies[number * 13 % len(bodies)], vector)
        for number, vector in enumerate(vectors, start=first)
    ]


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
