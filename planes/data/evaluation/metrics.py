"""Measures of ranked lists of documents, each between 0 and 1, higher is better."""

import math
from collections.abc import Mapping, Sequence
from uuid import UUID


def recall_at(k: int, found: Sequence[UUID], grades: Mapping[UUID, float]) -> float:
    """Return the share of the relevant documents that are among the first `k` found."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant.intersection(found[:k])) / len(relevant) if relevant else 0.0


def ndcg_at(k: int, found: Sequence[UUID], grades: Mapping[UUID, float]) -> float:
    """Return the discounted gain of the first `k`, as a share of the best order's.

    Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418; the gain is the grade.
    """
    best = _gain(sorted(grades.values(), reverse=True)[:k])
    return _gain([grades.get(document, 0.0) for document in found[:k]]) / best if best else 0.0


def overlap_at(k: int, one: Sequence[UUID], other: Sequence[UUID]) -> float:
    """Return the share of the first `k` of `one` that are among the first `k` of `other`."""
    first = set(one[:k])
    if not first:
        return 1.0 if not other[:k] else 0.0
    return len(first.intersection(other[:k])) / len(first)


def _gain(grades: Sequence[float]) -> float:
    return sum(grade / math.log2(place + 1) for place, grade in enumerate(grades, start=1))
