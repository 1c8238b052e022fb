"""BM25 in two halves: weights that a chunk keeps, and frequencies that a question brings."""

import pytest

from planes.shared.lexical import (
    KnownTerms,
    inverse_document_frequency,
    lexical_score,
    rarest,
    selective,
    sparse_vector,
    term_index,
    term_weights,
    together,
)


def test_the_score_is_that_of_bm25() -> None:
    weights = term_weights(["heron", "heron", "nest", *["water"] * 147])
    frequencies = {"heron": inverse_document_frequency(3, 1000), "absent": 5.0}
    # log(1 + (1000 - 3 + .5) / (3 + .5)) * 2 * 2.2 / (2 + 1.2), at the usual length of 150 terms
    assert lexical_score(weights, frequencies) == pytest.approx(5.65599 * 1.375, abs=1e-3)


def test_rare_terms_repeated_terms_and_short_chunks_score_higher() -> None:
    assert inverse_document_frequency(1, 100) > inverse_document_frequency(50, 100)
    assert term_weights(["heron", "heron"])["heron"] > term_weights(["heron", "nest"])["heron"]
    assert term_weights(["heron"])["heron"] > term_weights(["heron", *"abcdefgh"])["heron"]
    assert term_weights(["heron"] * 10_000)["heron"] < 2.2, "repetition saturates"


@pytest.mark.parametrize(("holding", "total"), [(0, 0), (0, 10), (10, 10), (12, 10)])
def test_a_frequency_is_above_zero_even_while_counts_are_behind(holding: int, total: int) -> None:
    assert inverse_document_frequency(holding, total) > 0


def test_a_chunk_without_the_questions_terms_scores_nothing() -> None:
    assert lexical_score(term_weights(["nest"]), {"heron": 3.0}) == 0
    assert term_weights([]) == {}
    assert lexical_score({}, {}) == 0


def test_the_rarest_terms_come_first_and_equals_by_their_letters() -> None:
    assert rarest({"the": 0.1, "b": 2.0, "a": 2.0, "c": 1.0}, 3) == ["a", "b", "c"]


def test_sparse_vectors_multiply_to_the_score() -> None:
    weights = term_weights(["heron", "nest", "water", "heron", "日本語"])
    frequencies = {"heron": 3.0, "日本語": 2.0, "absent": 7.0}
    chunk = dict(zip(*sparse_vector(weights.items()), strict=True))
    question = dict(zip(*sparse_vector(frequencies.items()), strict=True))
    product = sum(value * chunk.get(index, 0) for index, value in question.items())
    assert product == pytest.approx(lexical_score(weights, frequencies))


def test_dimensions_are_the_same_everywhere_and_fit_32_bits() -> None:
    indices, values = sparse_vector([(f"term{n}", 1.0) for n in range(1000)])
    assert indices == sorted(set(indices))
    assert len(indices) == len(values)
    assert all(0 <= index < 2**32 for index in indices)
    assert term_index("heron") == 0x72B872C0


def test_terms_of_one_dimension_are_added_up() -> None:
    one, other = "word50106", "word88338"
    assert term_index(one) == term_index(other)
    assert sparse_vector([(one, 1.0), (other, 2.0)]) == ([term_index(one)], [3.0])


def test_common_words_do_not_widen_what_rare_ones_find() -> None:
    known = KnownTerms({"heron": 20, "nest": 200, "water": 900, "bird": 1000}, total=2000)
    terms = rarest(known.weights)
    assert selective(terms, known) == ["heron", "nest"]
    assert selective(["water", "bird"], known) == ["water"]
    assert selective([], known) == []
    assert together(terms, known) == []


def test_words_that_are_all_common_are_sought_together() -> None:
    known = KnownTerms({"bird": 2_000, "water": 5_000, "the": 50_000}, total=100_000)
    assert together(rarest(known.weights), known) == ["bird", "water"]
    common = KnownTerms({"a": 90_000, "the": 99_000}, total=100_000)
    assert together(rarest(common.weights), common) == ["a", "the"]
    assert together([], KnownTerms({}, total=0)) == []
