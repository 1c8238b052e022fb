"""Answers without a language model: the sentences of the passages that answer the question."""

import re
from collections.abc import AsyncGenerator, Sequence

from planes.serving.agent.prompts import DECLINED
from planes.serving.generation.evidence import (
    MIN_SUPPORT,
    Quote,
    best_quotes,
    most_promising,
    scored,
    split,
)
from planes.serving.generation.fitting import PromptRead
from planes.serving.generation.reading import PassageReader
from planes.serving.generation.tokens import TokenCounter
from planes.serving.retrieval.hybrid import EmbedOf
from planes.shared.domain import ChatMode, FinishReason, Passage
from planes.shared.errors import NoLanguageModel
from planes.shared.ports import Generated, Prompt

_MAX_EMBEDDED = 7  # more change no answer
_WORDS_A_PIECE = 12
_MARKER_LIKE = re.compile(r"\s*\[\d{1,3}\]")
_PIECE = re.compile(rf"(?:\S+\s*){{1,{_WORDS_A_PIECE}}}")

NO_LANGUAGE_MODEL = (
    "Open chat needs a language model, and this platform runs without one. Set "
    "SERVING_OPENAI_BASE_URL to an OpenAI-compatible server, or run `polyplane models pull` and "
    "set SERVING_GENERATOR=qwen."
)


class ExtractiveGenerator:
    """Quotes the one or two spans that answer best, or declines."""

    model = "extractive"

    def __init__(
        self,
        questions: EmbedOf,
        sentences: EmbedOf,
        tokens: TokenCounter,
        *,
        min_support: float = MIN_SUPPORT,
    ) -> None:
        """Store the parts.

        Args:
            questions: What embeds a tenant's questions.
            sentences: What embeds the sentences of a tenant's passages.
            tokens: Counts what an answer costs.
            min_support: As in `best_quotes`.
        """
        self._questions = questions
        self._sentences = sentences
        self._tokens = tokens
        self._reader = PassageReader(tokens)
        self._min_support = min_support

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """Yield the answer in pieces of some words; every quote ends with its marker.

        Prompt tokens are those of the question and of the passages considered.

        Raises:
            NoLanguageModel: The mode is not answered from documents.
            Unavailable: The embedder does not answer.
        """
        if prompt.mode is not ChatMode.RAG:
            raise NoLanguageModel(NO_LANGUAGE_MODEL)
        passages, prompt_tokens = self._considered(prompt)
        yield PromptRead("", prompt_tokens, 0, passages=len(passages))
        quotes = await self._choose(prompt, passages)
        text, finish_reason = self._within(quotes, passages, prompt.max_tokens)
        if not quotes:
            finish_reason = FinishReason.DECLINED
        pieces = list(_PIECE.finditer(text))
        counts = self._tokens.counts(text, [piece.end() for piece in pieces])
        for piece, tokens in zip(pieces, counts, strict=True):
            yield Generated(piece.group(), prompt_tokens, tokens)
        yield Generated("", prompt_tokens, counts[-1] if counts else 0, finish_reason)

    def _considered(self, prompt: Prompt) -> tuple[list[Passage], int]:
        """Return the passages that fit beside the question, and the tokens of both."""
        spent = min(self._tokens.count(prompt.question), prompt.max_prompt_tokens)
        passages: list[Passage] = []
        for passage in prompt.passages:
            cost = self._reader.read(passage.chunk).tokens
            if spent + cost > prompt.max_prompt_tokens:
                break
            spent += cost
            passages.append(passage)
        return passages, spent

    def _within(
        self, quotes: Sequence[Quote], passages: Sequence[Passage], max_tokens: int
    ) -> tuple[str, FinishReason]:
        """Return the answer, or as much of it in whole sentences as fits, or its beginning.

        A beginning has no marker, so it is not cited.
        """
        whole = compose(quotes, passages)
        shorter = [quotes[:1], [quote.alone for quote in quotes[:1]]]
        for text in (whole, *(compose(some, passages) for some in shorter)):
            if self._tokens.count(text) <= max_tokens:
                return text, FinishReason.STOP if text == whole else FinishReason.LENGTH
        return self._tokens.cut(text, max_tokens), FinishReason.LENGTH

    async def _choose(self, prompt: Prompt, passages: Sequence[Passage]) -> list[Quote]:
        """Score all sentences by words, the most promising ones by meaning too.

        Of a follow-up only its own words count, for the words that it carries on from the question
        before are those of the answer before; its meaning needs both.
        """
        readings = [self._reader.read(passage.chunk) for passage in passages]
        sentences = split(prompt.question, passages, readings)
        promising = most_promising(sentences, _MAX_EMBEDDED)
        if not promising:
            return []
        spans = [sentences[i] for i in promising]
        texts = [passages[s.number - 1].chunk.text[s.start : s.end] for s in spans]
        tenant_id = passages[0].chunk.tenant_id
        (question,) = await self._questions(tenant_id)([prompt.standalone])
        vectors = await self._sentences(tenant_id)(texts)
        for i, cosine in zip(promising, (vectors @ question).tolist(), strict=True):
            sentences[i] = scored(sentences[i], cosine, passages)
        return best_quotes(sentences, passages, min_support=self._min_support)


def compose(quotes: Sequence[Quote], passages: Sequence[Passage]) -> str:
    """Return the answer: each quote on one line's text, then its marker; or the refusal."""
    if not quotes:
        return DECLINED
    return " ".join(
        f"{_readable(passages[quote.number - 1].chunk.text[quote.start : quote.end])} "
        f"[{quote.number}]"
        for quote in quotes
    )


def _readable(text: str) -> str:
    """Drop line breaks, and brackets that would read as this answer's own markers."""
    return " ".join(_MARKER_LIKE.sub("", text).split())
