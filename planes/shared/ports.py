"""Every seam with two or more adapters, on one page."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from planes.shared.domain import ChatMode, FinishReason, Passage
from planes.shared.wire import ChatTurn


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a generator answers: the question, its passages best first, the history.

    `question` is the user's message; `standalone` is the same, understandable without the history.
    `wishes` are what the caller's application adds; the platform's own rules come first.
    """

    question: str
    standalone: str
    mode: ChatMode
    passages: Sequence[Passage]
    history: Sequence[ChatTurn]
    max_prompt_tokens: int
    max_tokens: int
    wishes: str = ""


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
