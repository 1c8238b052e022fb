"""How well ways of searching do on the same judged questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from planes.data.evaluation.dataset import JudgedQuestion
from planes.data.evaluation.metrics import interval, mrr_at, ndcg_at, recall_at

K = 10
_MEASURES = {"NDCG@10": ndcg_at, "Recall@10": recall_at, "MRR@10": mrr_at}


@dataclass(frozen=True, slots=True)
class Measured:
    """The mean of a measure over all questions, with its 95 % interval.

    Attributes:
        mean: Between 0 and 1.
        interval: Of the mean.
        gain: The interval of the difference from the reference, question by question; None for the
            reference itself.
    """

    mean: float
    interval: tuple[float, float]
    gain: tuple[float, float] | None


Scores = Mapping[str, Measured]
"""By measure: NDCG@10, Recall@10, MRR@10."""


def score(
    questions: Sequence[JudgedQuestion],
    found: Mapping[str, Sequence[Sequence[str]]],
    *,
    reference: str,
) -> dict[str, Scores]:
    """Return what each way of searching achieves.

    Args:
        questions: At least one.
        found: By way of searching, the entries found for each question, best first, none twice.
        reference: The way that the others are compared with.
    """
    values = {way: _values(questions, lists) for way, lists in found.items()}
    return {
        way: {
            measure: Measured(
                mean=fmean(own),
                interval=interval(own),
                gain=None if way == reference else _gain(own, values[reference][measure]),
            )
            for measure, own in measures.items()
        }
        for way, measures in values.items()
    }


def _values(
    questions: Sequence[JudgedQuestion], lists: Sequence[Sequence[str]]
) -> dict[str, list[float]]:
    pairs = list(zip(questions, lists, strict=True))
    return {
        name: [measure(K, found, question.grades) for question, found in pairs]
        for name, measure in _MEASURES.items()
    }


def _gain(own: Sequence[float], reference: Sequence[float]) -> tuple[float, float]:
    return interval([one - other for one, other in zip(own, reference, strict=True)])
