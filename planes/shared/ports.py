"""Every seam with two or more adapters, on one page."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from planes.shared.domain import ChatMode, FinishReason, Passage, Ranked
from planes.shared.wire import ChatTurn


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a generator answers: the question, its passages best first, the history.

    `question` is the user's message; `standalone` is the same, understandable without the history.
    """

    question: str
    standalone: str
    mode: ChatMode
    passages: Sequence[Passage]
    history: Sequence[ChatTurn]
    max_prompt_tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Generated:
    """A piece of an answer with the token counts so far; the last one has a finish reason.

    `text` may hold markers like `[1]`, which name passages by their place, from 1.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason | None = None


class Generator(Protocol):
    """Writes answers. Its pieces joined are the answer, at most `max_tokens` long."""

    model: str

    def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """Yield the answer piece by piece; closing the iterator stops the work.

        Raises:
            NoLanguageModel: The mode needs a language model and this is none.
            Unavailable: The model's server does not answer.
        """
        ...


class Reranker(Protocol):
    """Reads the best of a ranking together with the question, and orders them anew."""

    async def rerank(self, question: str, ranked: Sequence[Ranked]) -> list[Ranked]:
        """Return the same candidates, best first.

        Args:
            question: As it was searched for.
            ranked: The whole pool, best first; only its beginning is read.

        Raises:
            Unavailable: The model does not answer.
        """
        ...
