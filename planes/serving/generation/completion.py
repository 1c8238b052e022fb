"""One streamed chat completion, read chunk by chunk."""

from typing import Any

import orjson
import structlog

from planes.serving.generation.thinking import ThinkingFilter
from planes.serving.generation.tokens import TokenCounter
from planes.shared.domain import FinishReason
from planes.shared.ports import Generated, Prompt

_log = structlog.get_logger(__name__)


class BrokenAnswer(RuntimeError):
    """The server ended the stream early, or sent what is no completion."""


class Completion:
    """Text, tokens and end of an answer; tokens never exceed what the prompt allows.

    Tokens are the server's where it tells them (`stream_options.include_usage`), else an estimate.
    """

    def __init__(self, prompt: Prompt, prompt_tokens: int, tokens: TokenCounter) -> None:
        """Start with the estimate of the prompt's tokens."""
        self._limits = (prompt.max_prompt_tokens, prompt.max_tokens)
        self._tokens = tokens
        self._thinking = ThinkingFilter()
        self._prompt_tokens = prompt_tokens
        self._completion_tokens = 0
        self._finish_reason: FinishReason | None = None
        self._is_counted_by_server = False
        self.has_started = False

    def read(self, data: str) -> Generated | None:
        """Return the piece that an event's data holds, or None.

        Raises:
            BrokenAnswer: The data is an error, or no chunk of a completion.
        """
        if data.strip() == "[DONE]":
            self._finish_reason = self._finish_reason or FinishReason.STOP
            return None
        chunk = _chunk(data)
        self._read_usage(chunk.get("usage"))
        choice: dict[str, Any] = next(iter(chunk.get("choices") or ()), {})
        if (reason := choice.get("finish_reason")) is not None:
            self._finish_reason = FinishReason.LENGTH if reason == "length" else FinishReason.STOP
        delta = choice.get("delta") or {}
        hidden = delta.get("reasoning_content") or delta.get("reasoning") or ""
        text = delta.get("content") or ""
        if not text and not hidden:
            return None
        self.has_started = True
        if not self._is_counted_by_server:
            self._completion_tokens += self._tokens.count(f"{hidden}{text}")
        return self._generated(self._thinking.feed(text))

    def finish(self) -> Generated:
        """Return the last piece, with the finish reason.

        Raises:
            BrokenAnswer: The stream ended before the answer did.
        """
        if self._finish_reason is None:
            raise BrokenAnswer("the stream ended without a finish reason")
        source = "server" if self._is_counted_by_server else "estimate"
        _log.info("completion", tokens_by=source, finish_reason=self._finish_reason)
        return self._generated(self._thinking.finish(), self._finish_reason)

    def _read_usage(self, usage: dict[str, Any] | None) -> None:
        if usage:
            self._prompt_tokens = int(usage.get("prompt_tokens") or self._prompt_tokens)
            self._completion_tokens = int(usage.get("completion_tokens") or 0)
            self._is_counted_by_server = True

    def _generated(self, text: str, finish_reason: FinishReason | None = None) -> Generated:
        most_prompt, most_completion = self._limits
        if self._prompt_tokens > most_prompt or self._completion_tokens > most_completion:
            _log.warning(
                "tokens above the limits are not charged",
                prompt_tokens=self._prompt_tokens,
                completion_tokens=self._completion_tokens,
            )
        return Generated(
            text,
            min(self._prompt_tokens, most_prompt),
            min(self._completion_tokens, most_completion),
            finish_reason,
        )


def _chunk(data: str) -> dict[str, Any]:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BrokenAnswer("a chunk is not JSON") from error
    if not isinstance(chunk, dict) or chunk.get("error"):
        raise BrokenAnswer("the server reports an error in the stream")
    return chunk
