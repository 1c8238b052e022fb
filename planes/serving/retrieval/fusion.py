"""Two scores of a pool into one order: the sum of standard scores, half of each arm."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from planes.shared.domain import Candidate


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its fused score; 0 is the pool's average, higher is better."""

    candidate: Candidate
    score: float


def fuse(candidates: Sequence[Candidate]) -> list[Ranked]:
    """Return the pool best first, by the mean of both arms' standard scores over the pool.

    A missing score counts as its arm's minimum; an arm whose scores are all equal counts as 0.
    Equal scores are ordered by chunk id, so that the order is reproducible.
    """
    dense = _standard_scores([candidate.dense for candidate in candidates])
    lexical = _standard_scores([candidate.lexical for candidate in candidates])
    ranked = [
        Ranked(candidate, 0.5 * meaning + 0.5 * words)
        for candidate, meaning, words in zip(candidates, dense, lexical, strict=True)
    ]
    return sorted(ranked, key=lambda item: (-item.score, item.candidate.chunk.id))


def _standard_scores(scores: Sequence[float | None]) -> list[float]:
    known = [score for score in scores if score is not None]
    if not known:
        return [0.0] * len(scores)
    lowest, highest = min(known), max(known)
    if lowest == highest and len(known) == len(scores):
        return [0.0] * len(scores)
    filled = [lowest if score is None else score for score in scores]
    mean, deviation = fmean(filled), pstdev(filled)
    if deviation == 0 or lowest == highest:
        return [0.0] * len(scores)
    return [(score - mean) / deviation for score in filled]
