"""Which sentences of the passages answer a question: scores, and the spans that are quoted.

A sentence is supported by meaning (cosine of its embedding with the question's) and by words (share
of the question's terms that it holds, weighted by their rarity among the sentences at hand). What
answers a question often stands in the next sentence, or in the one before, so a quote may hold two.
"""

import heapq
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from planes.serving.sentences import sentence_spans
from planes.shared.analysis import terms
from planes.shared.domain import Passage

MIN_SUPPORT = 0.7
"""Of the best sentence, for a question to be answered; cosine plus share of words, 0 to 2."""

_MARGIN = 0.12  # below the best score, for a second quote
_NEIGHBOUR_MARGIN = 0.6
_PASSAGE_WEIGHT = 0.12
_MAX_QUOTES = 2
_ANY_COSINE = 0.3  # of a sentence that shares few words with the question and was not embedded
_HEADING = re.compile(r"#{1,6}\s")
_FULL_STOP = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)\]]*$")
_TITLE_WORDS = 4


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


def split(question: str, passages: Sequence[Passage]) -> list[Sentence]:
    """Return the sentences of all passages, in order, without headings and labels.

    Each has its `words` and, as long as nobody has looked at its meaning, a guess at the rest.
    """
    sentences = [
        Sentence(number, start, end)
        for number, passage in enumerate(passages, start=1)
        for start, end in sentence_spans(passage.chunk.text)
        if _says_something(passage.chunk.text[start:end])
    ]
    shares = coverage(question, sentences, passages)
    return [
        scored(replace(sentence, words=words), _ANY_COSINE, passages)
        for sentence, words in zip(sentences, shares, strict=True)
    ]


def scored(sentence: Sentence, cosine: float, passages: Sequence[Passage]) -> Sentence:
    """Return a sentence with the scores that its cosine with the question gives it."""
    support = sentence.words + cosine
    prior = _PASSAGE_WEIGHT * passages[sentence.number - 1].score
    return replace(sentence, support=support, score=support + prior)


def most_promising(sentences: Sequence[Sentence], count: int) -> list[int]:
    """Return which `count` sentences to look at for their meaning."""
    return heapq.nlargest(count, range(len(sentences)), key=lambda i: sentences[i].score)


def _says_something(text: str) -> bool:
    """Tell sentences, list items and table rows from headings and from labels of forms."""
    if _HEADING.match(text) or text.endswith(":"):
        return False
    return bool(_FULL_STOP.search(text)) or len(text.split()) > _TITLE_WORDS


def coverage(
    question: str, sentences: Sequence[Sentence], passages: Sequence[Passage]
) -> list[float]:
    """Return for each sentence the share of the question's terms that it holds, 0 to 1.

    Terms weigh by their inverse document frequency over the sentences, so one that no sentence
    holds weighs most.
    """
    chunks = [passages[sentence.number - 1].chunk for sentence in sentences]
    wanted = {language: set(terms(question, language)) for language in {c.language for c in chunks}}
    held = [
        wanted[chunk.language]
        & set(terms(chunk.text[sentence.start : sentence.end], chunk.language))
        for sentence, chunk in zip(sentences, chunks, strict=True)
    ]
    counts = Counter(term for found in held for term in found)

    def weight(found: set[str]) -> float:
        return sum(
            math.log(1 + (len(sentences) - counts[term] + 0.5) / (counts[term] + 0.5))
            for term in found
        )

    totals = {language: weight(found) for language, found in wanted.items()}
    return [
        weight(found) / totals[chunk.language] if totals[chunk.language] else 0.0
        for found, chunk in zip(held, chunks, strict=True)
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
