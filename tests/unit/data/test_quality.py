"""The statistic behind the drift checks."""

import math

import pytest

from planes.data.pipeline.drift import drift, population_stability_index


def test_the_same_distribution_has_not_drifted() -> None:
    assert population_stability_index({"en": 30, "de": 10}, {"en": 300, "de": 100}) == 0


def test_the_index_is_the_symmetric_divergence() -> None:
    expected = 2 * (0.75 - 0.25) * math.log(3)
    found = population_stability_index({"en": 75, "de": 25}, {"en": 25, "de": 75})
    assert found == pytest.approx(expected)


def test_a_bucket_that_is_empty_on_one_side_counts_and_stays_finite() -> None:
    assert 0.25 < population_stability_index({"en": 9, "fi": 1}, {"en": 10}) < 10


def test_few_documents_prove_nothing() -> None:
    assert drift({"en": 9}, {"de": 1000}, least=10).psi is None
    assert drift({"en": 10}, {"de": 1000}, least=10).psi is not None


def test_the_table_shows_both_sides_in_the_order_of_the_buckets() -> None:
    table = drift({"9": 1, "10": 3}, {"9": 4}, least=1).table("characters")
    rows = table.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["9", "10"]
    assert "25.0% | █████ | 100.0% | ████████████████████" in rows[0]
