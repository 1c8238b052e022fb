import math
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planes.serving.retrieval.fusion import fuse
from planes.shared.domain import Candidate
from tests.fakes_serving import candidate, chunk

scores = st.none() | st.floats(-100, 100).map(lambda score: round(score, 3))
pools = st.lists(st.tuples(scores, scores), max_size=30)


def candidates(pool: list[tuple[float | None, float | None]]) -> list[Candidate]:
    return [candidate(chunk(str(i)), dense, lexical) for i, (dense, lexical) in enumerate(pool)]


@given(pools)
def test_every_candidate_is_ranked_once_and_best_first(
    pool: list[tuple[float | None, float | None]],
) -> None:
    given_candidates = candidates(pool)
    ranked = fuse(given_candidates)
    assert {item.candidate.id for item in ranked} == {c.id for c in given_candidates}
    assert [item.score for item in ranked] == sorted((i.score for i in ranked), reverse=True)
    assert all(math.isfinite(item.score) for item in ranked)


@given(pools)
def test_the_average_score_of_a_pool_is_zero(
    pool: list[tuple[float | None, float | None]],
) -> None:
    ranked = fuse(candidates(pool))
    assert not ranked or fmean(item.score for item in ranked) == pytest.approx(0, abs=1e-6)


@given(pools, st.floats(0.1, 10), st.floats(-50, 50))
def test_neither_scale_nor_origin_of_an_arm_matters(
    pool: list[tuple[float | None, float | None]], scale: float, shift: float
) -> None:
    before = candidates(pool)
    moved = [replace(c, dense=None if c.dense is None else scale * c.dense + shift) for c in before]
    expected = {item.candidate.id: item.score for item in fuse(before)}
    for item in fuse(moved):
        assert item.score == pytest.approx(expected[item.candidate.id], abs=1e-5)


def test_a_missing_score_counts_as_the_lowest_of_its_arm() -> None:
    with_hole = fuse(candidates([(0.9, 3.0), (0.5, None), (0.1, 1.0)]))
    filled = fuse(candidates([(0.9, 3.0), (0.5, 1.0), (0.1, 1.0)]))
    assert [item.score for item in with_hole] == [item.score for item in filled]


def test_an_arm_without_differences_does_not_decide() -> None:
    first, second = fuse(candidates([(0.2, 7.0), (0.8, 7.0)]))
    assert (first.candidate.dense, second.candidate.dense) == (0.8, 0.2)
    assert first.score == pytest.approx(0.5)


def test_an_empty_pool_has_no_order() -> None:
    assert fuse([]) == []
