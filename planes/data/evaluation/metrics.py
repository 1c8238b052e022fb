"""Measures of ranked lists of documents, each between 0 and 1, higher is better."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

Id = TypeVar("Id", bound=Hashable)

_RESAMPLES = 10_000
_SEED = 7


def recall_at(k: int, found: Sequence[Id], grades: Mapping[Id, float]) -> float:
    """Return the share of the relevant documents that are among the first `k` found."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant.intersection(found[:k])) / len(relevant) if relevant else 0.0


def ndcg_at(k: int, found: Sequence[Id], grades: Mapping[Id, float]) -> float:
    """Return the discounted gain of the first `k`, as a share of the best order's.

    Järvelin and Kekäläinen 2002, https://doi.org/10.1145/582415.582418; the gain is the grade.
    """
    best = _gain(sorted(grades.values(), reverse=True)[:k])
    return _gain([grades.get(document, 0.0) for document in found[:k]]) / best if best else 0.0


def mrr_at(k: int, found: Sequence[Id], grades: Mapping[Id, float]) -> float:
    """Return one over the place of the first relevant document; 0 where none is in the first `k`.

    The mean over questions is the mean reciprocal rank.
    """
    for place, document in enumerate(found[:k], start=1):
        if grades.get(document, 0.0) > 0:
            return 1 / place
    return 0.0


def overlap_at(k: int, one: Sequence[Id], other: Sequence[Id]) -> float:
    """Return the share of the first `k` of `one` that are among the first `k` of `other`."""
    first = set(one[:k])
    if not first:
        return 1.0 if not other[:k] else 0.0
    return len(first.intersection(other[:k])) / len(first)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean, by the bootstrap over questions.

    Efron and Tibshirani 1986, https://doi.org/10.1214/ss/1177013815: the percentiles of 10,000
    means of resampled values. Differences of two retrievals over the same questions make it paired.
    The same values give the same interval.

    Args:
        values: At least one.
    """
    chance = np.random.default_rng(_SEED)
    sample = np.asarray(values)
    means = [
        chance.choice(sample, size=(500, len(sample))).mean(axis=1)
        for _ in range(_RESAMPLES // 500)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def _gain(grades: Sequence[float]) -> float:
    return sum(grade / math.log2(place + 1) for place, grade in enumerate(grades, start=1))
