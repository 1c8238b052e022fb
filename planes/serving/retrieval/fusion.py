"""Scores of a pool into one order: a weighted sum of standard scores.

Half of each arm (the dense and the lexical one), and where they are known three eighths of the
closest sentences' cosines, on the dense arm's scale. docs/evaluation.md says what each is worth.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from planes.shared.domain import Candidate, Ranked

_ARM_WEIGHT = 0.5
_SENTENCE_WEIGHT = 0.375
_Scores: TypeAlias = NDArray[np.float64]


def fuse(candidates: Sequence[Candidate]) -> list[Ranked]:
    """Return the pool best first.

    A missing score counts as the lowest of its kind; scores that are all equal count as 0. Equal
    sums are ordered by chunk id, so that the order is reproducible.
    """
    dense = _filled([candidate.dense for candidate in candidates])
    lexical = _filled([candidate.lexical for candidate in candidates])
    sentence = _filled([candidate.sentence for candidate in candidates])
    scores = (
        _ARM_WEIGHT * _standard_scores(dense, dense)
        + _ARM_WEIGHT * _standard_scores(lexical, lexical)
        + _SENTENCE_WEIGHT * _standard_scores(sentence, dense)
    )
    ranked = [Ranked(*each) for each in zip(candidates, scores.tolist(), strict=True)]
    return sorted(ranked, key=lambda item: (-item.score, item.candidate.id))


def _filled(scores: Sequence[float | None]) -> _Scores:
    lowest = min((score for score in scores if score is not None), default=0.0)
    return np.array([lowest if score is None else score for score in scores])


def _standard_scores(scores: _Scores, scale: _Scores) -> _Scores:
    """Return how far each score is from the mean, in standard deviations of `scale`."""
    if not scores.size or not np.ptp(scores) or not np.ptp(scale):
        return np.zeros_like(scores)
    deviation = scale.std()
    return (scores - scores.mean()) / deviation if deviation else np.zeros_like(scores)
