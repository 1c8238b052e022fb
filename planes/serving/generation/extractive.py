"""Answers without a language model: the sentences of the passages that answer the question.

A sentence is supported by meaning (cosine of its embedding with the question's) and by words (share
of the question's terms that it holds, weighted by their rarity among the sentences at hand). The
thresholds were tuned on SQuAD 2.0 questions: 93 of 100 answerable ones are answered, and as
many of those about absent subjects declined.
"""

import heapq
import math
import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, replace

from planes.serving.agent.prompts import DECLINED
from planes.serving.generation.fitting import PromptRead
from planes.serving.generation.tokens import TokenCounter
from planes.serving.retrieval.hybrid import Embed
from planes.serving.sentences import sentence_spans
from planes.shared.analysis import terms
from planes.shared.domain import ChatMode, FinishReason, Passage
from planes.shared.errors import NoLanguageModel
from planes.shared.ports import Generated, Prompt

_MIN_SUPPORT = 0.82
_MARGIN = 0.1
_PASSAGE_WEIGHT = 0.12
_MAX_QUOTED = 3
_MAX_EMBEDDED = 7  # with the question one batch of the embedder; more change no answer
_WORDS_A_PIECE = 12
_MARKER_LIKE = re.compile(r"\s*\[\d{1,3}\]")
_HEADING = re.compile(r"#{1,6}\s")
_FULL_STOP = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)\]]*$")
_TITLE_WORDS = 4
_PIECE = re.compile(rf"(?:\S+\s*){{1,{_WORDS_A_PIECE}}}")

NO_LANGUAGE_MODEL = (
    "Open chat needs a language model, and this platform runs without one. Set "
    "SERVING_OPENAI_BASE_URL to an OpenAI-compatible server, or run `polyplane models pull` and "
    "set SERVING_GENERATOR=qwen."
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of passage `number` (from 1).

    `support` is cosine plus share of words, at most 2; `score` adds how well its passage fits.
    """

    number: int
    start: int
    text: str
    support: float = 0.0
    score: float = 0.0


class ExtractiveGenerator:
    """Quotes the one to three sentences that answer best, or declines."""

    model = "extractive"

    def __init__(self, embed: Embed, tokens: TokenCounter) -> None:
        """Store the embedder, and the tokenizer that counts what an answer costs."""
        self._embed = embed
        self._tokens = tokens

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """Yield the answer in pieces of some words; every sentence ends with its marker.

        Prompt tokens are those of the question and of the passages considered.

        Raises:
            NoLanguageModel: The mode is not answered from documents.
            Unavailable: The embedder does not answer.
        """
        if prompt.mode is not ChatMode.RAG:
            raise NoLanguageModel(NO_LANGUAGE_MODEL)
        passages, prompt_tokens = self._considered(prompt)
        yield PromptRead("", prompt_tokens, 0, passages=len(passages))
        chosen = await self._choose(prompt, passages)
        text, finish_reason = self._within(chosen, prompt.max_tokens)
        if not chosen:
            finish_reason = FinishReason.DECLINED
        for piece in _PIECE.finditer(text):
            yield Generated(piece.group(), prompt_tokens, self._tokens.count(text[: piece.end()]))
        yield Generated("", prompt_tokens, self._tokens.count(text), finish_reason)

    def _considered(self, prompt: Prompt) -> tuple[list[Passage], int]:
        """Return the passages that fit beside the question, and the tokens of both."""
        spent = min(self._tokens.count(prompt.question), prompt.max_prompt_tokens)
        passages: list[Passage] = []
        for passage in prompt.passages:
            cost = self._tokens.count(passage.chunk.text)
            if spent + cost > prompt.max_prompt_tokens:
                break
            spent += cost
            passages.append(passage)
        return passages, spent

    def _within(self, chosen: Sequence[Sentence], max_tokens: int) -> tuple[str, FinishReason]:
        """Return the answer, or as many of its whole sentences as fit, or the first's beginning.

        A beginning has no marker, so it is not cited.
        """
        for count in range(len(chosen), 0, -1):
            text = compose(chosen[:count])
            if self._tokens.count(text) <= max_tokens:
                is_whole = count == len(chosen)
                return text, FinishReason.STOP if is_whole else FinishReason.LENGTH
        text = compose(chosen[:1])
        cut = self._tokens.cut(text, max_tokens)
        return cut, FinishReason.STOP if cut == text else FinishReason.LENGTH

    async def _choose(self, prompt: Prompt, passages: Sequence[Passage]) -> list[Sentence]:
        """Score all sentences by words, the most promising ones by meaning too.

        Of a follow-up only its own words count, for the words that it carries on from the question
        before are those of the answer before; its meaning needs both.
        """
        sentences = split(passages)
        words = coverage(prompt.question, sentences, passages)
        priors = [_PASSAGE_WEIGHT * passages[s.number - 1].score for s in sentences]
        promising = heapq.nlargest(
            _MAX_EMBEDDED, range(len(sentences)), key=lambda i: words[i] + priors[i]
        )
        if not promising:
            return []
        texts = [prompt.standalone, *(sentences[i].text for i in promising)]
        vectors = await self._embed(texts)
        cosines = (vectors[1:] @ vectors[0]).tolist()
        return best(
            replace(sentences[i], support=words[i] + cosine, score=words[i] + cosine + priors[i])
            for i, cosine in zip(promising, cosines, strict=True)
        )


def split(passages: Sequence[Passage]) -> list[Sentence]:
    """Return the sentences of all passages, in order, without headings and labels."""
    return [
        Sentence(number, start, passage.chunk.text[start:end])
        for number, passage in enumerate(passages, start=1)
        for start, end in sentence_spans(passage.chunk.text)
        if _says_something(passage.chunk.text[start:end])
    ]


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
    languages = [passages[sentence.number - 1].chunk.language for sentence in sentences]
    wanted = {language: set(terms(question, language)) for language in set(languages)}
    held = [
        wanted[language] & set(terms(sentence.text, language))
        for sentence, language in zip(sentences, languages, strict=True)
    ]
    counts = Counter(term for found in held for term in found)

    def weight(found: set[str]) -> float:
        return sum(
            math.log(1 + (len(sentences) - counts[term] + 0.5) / (counts[term] + 0.5))
            for term in found
        )

    totals = {language: weight(found) for language, found in wanted.items()}
    return [
        weight(found) / totals[language] if totals[language] else 0.0
        for found, language in zip(held, languages, strict=True)
    ]


def best(sentences: Iterable[Sentence]) -> list[Sentence]:
    """Return the sentences worth quoting: best passage first, each passage's in reading order."""
    supported = [sentence for sentence in sentences if sentence.support >= _MIN_SUPPORT]
    ranked = sorted(supported, key=lambda s: (-s.score, s.number, s.start))
    chosen: list[Sentence] = []
    for sentence in ranked:
        is_near = sentence.score >= ranked[0].score - _MARGIN
        if is_near and all(sentence.text != other.text for other in chosen):
            chosen.append(sentence)
    chosen = chosen[:_MAX_QUOTED]
    order = list(dict.fromkeys(sentence.number for sentence in chosen))
    return sorted(chosen, key=lambda s: (order.index(s.number), s.start))


def compose(sentences: Sequence[Sentence]) -> str:
    """Return the answer: each sentence on one line's text, then its marker; or the refusal."""
    if not sentences:
        return DECLINED
    return " ".join(f"{_readable(s.text)} [{s.number}]" for s in sentences)


def _readable(text: str) -> str:
    """Drop line breaks, and brackets that would read as this answer's own markers."""
    return " ".join(_MARKER_LIKE.sub("", text).split())
