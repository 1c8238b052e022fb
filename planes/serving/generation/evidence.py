"""Which sentences of the passages answer a question: scores, and the spans that are quoted.

A sentence is supported by meaning (cosine of its embedding with the question's) and by words (share
of the question's terms that it holds, weighted by their rarity among the sentences at hand). What
answers a question often stands in the next sentence, or in the one before, so a quote may hold two.
"""

import heapq
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from planes.serving.generation.reading import Reading, Statement
from planes.shared.analysis import terms
from planes.shared.domain import Passage

MIN_SUPPORT = 0.7
"""Of the best sentence, for a question to be answered; cosine plus share of words, 0 to 2."""

_MARGIN = 0.12  # below the best score, for a second quote
_NEIGHBOUR_MARGIN = 0.6
_PASSAGE_WEIGHT = 0.12
_MAX_QUOTES = 2
_ANY_COSINE = 0.3  # of a sentence that shares few words with the question and was not embedded


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of passage `number` (from 1), at `text[start:end]` of it.

    `support` is cosine plus share of words, at most 2; `score` adds how well its passage fits.
    """

    number: int
    start: int
    end: int
    words: float = 0.0
    support: float = 0.0
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Quote:
    """One span of passage `number`: a sentence, or two that follow each other; `best` answers."""

    number: int
    start: int
    end: int
    best: Sentence

    @property
    def alone(self) -> "Quote":
        """The best sentence without its neighbour."""
        return Quote(self.number, self.best.start, self.best.end, self.best)


def split(
    question: str, passages: Sequence[Passage], readings: Sequence[Reading]
) -> list[Sentence]:
    """Return the sentences of all passages, in order, without headings and labels.

    Each has its `words` and, as long as nobody has looked at its meaning, a guess at the rest.

    Args:
        question: Whose words count.
        passages: Where sentences are looked for.
        readings: Of the passages' chunks.
    """
    found = [
        (number, passage, statement)
        for number, (passage, reading) in enumerate(zip(passages, readings, strict=True), start=1)
        for statement in reading.statements
    ]
    held = [(passage.chunk.language, statement.terms) for _, passage, statement in found]
    return [
        _scored(number, statement, passage.score, words=words)
        for (number, passage, statement), words in zip(found, coverage(question, held), strict=True)
    ]


def _scored(number: int, statement: Statement, score: float, *, words: float) -> Sentence:
    support = words + _ANY_COSINE
    return Sentence(
        number, statement.start, statement.end, words, support, support + _PASSAGE_WEIGHT * score
    )


def scored(sentence: Sentence, cosine: float, passages: Sequence[Passage]) -> Sentence:
    """Return a sentence with the scores that its cosine with the question gives it."""
    support = sentence.words + cosine
    prior = _PASSAGE_WEIGHT * passages[sentence.number - 1].score
    return replace(sentence, support=support, score=support + prior)


def most_promising(sentences: Sequence[Sentence], count: int) -> list[int]:
    """Return which `count` sentences to look at for their meaning."""
    return heapq.nlargest(count, range(len(sentences)), key=lambda i: sentences[i].score)


def coverage(question: str, held: Sequence[tuple[str, frozenset[str]]]) -> list[float]:
    """Return for each sentence the share of the question's terms that it holds, 0 to 1.

    Terms weigh by their inverse document frequency over the sentences, so one that no sentence
    holds weighs most.

    Args:
        question: Whose terms are wanted.
        held: The language and the terms of each sentence.
    """
    wanted = {language: set(terms(question, language)) for language in {lang for lang, _ in held}}
    shared = [(language, wanted[language] & found) for language, found in held]
    counts = Counter(term for _, found in shared for term in found)
    weights = {
        term: math.log(1 + (len(held) - counts[term] + 0.5) / (counts[term] + 0.5))
        for term in set().union(*wanted.values())
    }
    totals = {language: sum(weights[term] for term in found) for language, found in wanted.items()}
    return [
        sum(weights[term] for term in found) / totals[language] if totals[language] else 0.0
        for language, found in shared
    ]


def best_quotes(
    sentences: Sequence[Sentence], passages: Sequence[Passage], *, min_support: float = MIN_SUPPORT
) -> list[Quote]:
    """Return at most two spans worth quoting, best first; none where nothing is supported.

    Args:
        sentences: Of `split`, in its order, scored.
        passages: Where they stand.
        min_support: Of the best sentence; lower answers more questions, and more of them wrongly.
    """
    ranked = sorted(range(len(sentences)), key=lambda i: (-sentences[i].score, i))
    if not ranked or sentences[ranked[0]].support < min_support:
        return []
    quotes: list[Quote] = []
    used: set[int] = set()
    said: set[str] = set()
    for i in ranked:
        text = _text(sentences[i], passages)
        if len(quotes) == _MAX_QUOTES:
            break
        if sentences[i].score < sentences[ranked[0]].score - _MARGIN:
            break
        if i in used or text in said:
            continue
        near = _neighbour(i, sentences, passages, used)
        used |= {i} if near is None else {i, near}
        said.add(text)
        quotes.append(_span(sentences[i], sentences[i if near is None else near]))
    return quotes


def _neighbour(
    i: int, sentences: Sequence[Sentence], passages: Sequence[Passage], used: set[int]
) -> int | None:
    """Return the better sentence next to number `i` in its paragraph, if it is any good."""
    near = [
        j
        for j in (i - 1, i + 1)
        if 0 <= j < len(sentences)
        and j not in used
        and sentences[j].score >= sentences[i].score - _NEIGHBOUR_MARGIN
        and _follow(sentences[min(i, j)], sentences[max(i, j)], passages)
    ]
    return max(near, key=lambda j: (sentences[j].score, j), default=None)


def _follow(first: Sentence, second: Sentence, passages: Sequence[Passage]) -> bool:
    if first.number != second.number:
        return False
    between = passages[first.number - 1].chunk.text[first.end : second.start]
    return not between.strip() and between.count("\n") < 2


def _span(one: Sentence, other: Sentence) -> Quote:
    return Quote(one.number, min(one.start, other.start), max(one.end, other.end), one)


def _text(sentence: Sentence, passages: Sequence[Passage]) -> str:
    return passages[sentence.number - 1].chunk.text[sentence.start : sentence.end]
