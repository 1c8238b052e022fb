"""A prompt into the tokens that were paid for, and what became of its passages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from planes.serving.agent.prompts import Message, chat_messages
from planes.shared.domain import ChatMode, Passage
from planes.shared.errors import InvalidInput
from planes.shared.ports import Generated, Prompt
from planes.shared.wire import ChatTurn


@dataclass(frozen=True, slots=True)
class Fitted:
    """The messages that fit, how many tokens they are, and how many passages they hold."""

    messages: list[Message]
    prompt_tokens: int
    passages: int


@dataclass(frozen=True, slots=True)
class PromptRead(Generated):
    """An answer's first piece, without text: only the first `passages` of the prompt were read."""

    passages: int = 0


def fit(prompt: Prompt, count: Callable[[list[Message]], int]) -> Fitted:
    """Return the messages of `prompt`, at most `max_prompt_tokens` long.

    The oldest turns of the history go first, then what stands beside passages, then the worst
    passages, then the oldest calls of tools with their results; numbers of passages stay.

    Args:
        prompt: What is to be answered.
        count: Returns the tokens of messages, the chat template's own included.

    Raises:
        InvalidInput: The question alone is longer.
    """
    history: Sequence[ChatTurn] = prompt.history
    passages: Sequence[Passage] = prompt.passages
    is_rag = prompt.mode is ChatMode.RAG
    while True:
        messages = chat_messages(prompt, passages=passages, history=history)
        tokens = count(messages)
        if tokens <= prompt.max_prompt_tokens:
            return Fitted(messages, tokens, len(passages) if is_rag else 0)
        if history:
            history = history[1:]
        elif any(passage.beside for passage in passages):
            passages = [replace(passage, beside=()) for passage in passages]
        elif passages:
            passages = passages[:-1]
        elif prompt.exchanges:
            prompt = replace(prompt, exchanges=prompt.exchanges[1:])
        else:
            raise InvalidInput(
                f"The question is too long for this model: {tokens} tokens with its instructions, "
                f"of {prompt.max_prompt_tokens} allowed."
            )
