"""Whether a generation of the index answers as well as the live one."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeAlias
from uuid import UUID

from planes.data.evaluation.metrics import ndcg_at, overlap_at, recall_at
from planes.data.evaluation.questions import Question

Search: TypeAlias = Callable[[Question, int], Awaitable[Sequence[UUID]]]
"""Returns what a generation finds for a question: documents, best first, none twice."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over all questions, at k documents."""

    recall: float
    ndcg: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two generations answer the same questions.

    `overlap` is the mean share of the live one's first k documents that the other finds among its
    own.
    """

    questions: int
    k: int
    overlap: float
    live: Quality
    other: Quality


async def compare(
    questions: Sequence[Question], search: Search, *, live: int, other: int, k: int = 10
) -> Comparison:
    """Ask both generations every question.

    Args:
        questions: At least one.
        search: Asks one generation.
        live: The generation that is searched now.
        other: The one beside it.
        k: How many documents count.
    """
    found_live = [await search(question, live) for question in questions]
    found_other = [await search(question, other) for question in questions]
    pairs = zip(found_live, found_other, strict=True)
    return Comparison(
        questions=len(questions),
        k=k,
        overlap=fmean(overlap_at(k, one, two) for one, two in pairs),
        live=_quality(k, questions, found_live),
        other=_quality(k, questions, found_other),
    )


def _quality(k: int, questions: Sequence[Question], found: Sequence[Sequence[UUID]]) -> Quality:
    answers = list(zip(questions, found, strict=True))
    return Quality(
        recall=fmean(recall_at(k, documents, asked.grades) for asked, documents in answers),
        ndcg=fmean(ndcg_at(k, documents, asked.grades) for asked, documents in answers),
    )
