"""How well words match a chunk, for the stores that have no ranking of their own.

BM25 (Robertson and Zaragoza 2009, https://doi.org/10.1561/1500000019) in two halves: a chunk keeps
the weight of each of its terms, which depends on nothing but itself, and a question brings the
inverse document frequencies of its own terms, which change with the corpus. Their product, summed
over the terms that both have, is the score; so no chunk is ever rewritten because others came or
went.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from operator import mul

RAREST_TERMS = 6
"""Chunks that hold one of that many of a question's rarest terms are candidates by words."""

SELECTIVE_CHUNKS = 300
"""How many chunks a question's rarest terms may find together, where a store looks at each."""

MOST_CHUNKS = 1000
"""How many chunks a single term may find there."""

_SATURATION = 1.2  # k1
_LENGTH_SHARE = 0.75  # b
_USUAL_TERMS = 150
"""Stands for the mean number of terms of a chunk.

Chunks are bounded by the chunker, so their mean hardly differs between corpora, and a constant lets
the weights of a chunk stand. On two judged sets with means of 81 and 151 terms everything from 125
to 200 ranks as the true means do.
"""


def inverse_document_frequency(holding: int, total: int) -> float:
    """Return what a term tells, above 0 (Robertson and Spärck Jones, never negative).

    Args:
        holding: How many chunks hold the term.
        total: How many chunks there are.
    """
    return math.log(1 + (max(0, total - holding) + 0.5) / (holding + 0.5))


@dataclass(frozen=True, slots=True)
class KnownTerms:
    """The terms of a question that a corpus knows: how many of its chunks hold each, of how many.

    Attributes:
        holding: By term.
        total: Chunks of the corpus.
    """

    holding: Mapping[str, int]
    total: int

    @property
    def weights(self) -> dict[str, float]:
        """The inverse document frequency (Robertson and Spärck Jones) of each term."""
        return {
            term: inverse_document_frequency(chunks, self.total)
            for term, chunks in self.holding.items()
        }


def term_weights(terms: Sequence[str]) -> dict[str, float]:
    """Return the weight of each term of a chunk, between 0 and 2.2; `terms` are all it has."""
    length = 1 - _LENGTH_SHARE + _LENGTH_SHARE * len(terms) / _USUAL_TERMS
    return {
        term: count * (_SATURATION + 1) / (count + _SATURATION * length)
        for term, count in Counter(terms).items()
    }


def rarest(frequencies: Mapping[str, float], count: int = RAREST_TERMS) -> list[str]:
    """Return the rarest of a question's terms; those that are equally rare in alphabetical order.

    Args:
        frequencies: Inverse document frequency of each term.
        count: How many at most.
    """
    return sorted(frequencies, key=lambda term: (-frequencies[term], term))[:count]


def selective(terms: Sequence[str], known: KnownTerms) -> list[str]:
    """Return the first of the terms, as many as `SELECTIVE_CHUNKS` chunks hold; never none of them.

    Where so many chunks hold the rarer words of a question, one that holds only its commoner ones
    does not come among the best.

    Args:
        terms: The rarest first.
        known: How many chunks hold each.
    """
    held = accumulate(known.holding[term] for term in terms)
    enough = [term for term, chunks in zip(terms, held, strict=True) if chunks <= SELECTIVE_CHUNKS]
    return enough or list(terms[:1])


def together(terms: Sequence[str], known: KnownTerms) -> list[str]:
    """Return the first of the terms, so many that few chunks hold all of them; [] as a rule.

    Only where more than `MOST_CHUNKS` hold the rarest one: a chunk is then sought by the words that
    it has in common with the question, as if they stood independently of each other.

    Args:
        terms: The rarest first.
        known: How many chunks hold each.
    """
    if not terms or known.holding[terms[0]] <= MOST_CHUNKS:
        return []
    shares = (known.holding[term] / known.total for term in terms)
    expected = accumulate(shares, mul, initial=float(known.total))
    needed = sum(chunks > SELECTIVE_CHUNKS for chunks in expected)
    return list(terms[:needed])


def lexical_score(weights: Mapping[str, float], frequencies: Mapping[str, float]) -> float:
    """Return the BM25 score of a chunk for a question; 0 where they share no term.

    Args:
        weights: Of the chunk's terms, from `term_weights`.
        frequencies: Inverse document frequency of each of the question's terms.
    """
    return math.fsum(
        frequency * weights[term] for term, frequency in frequencies.items() if term in weights
    )


def term_index(term: str) -> int:
    """Return the dimension of a term in sparse vectors: the same 32 bits for it everywhere.

    Two terms may share a dimension. That is harmful only where one is in the question and the other
    in a chunk without it: a chunk of 100 terms then gains a false match for one question term in
    43 million, and even then it only ranks higher than it should.
    """
    return int.from_bytes(blake2b(term.encode(), digest_size=4).digest())


def sparse_vector(weights: Iterable[tuple[str, float]]) -> tuple[list[int], list[float]]:
    """Return dimensions, ascending and none twice, and their values.

    Args:
        weights: Of terms, none twice: of a chunk, or a question's frequencies. Those of terms that
            share a dimension are added up.
    """
    values: dict[int, float] = {}
    for term, weight in weights:
        index = term_index(term)
        values[index] = values.get(index, 0.0) + weight
    indices = sorted(values)
    return indices, [values[index] for index in indices]
